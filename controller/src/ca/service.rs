//! `istio.v1.auth.IstioCertificateService`: who shows a token of a service account gets a certificate for it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mesh_core::identity::SpiffeId;
use mesh_core::wire::{CertificateRequest, CertificateResponse};
use tonic::{Request, Response, Status};

use super::{Counters, Current, Refusal};
use crate::kube::KeeperHandle;
use crate::push::Identity;

/// Signs for those who are known.
#[derive(Clone)]
pub struct Certificates {
    authority: Current,
    keeper: KeeperHandle,
    counters: Counters,
}

impl Certificates {
    pub fn new(authority: impl Into<Current>, keeper: KeeperHandle, counters: Counters) -> Certificates {
        let authority = authority.into();
        counters.root_expires(authority.get().root_expires());
        Certificates { authority, keeper, counters }
    }

    /// Somebody asks whom nobody knows.
    pub(crate) fn refuse(&self) {
        self.counters.requests.inc();
        self.counters.unauthenticated.inc();
    }

    /// For one whose token is good.
    pub(crate) fn of(&self, identity: Identity) -> CreateCertificate {
        CreateCertificate { certificates: self.clone(), identity }
    }

    async fn create(&self, identity: &Identity, request: &CertificateRequest) -> Result<Vec<String>, Status> {
        self.counters.requests.inc();
        let domain = self.keeper.trust_domain().await.ok_or_else(|| Status::unavailable("the controller stops"))?;
        let id = SpiffeId::new(&domain, &identity.namespace, &identity.service_account);
        let id = id.map_err(|error| Status::failed_precondition(format!("trust domain `{domain}`: {error}")))?;
        let lifetime = u64::try_from(request.validity_duration).ok().filter(|seconds| *seconds > 0);
        let signed = self.authority.get().sign(&request.csr, &id, lifetime.map(Duration::from_secs));
        let chain = signed.map_err(|refusal| {
            tracing::warn!(%id, pod = identity.pod, "no certificate: {refusal}");
            match refusal {
                Refusal::Large | Refusal::Malformed(_) => {
                    self.counters.malformed.inc();
                    Status::invalid_argument(refusal.to_string())
                }
                Refusal::Failed(_) => {
                    self.counters.failed.inc();
                    Status::internal("no certificate can be made now")
                }
            }
        })?;
        self.counters.issued.inc();
        tracing::debug!(%id, pod = identity.pod, "certificate");
        Ok(chain)
    }
}

/// One call.
pub(crate) struct CreateCertificate {
    certificates: Certificates,
    identity: Identity,
}

impl tonic::server::UnaryService<CertificateRequest> for CreateCertificate {
    type Response = CertificateResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<CertificateResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<CertificateRequest>) -> Self::Future {
        let (certificates, identity) = (self.certificates.clone(), self.identity.clone());
        Box::pin(async move {
            let cert_chain = certificates.create(&identity, request.get_ref()).await?;
            Ok(Response::new(CertificateResponse { cert_chain }))
        })
    }
}

//! Certificates for this workload from the CA of the controller: Istio's certificate service, with the token that says who
//! we are. A connection of its own each time: it is twice a day.

use async_trait::async_trait;
use mesh_core::wire::{CREATE_CERTIFICATE, CertificateRequest, CertificateResponse};

use super::ControllerOptions;
use super::controller::authorization;
use super::dial::connect;
use super::trouble::Trouble;
use crate::tls::renewal::{Refusal, Sign};

/// The controller as a CA.
pub struct ControllerCa(pub ControllerOptions);

#[async_trait]
impl Sign for ControllerCa {
    async fn sign(&self, csr: String) -> Result<Vec<String>, Refusal> {
        self.ask(csr).await.map_err(|trouble| Refusal {
            reason: trouble.reason(),
            help: trouble.help(),
            message: trouble.to_string(),
        })
    }
}

impl ControllerCa {
    async fn ask(&self, csr: String) -> Result<Vec<String>, Trouble> {
        let authorization = authorization(&self.0.token).await?;
        let channel = connect(&self.0).await?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| Trouble::Broken(error.to_string()))?;
        // As long as the CA gives it.
        let mut request = tonic::Request::new(CertificateRequest { csr, validity_duration: 0 });
        request.metadata_mut().insert("authorization", authorization);
        let codec = tonic_prost::ProstCodec::<CertificateRequest, CertificateResponse>::default();
        let path = http::uri::PathAndQuery::from_static(CREATE_CERTIFICATE);
        let response = grpc.unary(request, path, codec).await?;
        Ok(response.into_inner().cert_chain)
    }
}

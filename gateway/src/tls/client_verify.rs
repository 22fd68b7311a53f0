//! Verifies the clients of a server that has CAs of its own. Where a certificate needs to be no more than signed by one of them,
//! that is WebPKI's to do alone.

use std::sync::Arc;

use mesh_core::certificate::ClientTrust;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, Error};

use super::provider::proves_key;

/// See the module.
pub(super) fn verifier(trust: &Arc<ClientTrust>) -> Arc<dyn ClientCertVerifier> {
    match trust.chains().filter(|_| !trust.asks_more()) {
        Some(chains) => Arc::clone(chains),
        None => Arc::new(Verifier(Arc::clone(trust))),
    }
}

#[derive(Debug)]
struct Verifier(Arc<ClientTrust>);

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.0.demand().optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.chains().map(|chains| chains.root_hint_subjects()).unwrap_or_default()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    proves_key!();
}

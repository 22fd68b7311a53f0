//! Verifies the clients of a server that has CAs of its own. Where a certificate needs to be no more than signed by one of them,
//! that is WebPKI's to do alone.

use std::sync::Arc;

use mesh_core::certificate::ClientTrust;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::provider::provider;

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

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

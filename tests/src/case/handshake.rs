//! What becomes of a handshake by the tables alone.

use std::sync::Arc;

use mesh_core::certificate::{AuthorityPem, ClientTrust, authorities_of};
use mesh_core::model::{AuthoritySource, CertificateSource, ResourceSet, TlsTermination};
use mesh_core::testing;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::certs;

/// Whether a server of this set has a certificate, and takes that of its client.
pub fn succeeds(set: &ResourceSet, server: &TlsTermination, client: &testing::Tls) -> bool {
    let is_there = |source: &CertificateSource| match source {
        CertificateSource::Secret(key) | CertificateSource::Issued { secret: key, .. } => {
            set.secrets.get(key).is_some_and(|secret| !secret.certificate_pem.is_empty())
        }
        CertificateSource::Files { .. } => true,
        // Nobody orders anything here.
        CertificateSource::Ordered(_) => false,
    };
    server.certificates.iter().any(is_there) && is_let_in(set, server, client)
}

fn is_let_in(set: &ResourceSet, server: &TlsTermination, client: &testing::Tls) -> bool {
    let Some(demand) = &server.clients else { return true };
    let pem = match &demand.authorities {
        Some(AuthoritySource::Secret(key)) => set.secrets.get(key).map(|secret| authorities_of(secret)),
        None if demand.unverified => Some(AuthorityPem::default()),
        Some(AuthoritySource::Files { .. }) | None => None,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = pem.and_then(|pem| ClientTrust::load(demand, &pem, None, &provider).ok());
    let Some(trust) = trust else { return false };
    let Some(shown) = &client.client else { return demand.optional };
    let Ok(shown) = certs::client(shown) else { return false };
    let shown = CertificateDer::from_pem_slice(shown.certificate_pem.as_bytes());
    shown.is_ok_and(|shown| trust.verify(&shown, &[], UnixTime::now()).is_ok())
}

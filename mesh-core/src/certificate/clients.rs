//! Whose client certificates a server believes: CAs and revocation lists, read from PEM, and what else a certificate must be.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, SupportedCipherSuite};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertificateInfo, address, chain, fingerprint_of};
use crate::model::ClientDemand;

/// What a secret or files hold.
#[derive(Clone, Debug, Default)]
pub struct AuthorityPem {
    pub certificates: Vec<u8>,
    /// Empty: nobody is revoked.
    pub revoked: Vec<u8>,
}

/// Ready to verify.
pub struct ClientTrust {
    demand: Arc<ClientDemand>,
    /// None: everybody is let in.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
    /// Of the PEM that it was made from.
    fingerprint: u64,
    pub authorities: Vec<CertificateInfo>,
}

/// Why a client is not let in whose certificate comes from a CA that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate has none of the names that are asked for")]
    OtherName,
    #[error("neither the certificate nor its key has a hash that is asked for")]
    OtherHash,
}

/// Why there is no verifying with it.
const NO_ROOT: &str = "no CA certificate found in PEM form";

impl ClientTrust {
    /// `before` again if nothing changed. The error is for users: what is wrong, in words.
    pub fn load(
        demand: &Arc<ClientDemand>,
        pem: &AuthorityPem,
        before: Option<&Arc<ClientTrust>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<ClientTrust>, String> {
        let fingerprint = fingerprint_of(&(&pem.certificates, &pem.revoked));
        if let Some(before) = before
            && before.fingerprint == fingerprint
            && before.demand == *demand
        {
            return Ok(Arc::clone(before));
        }
        let (chains, authorities) =
            if demand.unverified { (None, Vec::new()) } else { verifier(demand, pem, provider)? };
        let (demand, provider) = (Arc::clone(demand), Arc::clone(provider));
        Ok(Arc::new(ClientTrust { demand, chains, provider, fingerprint, authorities }))
    }

    #[must_use]
    pub fn demand(&self) -> &Arc<ClientDemand> {
        &self.demand
    }

    /// That of WebPKI. None: everybody is let in.
    #[must_use]
    pub fn chains(&self) -> Option<&Arc<dyn ClientCertVerifier>> {
        self.chains.as_ref()
    }

    /// Whether more is asked for than that a CA signed it.
    #[must_use]
    pub fn asks_more(&self) -> bool {
        let ClientDemand { names, certificate_hashes, key_hashes, .. } = &*self.demand;
        !(names.is_empty() && certificate_hashes.is_empty() && key_hashes.is_empty())
    }

    /// All of it, but for the proof that the client has the key.
    pub fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some(chains) = &self.chains else { return Ok(()) };
        chains.verify_client_cert(certificate, intermediates, now)?;
        self.check(certificate).map_err(|error| {
            let error = rustls::OtherError(Arc::new(error));
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(error))
        })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), ClientError> {
        if !self.asks_more() {
            return Ok(());
        }
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| ClientError::Unreadable)?;
        let ClientDemand { names, certificate_hashes, key_hashes, .. } = &*self.demand;
        if !(certificate_hashes.is_empty() && key_hashes.is_empty()) {
            let is_one = certificate_hashes.contains(&self.hash(certificate));
            if !is_one && !key_hashes.contains(&self.hash(parsed.public_key().raw)) {
                return Err(ClientError::OtherHash);
            }
        }
        let own = parsed.subject_alternative_name().map_err(|_| ClientError::Unreadable)?;
        let mut own = own.iter().flat_map(|own| &own.value.general_names);
        if names.is_empty() || own.any(|own| names.iter().any(|name| is(own, name))) {
            Ok(())
        } else {
            Err(ClientError::OtherName)
        }
    }

    /// SHA-256, hexadecimal. Without one nothing fits.
    fn hash(&self, bytes: &[u8]) -> String {
        let suites = self.provider.cipher_suites.iter();
        let mut hashes = suites.filter_map(SupportedCipherSuite::tls13).map(|suite| suite.common.hash_provider);
        let sha256 = hashes.find(|hash| hash.algorithm() == rustls::crypto::hash::HashAlgorithm::SHA256);
        let hash = sha256.map(|sha256| sha256.hash(bytes));
        hash.iter().flat_map(|hash| hash.as_ref()).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust").field("demand", &self.demand).finish_non_exhaustive()
    }
}

type Verifier = (Option<Arc<dyn ClientCertVerifier>>, Vec<CertificateInfo>);

/// All of a chain is looked up in the revocation lists, and who is in none of them is not believed, as with Envoy.
fn verifier(demand: &ClientDemand, pem: &AuthorityPem, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    let certificates = chain(&pem.certificates)
        .map_err(|error| if error.starts_with("no certificate") { NO_ROOT.to_owned() } else { error })?;
    let mut roots = RootCertStore::empty();
    let mut authorities = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        authorities.push(super::describe(std::slice::from_ref(&certificate))?);
        roots.add(certificate).map_err(|error| format!("a CA certificate cannot be used: {error}"))?;
    }
    let revoked: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&pem.revoked)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the revocation list is not valid PEM: {error}"))?;
    if revoked.is_empty() && !pem.revoked.is_empty() {
        return Err("no revocation list found in PEM form".to_owned());
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !revoked.is_empty() {
        builder = builder.with_crls(revoked).enforce_revocation_expiration();
    }
    if demand.optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| format!("the revocation list cannot be used: {error}"))?;
    Ok((Some(verifier), authorities))
}

/// A name of a certificate may stand for all with one more label, as with Envoy.
fn is(own: &GeneralName<'_>, name: &str) -> bool {
    match own {
        GeneralName::DNSName(own) => {
            let below = own.strip_prefix("*.").zip(name.split_once('.'));
            own.eq_ignore_ascii_case(name) || below.is_some_and(|(own, (_, name))| own.eq_ignore_ascii_case(name))
        }
        GeneralName::URI(own) | GeneralName::RFC822Name(own) => *own == name,
        GeneralName::IPAddress(bytes) => address(bytes).is_some_and(|own| name.parse() == Ok(own)),
        _ => false,
    }
}

//! Certificates: chains with their keys, and the CAs that clients are verified with, read from PEM, checked, described; and what is
//! wrong with those of a set. Gateways serve them, the controller and `meshctl` only look. It must not know files, clocks or handshakes.

mod checks;
mod clients;

pub use checks::{Origin, authorities_of, check_hosts, check_secrets, demands, pem_of, servers};
pub use clients::{AuthorityPem, ClientError, ClientTrust};

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::HostPattern;

const DAY: i64 = 24 * 60 * 60;

/// What a secret or a pair of files holds. It has no `Debug`: one of them is a private key.
pub struct Pem {
    pub certificate: Vec<u8>,
    pub private_key: Vec<u8>,
}

/// Ready to sign.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// Of the PEM that it was made from, keyed at random per process: tells whether an update changes anything.
    fingerprint: u64,
    pub info: CertificateInfo,
}

/// What dumps say of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CertificateInfo {
    pub subject: String,
    pub issuer: String,
    /// Names and addresses that it is valid for.
    pub san: Vec<String>,
    /// Hexadecimal, bytes separated by colons.
    pub serial: String,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// `ECDSA`, `RSA`, `Ed25519`
    pub key_type: &'static str,
}

impl Certificate {
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

impl CertificateInfo {
    fn new(leaf: &X509Certificate<'_>, key_type: &'static str) -> Self {
        let san = leaf.subject_alternative_name().ok().flatten();
        Self {
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            san: san.into_iter().flat_map(|san| &san.value.general_names).map(name).collect(),
            serial: leaf.raw_serial_as_string(),
            not_before: leaf.validity().not_before.timestamp(),
            not_after: leaf.validity().not_after.timestamp(),
            key_type,
        }
    }

    /// What is wrong with the time for which it is valid, if anything.
    pub fn doubt(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok())?;
        let left = self.not_after - now;
        // Certificates that live for a day are renewed within the day: a week's warning would always be on.
        let soon = (7 * DAY).min((self.not_after - self.not_before) / 10);
        if left < 0 {
            Some(format!("expired {} ago", span(-left)))
        } else if now < self.not_before {
            Some(format!("becomes valid in {}", span(self.not_before - now)))
        } else if left < soon {
            Some(format!("expires in {}", span(left)))
        } else {
            None
        }
    }

    /// Whether clients that connect to this host accept it (RFC 6125: a wildcard stands for one label). `*` says nothing
    /// of the names that clients will use.
    pub fn covers(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Any => true,
            HostPattern::Suffix(suffix) => {
                let below =
                    |name: &String| name.strip_prefix('*').is_some_and(|name| name.eq_ignore_ascii_case(suffix));
                self.san.iter().any(below)
            }
            HostPattern::Exact(host) => self.covers_name(host),
        }
    }

    /// The same for one name.
    pub fn covers_name(&self, host: &str) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        self.san.iter().any(|name| {
            same(name, host)
                || matches!((name.strip_prefix("*."), host.split_once('.')), (Some(name), Some((_, host))) if same(name, host))
        })
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / DAY),
    }
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => address(bytes).map_or_else(|| "?".to_owned(), |address| address.to_string()),
        other => other.to_string(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

/// `before` again if the PEM is the same. The error is for users: what is wrong, in words.
pub fn load(
    pem: &Pem,
    before: Option<&Arc<Certificate>>,
    provider: &CryptoProvider,
) -> Result<Arc<Certificate>, String> {
    let fingerprint = fingerprint(pem);
    if let Some(before) = before
        && before.fingerprint == fingerprint
    {
        return Ok(Arc::clone(before));
    }
    let chain = chain(&pem.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem.private_key).map_err(|error| match error {
        pem::Error::NoItemsFound => "no private key found in PEM form (PKCS#8, SEC1 or PKCS#1)".to_owned(),
        error => format!("the private key is not valid PEM: {error}"),
    })?;
    // Before the key: what is wrong with the certificate would else be reported as a key that does not fit.
    let mut info = describe(&chain)?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the private key does not belong to the certificate".to_owned(),
        error => format!("the private key cannot be used: {error}"),
    })?;
    info.key_type = key_type(&key);
    Ok(Arc::new(Certificate { key: Arc::new(key), fingerprint, info }))
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate is not valid PEM: {error}"))?;
    if chain.is_empty() { Err("no certificate found in PEM form".to_owned()) } else { Ok(chain) }
}

/// What dumps say of the first one. The error is for users.
pub fn describe(chain: &[CertificateDer<'_>]) -> Result<CertificateInfo, String> {
    let leaf = chain.first().map(|leaf| &**leaf).unwrap_or_default();
    match X509Certificate::from_der(leaf) {
        Ok((_, leaf)) => Ok(CertificateInfo::new(&leaf, "?")),
        Err(error) => Err(format!("the certificate is not valid X.509: {error}")),
    }
}

fn key_type(key: &CertifiedKey) -> &'static str {
    match key.key.algorithm() {
        SignatureAlgorithm::RSA => "RSA",
        SignatureAlgorithm::ECDSA => "ECDSA",
        SignatureAlgorithm::ED25519 => "Ed25519",
        _ => "?",
    }
}

fn fingerprint(pem: &Pem) -> u64 {
    fingerprint_of(&(&pem.certificate, &pem.private_key))
}

/// The same for the same in this process.
fn fingerprint_of(of: &impl Hash) -> u64 {
    static RANDOM: OnceLock<RandomState> = OnceLock::new();
    RANDOM.get_or_init(RandomState::new).hash_one(of)
}

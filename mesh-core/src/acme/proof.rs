//! Whether a certificate that came may take the place of the one that serves.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;

use super::Lifetime;
use crate::certificate::{Certificate, CertificateInfo, Pem, load};

/// The CA's clock may be ahead of this one's.
const AHEAD: Duration = Duration::from_secs(3600);

/// Reads it, and looks whether key, name and time are right. The error says what is wrong, in words.
pub fn proven(pem: &Pem, name: &str, now: SystemTime, provider: &CryptoProvider) -> Result<Arc<Certificate>, String> {
    let certificate = load(pem, None, provider)?;
    let info = &certificate.info;
    if !info.covers_name(name) {
        return Err(format!("the certificate is for {}, not for {name}", info.san.join(", ")));
    }
    let lifetime = lifetime(info);
    if lifetime.not_after <= now {
        return Err("the certificate has ended already".to_owned());
    }
    if lifetime.not_before > now + AHEAD {
        return Err("the certificate is not valid yet; is the clock of this machine right?".to_owned());
    }
    Ok(certificate)
}

/// From when to when it is valid.
#[must_use]
pub fn lifetime(info: &CertificateInfo) -> Lifetime {
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Lifetime { not_before: at(info.not_before), not_after: at(info.not_after) }
}

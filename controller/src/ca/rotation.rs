//! A new root, without anybody who does not believe somebody: first it is announced beside the old one, which still signs; when
//! all have heard of it, it signs; when nothing that the old one signed is left, that is forgotten. Pure: what the Secret of the
//! CA that the controller made says at a moment, and what it says next.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authority::{Authority, CERTIFICATE, KEY, ROOT};

/// Annotation of the Secret that asks for a new root, whatever its value is.
pub const ROTATE: &str = "meshgate.io/rotate-root";
/// How long each of the two steps lasts, if nothing else is said: so long a workload's certificate lasts, by which it hears of
/// roots, and an hour.
pub const OVERLAP: Duration = Duration::from_secs(25 * 3600);
/// The root that signs next.
const NEXT_CERTIFICATE: &str = "next-cert.pem";
const NEXT_KEY: &str = "next-key.pem";
/// When the present step began, in seconds since 1970.
const SINCE: &str = "rotation-since";
/// A root is replaced when so much of its life is left, in hundredths; as Istio's.
const LEFT: i64 = 20;

/// A change of the Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub secret: Secret,
    /// For the log.
    pub told: &'static str,
}

/// What the Secret is to say next; none: it is as it should be. `now` in seconds since 1970.
pub fn step(secret: &Secret, now: i64, overlap: Duration) -> anyhow::Result<Option<Step>> {
    let Some(since) = text(secret, SINCE)? else {
        let asked = secret.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ROTATE));
        let begins = asked || is_old(&needed(secret, CERTIFICATE)?, now)?;
        return if begins { announce(secret, now).map(Some) } else { Ok(None) };
    };
    let since: i64 = since.trim().parse().with_context(|| format!("`{SINCE}` is no number of seconds"))?;
    // A clock that was wrong makes it later, never earlier.
    let waited = u64::try_from(now.saturating_sub(since)).unwrap_or_default();
    if waited < overlap.as_secs() {
        return Ok(None);
    }
    if text(secret, NEXT_CERTIFICATE)?.is_some() { switch(secret, now).map(Some) } else { Ok(Some(forget(secret))) }
}

/// The new root is believed, and signs nothing.
fn announce(secret: &Secret, now: i64) -> anyhow::Result<Step> {
    let next = Authority::generate()?;
    let mut secret = secret.clone();
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.remove(ROTATE);
    }
    let roots = format!("{}{}", lines(&needed(&secret, CERTIFICATE)?), lines(next.root_pem()));
    put(&mut secret, ROOT, roots);
    put(&mut secret, NEXT_CERTIFICATE, next.root_pem().to_owned());
    put(&mut secret, NEXT_KEY, next.key_pem().to_owned());
    put(&mut secret, SINCE, now.to_string());
    Ok(Step { secret, told: "a new root is announced; the present one signs on" })
}

/// The new root signs; the old one is still believed.
fn switch(secret: &Secret, now: i64) -> anyhow::Result<Step> {
    let mut secret = secret.clone();
    let (old, next) = (needed(&secret, CERTIFICATE)?, needed(&secret, NEXT_CERTIFICATE)?);
    let key = needed(&secret, NEXT_KEY)?;
    put(&mut secret, ROOT, format!("{}{}", lines(&next), lines(&old)));
    put(&mut secret, CERTIFICATE, next);
    put(&mut secret, KEY, key);
    put(&mut secret, SINCE, now.to_string());
    for name in [NEXT_CERTIFICATE, NEXT_KEY] {
        secret.data.iter_mut().for_each(|data| drop(data.remove(name)));
    }
    Ok(Step { secret, told: "the new root signs; the old one is still believed" })
}

/// Only the new root is believed.
fn forget(secret: &Secret) -> Step {
    let mut secret = secret.clone();
    for name in [ROOT, SINCE] {
        secret.data.iter_mut().for_each(|data| drop(data.remove(name)));
    }
    Step { secret, told: "the old root is forgotten" }
}

/// The Secret of a CA that signs, after it was lost. A change that was under way does not go on: what is believed besides is
/// forgotten when nothing that it signed is left.
pub fn again(authority: &Authority, now: i64) -> Secret {
    let mut secret = authority.secret();
    if !authority.others().is_empty() {
        put(&mut secret, ROOT, authority.root_pem().to_owned());
        put(&mut secret, SINCE, now.to_string());
    }
    secret
}

fn text(secret: &Secret, key: &str) -> anyhow::Result<Option<String>> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    bytes.map(|bytes| String::from_utf8(bytes.0.clone())).transpose().with_context(|| format!("`{key}` is no text"))
}

fn needed(secret: &Secret, key: &str) -> anyhow::Result<String> {
    text(secret, key)?.ok_or_else(|| anyhow!("there is no `{key}`"))
}

fn put(secret: &mut Secret, key: &str, text: String) {
    secret.data.get_or_insert_default().insert(key.to_owned(), ByteString(text.into_bytes()));
}

/// With a line's end at its end, so that another one can follow.
fn lines(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

fn is_old(pem: &str, now: i64) -> anyhow::Result<bool> {
    let root = CertificateDer::from_pem_slice(pem.as_bytes()).with_context(|| format!("`{CERTIFICATE}`"))?;
    let (_, root) = X509Certificate::from_der(&root).with_context(|| format!("`{CERTIFICATE}`"))?;
    let (begin, end) = (root.validity().not_before.timestamp(), root.validity().not_after.timestamp());
    let (left, life) = (end.saturating_sub(now), end.saturating_sub(begin));
    Ok(left.saturating_mul(100) < life.saturating_mul(LEFT))
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;

//! The CA of this machine, for names that no other can vouch for: its key and certificate are kept, and whoever believes the
//! certificate believes what it signs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_acme::Issued;
use mesh_core::acme::{Failure, Trouble, proven};
use mesh_core::certificate::Pem;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::storage::{self, Storage};
use crate::observe::hostname;
use crate::tls::provider::provider;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks of others may be behind.
const BEHIND: Duration = Duration::from_secs(60 * 60);
const ROOT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const LEAF: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Signs for a name. Blocks; to be called by who has the lock.
pub fn sign(storage: &Storage, name: &str, now: SystemTime) -> Result<Issued, Failure> {
    let (root, pem) = root(storage, now)?;
    let broken = |error: rcgen::Error| Failure::new(Trouble::Unproven, format!("the local CA cannot sign: {error}"));
    let key = KeyPair::generate().map_err(broken)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(broken)?;
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (OffsetDateTime::from(now - BEHIND), OffsetDateTime::from(now + LEAF));
    let leaf = params.signed_by(&key, &root).map_err(broken)?;
    let (private, chain) = (key.serialize_pem(), format!("{}{pem}", leaf.pem()));
    let both = Pem { certificate: chain.clone().into(), private_key: private.clone().into() };
    let certificate = proven(&both, name, now, provider()).map_err(|error| Failure::new(Trouble::Unproven, error))?;
    Ok(Issued { certificate, chain_pem: chain, private_key_pem: private })
}

/// The one that is kept, while it lasts; else a new one.
fn root(storage: &Storage, now: SystemTime) -> Result<(Issuer<'static, KeyPair>, String), Failure> {
    let (key_path, path) = storage.local_root();
    let kept = |path: &PathBuf| storage::read(path).map(|bytes| bytes.and_then(|bytes| String::from_utf8(bytes).ok()));
    let broken = |error: std::io::Error| {
        Failure::new(
            Trouble::Storage,
            format!("the local CA cannot be kept in {}: {error}", storage.folder().display()),
        )
    };
    let (key, certificate) = (kept(&key_path).map_err(broken)?, kept(&path).map_err(broken)?);
    if let (Some(key), Some(certificate)) = (key, certificate)
        && let Some(issuer) = usable(&key, &certificate, now)
    {
        return Ok((issuer, certificate));
    }
    let wrong = |error: rcgen::Error| Failure::new(Trouble::Unproven, format!("no local CA can be made: {error}"));
    let key = KeyPair::generate().map_err(wrong)?;
    let params = root_params(now);
    let certificate = params.self_signed(&key).map_err(wrong)?.pem();
    storage::write(&key_path, key.serialize_pem().as_bytes(), false).map_err(broken)?;
    storage::write(&path, certificate.as_bytes(), true).map_err(broken)?;
    tracing::info!(root = %path.display(), "a CA of this machine was made for private names");
    Ok((Issuer::new(params, key), certificate))
}

fn root_params(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Meshgate local CA {}", hostname()).trim());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (OffsetDateTime::from(now - BEHIND), OffsetDateTime::from(now + ROOT));
    params
}

/// Key and certificate must belong together, and last longer than what is signed with them.
fn usable(key: &str, certificate: &str, now: SystemTime) -> Option<Issuer<'static, KeyPair>> {
    let both = Pem { certificate: certificate.into(), private_key: key.into() };
    let loaded = mesh_core::certificate::load(&both, None, provider()).ok()?;
    let ends = mesh_core::acme::lifetime(&loaded.info).not_after;
    if ends <= now + LEAF + DAY {
        return None;
    }
    Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key).ok()?).ok()
}

/// Where its certificate is, for those who are to believe it.
#[must_use]
pub fn root_path(storage: &Storage) -> Arc<std::path::Path> {
    storage.local_root().1.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_root_signs_for_all_names_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new(folder.path().into(), "https://ca.example/dir");
        let now = SystemTime::now();
        let first = sign(&storage, "localhost", now).unwrap();
        let root = std::fs::read_to_string(root_path(&storage)).unwrap();
        let second = sign(&storage, "127.0.0.1", now).unwrap();
        assert_eq!(std::fs::read_to_string(root_path(&storage)).unwrap(), root);
        assert_eq!(first.certificate.info.san, ["localhost"]);
        assert_eq!(second.certificate.info.san, ["127.0.0.1"]);
        assert_eq!(first.certificate.info.issuer, second.certificate.info.issuer);
        assert!(first.chain_pem.ends_with(&root), "the chain has the root");
    }

    #[test]
    fn a_root_that_is_of_no_use_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new(folder.path().into(), "https://ca.example/dir");
        let now = SystemTime::now();
        sign(&storage, "localhost", now - ROOT).unwrap();
        let root = std::fs::read_to_string(root_path(&storage)).unwrap();
        sign(&storage, "localhost", now).unwrap();
        let new = std::fs::read_to_string(root_path(&storage)).unwrap();
        assert_ne!(new, root, "it ended");
        std::fs::write(storage.local_root().0, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        sign(&storage, "localhost", now).unwrap();
        assert_ne!(std::fs::read_to_string(root_path(&storage)).unwrap(), new, "it was another's key");
    }
}

//! What the directory has of one name: its certificate, and how its order failed the last time. Blocks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::acme::{Authority, KeptFailure, proven};
use mesh_core::certificate::{Certificate, Pem};

use super::storage::{self, Storage};
use crate::tls::provider::provider;

pub fn path(storage: &Storage, name: &str, authority: Authority) -> PathBuf {
    match authority {
        Authority::Local => storage.local_certificate(name),
        Authority::Directory => storage.certificate(name),
    }
}

/// The certificate, if it is of any use still.
pub fn certificate(path: &Path, name: &str, now: SystemTime) -> Option<Arc<Certificate>> {
    let bytes = match storage::read(path) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a certificate cannot be read; another one is ordered");
            return None;
        }
    };
    let pem = Pem { certificate: bytes.clone(), private_key: bytes };
    let certificate = proven(&pem, name, now, provider());
    certificate.inspect_err(|error| tracing::warn!(path = %path.display(), error, "a certificate is not used")).ok()
}

pub fn failure(path: &Path) -> Option<KeptFailure> {
    let bytes = storage::read(&beside(path)).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// None takes it back.
pub fn keep_failure(path: &Path, failure: Option<&KeptFailure>) -> io::Result<()> {
    let beside = beside(path);
    match failure {
        Some(failure) => storage::write(&beside, &serde_json::to_vec(failure)?, false),
        None => match std::fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("failure.json")
}

//! Certificates that are being served: one immutable table, replaced as a whole when a secret or a file changes. Entries
//! that did not change keep their parsed key; one that became bad keeps the last good one. The table is made away from
//! the workers; a handshake only reads it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::certificate::{self, Origin, Pem, check_hosts, pem_of, servers};
use mesh_core::diag::Diagnostic;
use mesh_core::model::{CertificateSource, ResourceSet, TlsServer};
use rustls::sign::CertifiedKey;

pub use mesh_core::certificate::{Certificate, CertificateInfo};

use super::provider::provider;

/// What can be served, by where it comes from.
#[derive(Clone, Default)]
pub struct CertificateTable {
    entries: HashMap<CertificateSource, Arc<Certificate>>,
}

impl CertificateTable {
    /// The certificates of every secret of the set and of every file that its listeners name. A bad one is left out, or
    /// stays as it was in `previous`, with a diagnostic; the others are not touched by it.
    pub async fn build(set: &ResourceSet, previous: &Self, now: SystemTime) -> (Self, Vec<Diagnostic>) {
        let mut table = Self::default();
        let mut diagnostics = Vec::new();
        for secret in set.secrets.values() {
            let source = CertificateSource::Secret(Arc::clone(&secret.key));
            table.add(source, previous, Ok(pem_of(secret)), &Origin::secret(secret), now, &mut diagnostics);
        }
        for (source, server) in sources(set) {
            let CertificateSource::Files { certificate, private_key } = source else { continue };
            let origin =
                Origin { object: &server.origin, field: server.field(), what: format!("certificate {certificate}") };
            let pem = read(certificate, private_key).await;
            table.add(source.clone(), previous, pem, &origin, now, &mut diagnostics);
        }
        check_hosts(set, |source| table.entries.get(source).map(|entry| &entry.info), &mut diagnostics);
        (table, diagnostics)
    }

    /// And what only `other` has: for the moment in which both are asked for.
    #[must_use]
    pub fn joined_with(&self, other: &Self) -> Self {
        let mut entries = other.entries.clone();
        entries.extend(self.entries.iter().map(|(source, entry)| (source.clone(), Arc::clone(entry))));
        Self { entries }
    }

    pub fn get(&self, source: &CertificateSource) -> Option<&Arc<Certificate>> {
        self.entries.get(source)
    }

    /// For dumps: every certificate that is served.
    pub fn iter(&self) -> impl Iterator<Item = (&CertificateSource, &Arc<Certificate>)> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What a server can answer with, in the order in which it names them. Empty if none of them is usable.
    pub(super) fn keys(&self, sources: &[CertificateSource]) -> Vec<Arc<CertifiedKey>> {
        sources
            .iter()
            .filter_map(|source| self.entries.get(source))
            .map(|entry| Arc::clone(entry.certified_key()))
            .collect()
    }

    fn add(
        &mut self,
        source: CertificateSource,
        previous: &Self,
        pem: Result<Pem, String>,
        origin: &Origin<'_>,
        now: SystemTime,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let before = previous.entries.get(&source);
        let entry = match pem.and_then(|pem| certificate::load(&pem, before, provider())) {
            Ok(entry) => Some(entry),
            Err(error) => {
                diagnostics.push(origin.broken(&error, before.is_some()));
                before.cloned()
            }
        };
        if let Some(entry) = entry {
            diagnostics.extend(origin.doubt(&entry.info, now));
            self.entries.insert(source, entry);
        }
    }
}

impl fmt::Debug for CertificateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter()).finish()
    }
}

async fn read(certificate: &str, private_key: &str) -> Result<Pem, String> {
    let one = async |path: &str| tokio::fs::read(path).await.map_err(|error| format!("cannot read {path}: {error}"));
    Ok(Pem { certificate: one(certificate).await?, private_key: one(private_key).await? })
}

/// Every source with the first server that names it: files have no object of their own to name.
fn sources(set: &ResourceSet) -> BTreeMap<&CertificateSource, &TlsServer> {
    let mut sources = BTreeMap::new();
    for server in servers(set) {
        for source in &server.tls.certificates {
            sources.entry(source).or_insert(server);
        }
    }
    sources
}

#[cfg(test)]
#[path = "certs_tests.rs"]
mod tests;

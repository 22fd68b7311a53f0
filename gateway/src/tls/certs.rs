//! Certificates that are being served, and whose client certificates are believed: one immutable table, replaced as a whole when a
//! secret or a file changes. Entries that did not change keep their parsed key; one that became bad keeps the last good one. The table is made away from
//! the workers; a handshake only reads it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::certificate::{
    self, AuthorityPem, ClientTrust, Origin, Pem, authorities_of, check_hosts, demands, pem_of, servers,
};
use mesh_core::diag::Diagnostic;
use mesh_core::model::{AuthoritySource, CertificateSource, ClientDemand, ResourceSet, TlsServer, TlsTermination};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;

pub use mesh_core::certificate::{Certificate, CertificateInfo};

use super::provider::provider;
use super::server::template;

/// Certificates that this proxy ordered, by name.
pub type OrderedCertificates = HashMap<Arc<str>, Arc<Certificate>>;

/// What can be served, by where it comes from.
#[derive(Clone, Default)]
pub struct CertificateTable {
    entries: HashMap<CertificateSource, Arc<Certificate>>,
    /// Whose client certificates are believed. What is not in here cannot be verified.
    trusts: HashMap<Arc<ClientDemand>, Arc<ClientTrust>>,
    /// Of the servers that are not plain.
    templates: HashMap<TlsTermination, Arc<Template>>,
}

/// See [`template`].
struct Template {
    config: ServerConfig,
    /// What it was made with.
    trust: Option<Arc<ClientTrust>>,
}

impl CertificateTable {
    /// The certificates of every secret of the set, of every file that its listeners name, and those of `ordered` that they name. A bad one is left out, or
    /// stays as it was in `previous`, with a diagnostic; the others are not touched by it.
    pub async fn build(
        set: &ResourceSet,
        ordered: &OrderedCertificates,
        previous: &Self,
        now: SystemTime,
    ) -> (Self, Vec<Diagnostic>) {
        let mut table = Self::default();
        let mut diagnostics = Vec::new();
        for secret in set.secrets.values().filter(|secret| secret.has_pair()) {
            let source = CertificateSource::Secret(Arc::clone(&secret.key));
            table.add(source, previous, Ok(pem_of(secret)), &Origin::secret(secret), now, &mut diagnostics);
        }
        for (source, server) in sources(set) {
            let (certificate, private_key) = match source {
                CertificateSource::Secret(_) => continue,
                CertificateSource::Issued { secret, .. } => {
                    // It is here already by its secret, if it is there.
                    let entry = table.entries.get(&CertificateSource::Secret(Arc::clone(secret))).cloned();
                    table.entries.extend(entry.map(|entry| (source.clone(), entry)));
                    continue;
                }
                CertificateSource::Files { certificate, private_key } => (certificate, private_key),
                CertificateSource::Ordered(name) => {
                    // Of those that are not there who orders them says why.
                    if let Some(entry) = ordered.get(name) {
                        table.entries.insert(source.clone(), Arc::clone(entry));
                    }
                    continue;
                }
            };
            let origin =
                Origin { object: &server.origin, field: server.field(), what: format!("certificate {certificate}") };
            let pem = read(certificate, private_key).await;
            table.add(source.clone(), previous, pem, &origin, now, &mut diagnostics);
        }
        for (demand, server) in demands(set) {
            table.believe(set, demand, server, previous, now, &mut diagnostics).await;
        }
        for server in servers(set).filter(|server| !server.tls.is_plain()) {
            table.prepare(&server.tls, previous);
        }
        check_hosts(set, |source| table.entries.get(source).map(|entry| &entry.info), &mut diagnostics);
        (table, diagnostics)
    }

    /// And what only `other` has: for the moment in which both are asked for.
    #[must_use]
    pub fn joined_with(&self, other: &Self) -> Self {
        let mut entries = other.entries.clone();
        entries.extend(self.entries.iter().map(|(source, entry)| (source.clone(), Arc::clone(entry))));
        let mut templates = other.templates.clone();
        templates.extend(self.templates.iter().map(|(tls, template)| (tls.clone(), Arc::clone(template))));
        Self { entries, templates, trusts: self.trusts.clone() }
    }

    pub fn get(&self, source: &CertificateSource) -> Option<&Arc<Certificate>> {
        self.entries.get(source)
    }

    /// For dumps: every certificate that is served.
    pub fn iter(&self) -> impl Iterator<Item = (&CertificateSource, &Arc<Certificate>)> {
        // What is in a secret is there by that, too.
        let is_twice = |source: &CertificateSource| matches!(source, CertificateSource::Issued { .. });
        self.entries.iter().filter(move |(source, _)| !is_twice(source))
    }

    /// For dumps: the CAs that clients are verified with.
    pub fn trusts(&self) -> impl Iterator<Item = &Arc<ClientTrust>> {
        self.trusts.values()
    }

    /// Of a server that is not plain. None: its clients cannot be verified.
    pub(super) fn template(&self, tls: &TlsTermination) -> Option<&ServerConfig> {
        self.templates.get(tls).map(|template| &template.config)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What a server can answer with, in the order in which it names them. Empty if none of them is usable.
    /// Of several those that are for the name that the client asks for, if there are any.
    pub(super) fn keys(&self, sources: &[CertificateSource], name: Option<&str>) -> Vec<Arc<CertifiedKey>> {
        let there = || sources.iter().filter_map(|source| self.entries.get(source));
        let key = |entry: &Arc<Certificate>| Arc::clone(entry.certified_key());
        let is_ordered = sources.iter().any(|source| source.ordered_for().is_some());
        let Some(name) = name.filter(|_| sources.len() > 1 || is_ordered) else { return there().map(key).collect() };
        let fitting: Vec<_> = there().filter(|entry| entry.info.covers_name(name)).map(key).collect();
        // What was ordered for another name is of no use to the client, and says that something is wrong which only is not there yet.
        if fitting.is_empty() && !is_ordered { there().map(key).collect() } else { fitting }
    }

    /// Looks whom a server is to believe.
    async fn believe(
        &mut self,
        set: &ResourceSet,
        demand: &Arc<ClientDemand>,
        server: &TlsServer,
        previous: &Self,
        now: SystemTime,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let own = |what: String| Origin { object: &server.origin, field: server.field(), what };
        let (pem, origin) = match &demand.authorities {
            None if demand.unverified => (Ok(AuthorityPem::default()), own("client certificates".to_owned())),
            None => return,
            Some(AuthoritySource::Secret(key)) => {
                let secret = set.secrets.get(key).filter(|secret| !secret.authorities_pem.is_empty());
                let Some(secret) = secret else { return };
                (Ok(authorities_of(secret)), Origin::authorities(secret))
            }
            Some(AuthoritySource::Files { certificates, revoked }) => (
                read_authorities(certificates, revoked.as_deref()).await,
                own(format!("CA certificates {certificates}")),
            ),
        };
        let before = previous.trusts.get(demand);
        let trust = match pem.and_then(|pem| ClientTrust::load(demand, &pem, before, provider())) {
            Ok(trust) => Some(trust),
            Err(error) => {
                diagnostics.push(origin.unbelievable(&error, before.is_some()));
                before.cloned()
            }
        };
        if let Some(trust) = trust {
            diagnostics.extend(trust.authorities.iter().filter_map(|info| origin.doubt(info, now)));
            self.trusts.insert(Arc::clone(demand), trust);
        }
    }

    /// The template is the same, with its tickets, as long as the server and whom it believes are.
    fn prepare(&mut self, tls: &TlsTermination, previous: &Self) {
        let trust = tls.clients.as_ref().map(|demand| self.trusts.get(demand).cloned());
        let Some(trust) = trust.map_or(Some(None), |trust| trust.map(Some)) else { return };
        let is_same = |before: &&Arc<Template>| match (&before.trust, &trust) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let made = match previous.templates.get(tls).filter(is_same) {
            Some(before) => Some(Arc::clone(before)),
            None => match template(tls, trust.as_ref()) {
                Ok(config) => Some(Arc::new(Template { config, trust })),
                Err(error) => {
                    tracing::error!(%error, "a TLS server cannot be served");
                    None
                }
            },
        };
        self.templates.extend(made.map(|made| (tls.clone(), made)));
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
    Ok(Pem { certificate: bytes(certificate).await?, private_key: bytes(private_key).await? })
}

async fn bytes(path: &str) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("cannot read {path}: {error}"))
}

async fn read_authorities(certificates: &str, revoked: Option<&str>) -> Result<AuthorityPem, String> {
    let certificates = bytes(certificates).await?;
    let revoked = if let Some(path) = revoked { bytes(path).await? } else { Vec::new() };
    Ok(AuthorityPem { certificates, revoked })
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

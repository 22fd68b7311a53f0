//! Who this proxy is in the mesh, and whom it believes: its own certificate, the roots, and the trust domains, in one cell
//! that is exchanged as a whole. A handshake reads it once. What is agreed by one state is not carried on under the next:
//! connections and sessions are kept by its generation.
//!
//! The key is made here and never leaves the process. How a certificate is asked for is `renewal`'s affair, and where from
//! that of its [`Sign`](super::renewal::Sign).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use mesh_core::certificate::{self, CertificateInfo, Pem};
use mesh_core::identity::SpiffeId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::peer_verify::{Identity, Trust};
use super::provider::{hex, provider, sha256};
use super::server::{DatedTickets, mesh_config};

/// A certificate of this proxy with its key.
pub struct WorkloadCertificate {
    certificate: Arc<certificate::Certificate>,
    pub identity: Identity,
    pub id: SpiffeId,
    /// Ends of its chain that are roots: the CA's word, which came over a connection that was verified.
    roots: Vec<CertificateDer<'static>>,
}

/// Why something that the CA sent is not used.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    #[error("{0}")]
    Unusable(String),
    #[error("it has no SPIFFE id")]
    NoId,
    #[error("who trusts the roots that are known here would not believe it: {0}")]
    Unbelievable(rustls::Error),
}

impl WorkloadCertificate {
    /// Of what the CA sent, the leaf first, for the key that is given. Roots at the end of the chain are not shown to peers,
    /// who have to have them anyway.
    pub fn read(chain: &[String], key_pem: &str) -> Result<WorkloadCertificate, BadCertificate> {
        let unusable = |error: &dyn fmt::Display| BadCertificate::Unusable(error.to_string());
        let mut shown = String::new();
        let mut roots = Vec::new();
        for (index, pem) in chain.iter().enumerate() {
            let parsed = certificates(pem.as_bytes()).map_err(|error| unusable(&error))?;
            match parsed.as_slice() {
                [one] if index > 0 && is_self_issued(one) => roots.push(one.clone()),
                _ => {
                    shown.push_str(pem);
                    shown.push('\n');
                }
            }
        }
        let pem = Pem { certificate: shown.into_bytes(), private_key: key_pem.as_bytes().to_vec() };
        let certificate = certificate::load(&pem, None, provider()).map_err(BadCertificate::Unusable)?;
        let leaf = certificate.certified_key().cert.first().ok_or(BadCertificate::NoId)?;
        let identity = Identity::of(leaf).map_err(|error| unusable(&error))?;
        let id = identity.id.clone().ok_or(BadCertificate::NoId)?;
        Ok(WorkloadCertificate { certificate, identity, id, roots })
    }

    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        self.certificate.certified_key()
    }

    /// For dumps.
    pub fn info(&self) -> &CertificateInfo {
        &self.certificate.info
    }

    /// Seconds until it ends; below zero when it has.
    pub fn seconds_left(&self, now: SystemTime) -> i64 {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.info().not_after.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX))
    }
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().fmt(f)
    }
}

/// Certificates in PEM, all of them.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not a certificate in PEM: {error}"))
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}

/// One state. Immutable.
pub struct Workload {
    /// Grows with every change.
    pub generation: u64,
    certificate: Option<Arc<WorkloadCertificate>>,
    trust: Arc<Trust>,
    /// For dumps.
    pub roots: Vec<Root>,
    /// For servers of the mesh; none without a certificate.
    server: Option<Arc<ServerConfig>>,
}

/// A root as dumps show it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Root {
    pub subject: String,
    pub serial: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

impl Workload {
    /// The certificate, unless it has ended.
    pub fn certificate(&self) -> Option<&Arc<WorkloadCertificate>> {
        self.certificate.as_ref().filter(|certificate| certificate.seconds_left(SystemTime::now()) >= 0)
    }

    /// The same, ended or not.
    pub fn last_certificate(&self) -> Option<&Arc<WorkloadCertificate>> {
        self.certificate.as_ref()
    }

    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// How servers of the mesh answer, with the certificate of this state. None without one.
    pub fn server_config(&self) -> Option<&Arc<ServerConfig>> {
        self.certificate().and(self.server.as_ref())
    }
}

/// The state of this moment. Clones of the `Arc` around it are for readers; writers are `renewal` and `store`.
pub struct WorkloadCell {
    state: ArcSwap<Workload>,
    inputs: Mutex<Inputs>,
    /// Whether a certificate is to be expected at all.
    awaited: bool,
    /// A certificate was there.
    issued: watch::Sender<bool>,
}

/// What a state is made of.
#[derive(Default)]
struct Inputs {
    certificate: Option<Arc<WorkloadCertificate>>,
    roots: Vec<CertificateDer<'static>>,
    domains: Vec<Arc<str>>,
    /// Tickets of servers of the mesh. A session says that the client was believed: it does not outlive a root or a domain.
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl Default for WorkloadCell {
    /// Of a process that nobody gives a certificate to.
    fn default() -> Self {
        Self::new(false)
    }
}

impl WorkloadCell {
    fn new(awaited: bool) -> Self {
        let trust = Arc::new(Trust::new(RootCertStore::empty(), Box::default()));
        let empty = Workload { generation: 0, certificate: None, trust, roots: Vec::new(), server: None };
        Self {
            state: ArcSwap::from_pointee(empty),
            inputs: Mutex::default(),
            awaited,
            issued: watch::Sender::new(false),
        }
    }

    /// Of a process that will get one.
    #[must_use]
    pub fn awaited() -> Self {
        Self::new(true)
    }

    /// Whether the process is part of a mesh.
    pub fn is_awaited(&self) -> bool {
        self.awaited
    }

    pub fn load(&self) -> Guard<Arc<Workload>> {
        self.state.load()
    }

    /// To keep it.
    pub fn load_full(&self) -> Arc<Workload> {
        self.state.load_full()
    }

    /// Until the first certificate is there.
    pub async fn issued(&self) {
        if self.issued.subscribe().wait_for(|issued| *issued).await.is_err() {
            // The sender is ours.
            std::future::pending::<()>().await;
        }
    }

    /// A new certificate, if who trusts the roots that are known would believe it.
    pub fn set_certificate(&self, certificate: WorkloadCertificate) -> Result<(), BadCertificate> {
        let certificate = Arc::new(certificate);
        {
            let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
            let before = inputs.certificate.replace(Arc::clone(&certificate));
            let state = self.build(&inputs);
            let key = certificate.certified_key();
            let (leaf, between) = key.cert.split_first().ok_or(BadCertificate::NoId)?;
            if let Err(error) = state.trust.verify_server(leaf, between, None, UnixTime::now()) {
                inputs.certificate = before;
                return Err(BadCertificate::Unbelievable(error));
            }
            self.publish(&mut inputs);
        }
        self.issued.send_replace(true);
        Ok(())
    }

    /// The roots of the file, all of them. False: they are those of before.
    pub fn set_roots(&self, roots: Vec<CertificateDer<'static>>) -> bool {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        if inputs.roots == roots {
            return false;
        }
        inputs.roots = roots;
        self.publish(&mut inputs);
        true
    }

    /// The mesh's own first. Empty: that of the own certificate alone.
    pub fn set_trust_domains(&self, domains: &[Arc<str>]) {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        if inputs.domains != domains {
            inputs.domains = domains.to_vec();
            self.publish(&mut inputs);
        }
    }

    fn publish(&self, inputs: &mut Inputs) {
        let before = self.state.load_full();
        let state = self.build(inputs);
        let same_trust = before.roots == state.roots && before.trust.domains() == state.trust.domains();
        if !same_trust || inputs.ticketer.is_none() {
            // Without random numbers there are no tickets: every handshake is a full one.
            inputs.ticketer = DatedTickets::new().ok().map(|tickets| tickets as Arc<dyn ProducesTickets>);
        }
        let server = state.certificate.as_ref().and_then(|certificate| {
            let config = mesh_config(certificate.certified_key(), &state.trust, inputs.ticketer.as_ref());
            config.inspect_err(|error| tracing::error!(%error, "no mutual TLS for clients of the mesh")).ok()
        });
        self.state.store(Arc::new(Workload { server: server.map(Arc::new), ..state }));
    }

    fn build(&self, inputs: &Inputs) -> Workload {
        let mut roots = RootCertStore::empty();
        let mut shown: Vec<Root> = Vec::new();
        let of_chain = inputs.certificate.iter().flat_map(|certificate| &certificate.roots);
        for root in inputs.roots.iter().chain(of_chain) {
            let Some(described) = describe(root) else { continue };
            // The same one from both sources.
            if !shown.contains(&described) && roots.add(root.clone()).is_ok() {
                shown.push(described);
            }
        }
        let own = || inputs.certificate.iter().map(|certificate| Arc::from(certificate.id.trust_domain())).collect();
        let domains: Vec<Arc<str>> = if inputs.domains.is_empty() { own() } else { inputs.domains.clone() };
        Workload {
            generation: self.state.load().generation.saturating_add(1),
            certificate: inputs.certificate.clone(),
            trust: Arc::new(Trust::new(roots, domains.into())),
            roots: shown,
            server: None,
        }
    }
}

fn describe(root: &CertificateDer<'_>) -> Option<Root> {
    let (_, parsed) = X509Certificate::from_der(root).ok()?;
    Some(Root {
        subject: parsed.subject().to_string(),
        serial: parsed.raw_serial_as_string(),
        sha256: hex(&sha256(root)),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("generation", &self.generation)
            .field("certificate", &self.certificate)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkloadCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;

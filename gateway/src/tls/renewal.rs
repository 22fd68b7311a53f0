//! The certificate of the workload is asked for, and asked for anew at half of its life. Roots of the file are followed
//! besides, so that a root that is added to it is believed before anybody shows a certificate of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::observe::WorkloadMetrics;

use super::workload::{BadCertificate, WorkloadCell, WorkloadCertificate, certificates};

/// How often the file with the roots is read again.
const ROOTS: Duration = Duration::from_secs(5);
/// Longest that one attempt takes.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Pause after an attempt that failed: doubled each time, and up to half of it more by chance.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// A certificate is not asked for more often than this, however short it lasts.
const SHORTEST: Duration = Duration::from_millis(200);

/// The CA, wherever it is.
#[async_trait]
pub trait Sign: Send + Sync + 'static {
    /// A chain in PEM, the leaf first, for a CSR in PEM.
    async fn sign(&self, csr: String) -> Result<Vec<String>, Refusal>;
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Label of the metric.
    pub reason: &'static str,
    pub message: String,
    /// What to do about it.
    pub help: Option<&'static str>,
}

/// For the admin pages.
#[derive(Clone, Debug, Default)]
pub struct RenewalState {
    pub renewals: u64,
    /// When it is asked for the next time.
    pub next: Option<SystemTime>,
    /// Of the last attempt, if it failed.
    pub last_error: Option<String>,
    pub help: Option<&'static str>,
}

/// Asks, waits, asks again.
pub struct Renewal {
    cell: Arc<WorkloadCell>,
    sign: Box<dyn Sign>,
    roots: PathBuf,
    metrics: WorkloadMetrics,
    handle: RenewalHandle,
    /// The file of the roots as it was read last.
    read: Option<Vec<u8>>,
}

/// To look at a [`Renewal`], and to hurry it.
#[derive(Clone, Default)]
pub struct RenewalHandle {
    state: Arc<Mutex<RenewalState>>,
    now: Arc<Notify>,
}

impl RenewalHandle {
    pub fn get(&self) -> RenewalState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new certificate is asked for at once.
    pub fn renew(&self) {
        self.now.notify_one();
    }

    fn edit(&self, edit: impl FnOnce(&mut RenewalState)) {
        edit(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Renewal {
    /// Starts it; it ends with the process.
    pub fn start(cell: Arc<WorkloadCell>, sign: impl Sign, roots: PathBuf, metrics: WorkloadMetrics) -> RenewalHandle {
        let handle = RenewalHandle::default();
        let renewal = Renewal { cell, sign: Box::new(sign), roots, metrics, handle: handle.clone(), read: None };
        tokio::spawn(renewal.run());
        handle
    }

    async fn run(mut self) {
        let mut ticks = tokio::time::interval(ROOTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once: the roots are there before they are needed.
        ticks.tick().await;
        self.read_roots().await;
        let mut pause = PAUSE.0;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.read_roots().await;
                    continue;
                }
                () = tokio::time::sleep_until(next) => {}
                () = self.handle.now.notified() => {}
            }
            let wait = match self.renew().await {
                Ok(left) => {
                    pause = PAUSE.0;
                    half_life(left)
                }
                Err(refusal) => {
                    let wait = pause.mul_f64(1.0 + fastrand::f64() / 2.0);
                    pause = (pause * 2).min(PAUSE.1);
                    self.failed(&refusal, wait);
                    wait
                }
            };
            next = Instant::now() + wait;
            self.handle.edit(|state| state.next = SystemTime::now().checked_add(wait));
        }
    }

    /// How long the new certificate lasts.
    async fn renew(&mut self) -> Result<Duration, Refusal> {
        // Who signs may have a new root, which the file has already.
        self.read_roots().await;
        let broken = |error: &dyn std::fmt::Display| Refusal {
            reason: "no_key",
            message: format!("no key and CSR can be made: {error}"),
            help: None,
        };
        // A new key each time: what was signed by an old one is of no use to who gets hold of it later.
        let key = KeyPair::generate().map_err(|error| broken(&error))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(|error| broken(&error))?;
        let chain = tokio::time::timeout(ATTEMPT, self.sign.sign(csr)).await.map_err(|_| Refusal {
            reason: "timeout",
            message: format!("the CA does not answer within {} s", ATTEMPT.as_secs()),
            help: None,
        })??;
        let certificate = WorkloadCertificate::read(&chain, &key.serialize_pem()).map_err(Refusal::from)?;
        let left = Duration::from_secs(u64::try_from(certificate.seconds_left(SystemTime::now())).unwrap_or(0));
        let (id, lifetime_s) = (certificate.id.clone(), left.as_secs());
        self.cell.set_certificate(certificate)?;
        self.metrics.renewals.inc();
        self.handle.edit(|state| {
            state.renewals = state.renewals.saturating_add(1);
            state.last_error = None;
            state.help = None;
        });
        tracing::info!(%id, lifetime_s, "workload certificate");
        Ok(left)
    }

    fn failed(&self, refusal: &Refusal, wait: Duration) {
        let (reason, help, retry_ms) = (refusal.reason, refusal.help.unwrap_or_default(), wait.as_millis());
        let left = self.cell.load().last_certificate().map(|certificate| certificate.seconds_left(SystemTime::now()));
        match left {
            Some(left_s) => {
                tracing::warn!(reason, help, retry_ms, left_s, "no new workload certificate: {}", refusal.message)
            }
            None => tracing::warn!(reason, help, retry_ms, "no workload certificate: {}", refusal.message),
        }
        self.metrics.failures.with_label_values(&[reason]).inc();
        self.handle.edit(|state| {
            state.last_error = Some(refusal.message.clone());
            state.help = refusal.help;
        });
    }

    /// A file that cannot be read, or has nothing in it, takes no root away.
    async fn read_roots(&mut self) {
        let read = match tokio::fs::read(&self.roots).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(path = %self.roots.display(), %error, "the roots of the mesh cannot be read");
                return;
            }
        };
        if self.read.as_ref() == Some(&read) {
            return;
        }
        match certificates(&read) {
            Ok(roots) if !roots.is_empty() => {
                let count = roots.len();
                if self.cell.set_roots(roots) {
                    tracing::info!(path = %self.roots.display(), count, "roots of the mesh");
                }
            }
            Ok(_) => tracing::warn!(path = %self.roots.display(), "no root of the mesh in it; those of before stay"),
            Err(error) => {
                tracing::warn!(path = %self.roots.display(), error, "roots of the mesh; those of before stay");
            }
        }
        self.read = Some(read);
    }
}

/// Between 45 and 55 % of what is left, so that not all proxies that started together ask together.
fn half_life(left: Duration) -> Duration {
    left.mul_f64(0.45 + fastrand::f64() / 10.0).max(SHORTEST)
}

impl From<BadCertificate> for Refusal {
    fn from(error: BadCertificate) -> Refusal {
        Refusal {
            reason: "bad_certificate",
            message: format!("the CA's certificate is not used: {error}"),
            help: Some("is the root of the CA in the file of --controller-ca?"),
        }
    }
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::{IntCounter, IntCounterVec, Opts};
use rcgen::{CertificateSigningRequestParams, Issuer};

use super::*;
use crate::tls::testing::{Ca, EDGE, uri};

/// Signs for a lifetime; the first attempts fail.
struct Signer {
    key_pem: String,
    root_pem: String,
    lifetime: time::Duration,
    failing: AtomicUsize,
}

#[async_trait]
impl Sign for Signer {
    async fn sign(&self, csr: String) -> Result<Vec<String>, Refusal> {
        let left = self.failing.load(Ordering::Relaxed);
        if left > 0 {
            self.failing.store(left - 1, Ordering::Relaxed);
            return Err(Refusal { reason: "test", message: "not now".to_owned(), help: None });
        }
        let key = KeyPair::from_pem(&self.key_pem).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&self.root_pem, key).unwrap();
        let mut request = CertificateSigningRequestParams::from_pem(&csr).unwrap();
        request.params.subject_alt_names = vec![uri(EDGE)];
        let now = time::OffsetDateTime::now_utc();
        request.params.not_before = now - time::Duration::minutes(5);
        request.params.not_after = now + self.lifetime;
        let leaf = request.params.signed_by(&request.public_key, &issuer).unwrap();
        Ok(vec![leaf.pem(), self.root_pem.clone()])
    }
}

fn metrics() -> WorkloadMetrics {
    WorkloadMetrics {
        renewals: IntCounter::new("renewals", "a").unwrap(),
        failures: IntCounterVec::new(Opts::new("failures", "a"), &["reason"]).unwrap(),
    }
}

fn start(
    lifetime: time::Duration,
    failing: usize,
) -> (Arc<WorkloadCell>, RenewalHandle, WorkloadMetrics, tempfile::TempDir) {
    let ca = Ca::new("root");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("root.pem");
    std::fs::write(&file, &ca.root_pem).unwrap();
    let (cell, metrics) = (Arc::new(WorkloadCell::awaited()), metrics());
    let signer =
        Signer { key_pem: ca.key_pem(), root_pem: ca.root_pem.clone(), lifetime, failing: AtomicUsize::new(failing) };
    let handle = Renewal::start(Arc::clone(&cell), signer, file, metrics.clone());
    (cell, handle, metrics, folder)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn it_is_renewed_at_half_of_its_life_with_a_new_key() {
    let (cell, handle, metrics, _folder) = start(time::Duration::seconds(2), 0);
    cell.issued().await;
    let first = cell.load().certificate().unwrap().certified_key().cert.clone();
    until("a second certificate", || handle.get().renewals > 1).await;
    let state = cell.load();
    let second = state.certificate().unwrap();
    assert_ne!(first, second.certified_key().cert);
    assert!(second.seconds_left(SystemTime::now()) >= 0);
    assert_eq!(metrics.renewals.get(), handle.get().renewals);
    assert!(handle.get().next.is_some());
}

#[tokio::test]
async fn what_fails_is_tried_again_and_said() {
    let (cell, handle, metrics, _folder) = start(time::Duration::days(1), 1);
    until("a failure", || handle.get().last_error.as_deref() == Some("not now")).await;
    assert_eq!(metrics.failures.with_label_values(&["test"]).get(), 1);
    cell.issued().await;
    assert_eq!(handle.get().last_error, None);
    // Somebody is in a hurry.
    handle.renew();
    until("a hurried renewal", || handle.get().renewals == 2).await;
}

#[test]
fn half_of_a_life_is_about_half_of_it() {
    for _ in 0..100 {
        let wait = half_life(Duration::from_secs(86_400)).as_secs_f64() / 86_400.0;
        assert!((0.45..=0.55).contains(&wait), "{wait}");
    }
    assert_eq!(half_life(Duration::ZERO), SHORTEST);
}

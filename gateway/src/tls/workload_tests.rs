use super::*;
use crate::tls::testing::{Ca, EDGE, cell};

#[tokio::test]
async fn each_change_is_a_new_generation_and_the_first_certificate_is_told() {
    let ca = Ca::new("root");
    let cell = WorkloadCell::awaited();
    assert!(cell.load().server_config().is_none());
    assert!(cell.set_roots(vec![ca.root.clone()]));
    assert!(!cell.set_roots(vec![ca.root.clone()]), "the same");
    let before = cell.load().generation;
    cell.set_certificate(ca.workload(EDGE).read()).unwrap();
    cell.issued().await;
    let state = cell.load_full();
    assert!(state.generation > before);
    assert_eq!(state.certificate().unwrap().id.to_string(), EDGE);
    assert_eq!(state.trust().domains(), [Arc::from("cluster.local")], "its own, as long as nobody says");
    assert_eq!(state.roots.len(), 1, "the root of the chain is that of the file");
    assert_eq!(state.certificate().unwrap().certified_key().cert.len(), 1, "roots are not shown to peers");
    cell.set_trust_domains(&["cluster.local".into(), "old.example".into()]);
    assert_eq!(cell.load().trust().domains().len(), 2);
}

#[test]
fn roots_of_the_chain_and_of_the_file_are_believed_together() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let cell = cell(&new.workload(EDGE), &[&old]);
    let subjects: Vec<_> = cell.load().roots.iter().map(|root| root.subject.clone()).collect();
    assert_eq!(subjects, ["O=old", "O=new"]);
}

#[test]
fn what_nobody_would_believe_is_not_shown() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let cell = cell(&ca.workload(EDGE), &[&ca]);
    let before = cell.load().generation;
    // An intermediate whose root is not in the file.
    let mut leaf = other.workload(EDGE);
    leaf.chain.truncate(1);
    let error = cell.set_certificate(leaf.read()).unwrap_err();
    assert!(matches!(error, BadCertificate::Unbelievable(_)), "{error}");
    assert_eq!(cell.load().generation, before, "the one before stays");
    let mut leaf = ca.workload(EDGE);
    leaf.key_pem = other.workload(EDGE).key_pem;
    let error = WorkloadCertificate::read(&leaf.chain, &leaf.key_pem).unwrap_err();
    assert_eq!(error.to_string(), "the private key does not belong to the certificate");
    assert!(WorkloadCertificate::read(&[], &leaf.key_pem).is_err());
}

#[test]
fn what_has_ended_is_not_shown() {
    let ca = Ca::new("root");
    let leaf = ca.leaf(vec![crate::tls::testing::uri(EDGE)], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::seconds(1);
    });
    let cell = cell(&leaf, &[&ca]);
    let state = cell.load();
    let certificate = state.last_certificate().unwrap();
    let later = SystemTime::now() + std::time::Duration::from_secs(5);
    assert!(certificate.seconds_left(SystemTime::now()) >= 0 && certificate.seconds_left(later) < 0);
}

#[test]
fn tickets_stay_until_trust_changes() {
    let ca = Ca::new("root");
    let cell = cell(&ca.workload(EDGE), &[&ca]);
    let ticketer = || cell.load().server_config().unwrap().ticketer.clone();
    let first = ticketer();
    cell.set_certificate(ca.workload(EDGE).read()).unwrap();
    let sealed = first.encrypt(b"session").unwrap();
    assert_eq!(ticketer().decrypt(&sealed).as_deref(), Some(&b"session"[..]));
    cell.set_roots(vec![ca.root.clone(), Ca::new("new").root]);
    assert_eq!(ticketer().decrypt(&sealed), None);
}

#[test]
fn dumps_never_show_the_key() {
    let ca = Ca::new("root");
    let leaf = ca.workload(EDGE);
    let cell = cell(&leaf, &[&ca]);
    let shown = format!("{cell:?} {}", serde_json::to_string(&cell.load().roots).unwrap());
    assert!(shown.contains("spiffe://"), "{shown}");
    assert!(leaf.key_pem.lines().filter(|line| !line.starts_with('-')).all(|line| !shown.contains(line)));
}

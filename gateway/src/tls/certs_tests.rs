use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use mesh_core::model::{Listener, ListenerProtocol, PathNormalization, Secret, TlsTermination};
use mesh_core::object::ObjectRef;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::listen::testing::{issue, issue_with, secret, server};

fn set(secrets: &[Secret], servers: Vec<TlsServer>) -> ResourceSet {
    let mut set = ResourceSet::default();
    for secret in secrets {
        set.secrets.insert(Arc::clone(&secret.key), Arc::new(secret.clone()));
    }
    let listener = Listener {
        key: "tls".into(),
        address: "127.0.0.1:443".parse().unwrap(),
        port: 443,
        protocol: ListenerProtocol::Tls { servers },
        path_normalization: PathNormalization::default(),
        origin: ObjectRef::new("Gateway", "default", "gate"),
        server: None,
    };
    set.listeners.insert("tls".into(), Arc::new(listener));
    set
}

fn source(key: &str) -> CertificateSource {
    CertificateSource::Secret(key.into())
}

async fn build(set: &ResourceSet, previous: &CertificateTable) -> (CertificateTable, Vec<Diagnostic>) {
    CertificateTable::build(set, &HashMap::new(), previous, SystemTime::now()).await
}

/// The only message of the only diagnostic.
async fn complaint(secret: Secret) -> String {
    let good = secret_of("good", "good.example");
    let (table, diagnostics) = build(&set(&[secret.clone(), good], vec![]), &CertificateTable::default()).await;
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert_eq!(diagnostics[0].code, "MESH0301");
    assert_eq!(diagnostics[0].object, Some(secret.origin));
    assert!(table.get(&source("good")).is_some(), "the others are not touched");
    assert_eq!(table.len(), 1);
    diagnostics[0].message.clone()
}

fn secret_of(key: &str, host: &str) -> Secret {
    secret(key, &issue(host))
}

#[tokio::test]
async fn keys_may_be_pkcs8_sec1_or_pkcs1() {
    let ecdsa = issue("a.example");
    let rsa = issue_with("a.example", &rcgen::PKCS_RSA_SHA256);
    let ed25519 = issue_with("a.example", &rcgen::PKCS_ED25519);
    // The same keys in their older forms: PKCS#8 wraps them as its last OCTET STRING.
    let older = |issued: &crate::listen::testing::Issued, label: &str| {
        let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let (_, info) = x509_parser::der_parser::der::parse_der_sequence(pkcs8.secret_pkcs8_der()).unwrap();
        let inner = info.as_sequence().unwrap()[2].as_slice().unwrap().to_vec();
        let body = pem_body(&inner);
        crate::listen::testing::Issued {
            certificate: issued.certificate.clone(),
            key: format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n"),
            der: issued.der.clone(),
        }
    };
    let secrets = [
        secret("ecdsa", &ecdsa),
        secret("rsa", &rsa),
        secret("ed25519", &ed25519),
        secret("sec1", &older(&ecdsa, "EC PRIVATE KEY")),
        secret("pkcs1", &older(&rsa, "RSA PRIVATE KEY")),
    ];
    let (table, diagnostics) = build(&set(&secrets, vec![]), &CertificateTable::default()).await;
    assert_eq!(diagnostics, []);
    let kinds: Vec<_> =
        ["ecdsa", "sec1", "rsa", "pkcs1", "ed25519"].map(|key| table.get(&source(key)).unwrap().info.key_type).into();
    assert_eq!(kinds, ["ECDSA", "ECDSA", "RSA", "RSA", "Ed25519"]);
}

fn pem_body(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, group) in der.chunks(3).enumerate() {
        let bits = group.iter().chain([&0, &0]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = ALPHABET[bits >> (18 - 6 * place) & 63];
            text.push(if place > group.len() { '=' } else { char::from(letter) });
        }
        if at % 16 == 15 {
            text.push('\n');
        }
    }
    text.push('\n');
    text
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let good = secret_of("bad", "a.example");
    let other = secret_of("bad", "a.example");
    let with = |certificate: &str, key: &str| Secret {
        certificate_pem: certificate.to_owned(),
        private_key_pem: key.to_owned(),
        ..good.clone()
    };
    let (certificate, key) = (&*good.certificate_pem, &*good.private_key_pem);
    assert_eq!(
        complaint(with(certificate, &other.private_key_pem)).await,
        "secret bad: the private key does not belong to the certificate"
    );
    assert_eq!(complaint(with("", key)).await, "secret bad: no certificate found in PEM form");
    assert_eq!(
        complaint(with(certificate, "nonsense")).await,
        "secret bad: no private key found in PEM form (PKCS#8, SEC1 or PKCS#1)"
    );
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(complaint(with(broken, key)).await.starts_with("secret bad: the certificate is not valid X.509"));
    let torn = certificate.get(..certificate.len() / 2).unwrap();
    assert!(complaint(with(torn, key)).await.starts_with("secret bad: the certificate is not valid PEM"));
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(complaint(with(certificate, key)).await.starts_with("secret bad: the private key cannot be used"));
}

#[tokio::test]
async fn unchanged_entries_are_kept_and_a_bad_update_keeps_the_last_good() {
    let (a, b) = (secret_of("a", "a.example"), secret_of("b", "b.example"));
    let (first, _) = build(&set(&[a.clone(), b.clone()], vec![]), &CertificateTable::default()).await;
    let newer = secret_of("b", "b.example");
    let (second, _) = build(&set(&[a.clone(), newer.clone()], vec![]), &first).await;
    let entry = |table: &CertificateTable, key: &str| Arc::clone(table.get(&source(key)).unwrap());
    assert!(Arc::ptr_eq(&entry(&first, "a"), &entry(&second, "a")));
    assert!(!Arc::ptr_eq(&entry(&first, "b"), &entry(&second, "b")));

    let bad = Secret { private_key_pem: a.private_key_pem.clone(), ..newer.clone() };
    let (third, diagnostics) = build(&set(&[a.clone(), bad], vec![]), &second).await;
    assert!(Arc::ptr_eq(&entry(&second, "b"), &entry(&third, "b")));
    assert_eq!(diagnostics[0].help.as_deref(), Some("the last good certificate stays in use"));

    let (fourth, diagnostics) = build(&set(&[a], vec![]), &third).await;
    assert!(fourth.get(&source("b")).is_none(), "a secret that is gone is gone");
    assert_eq!(diagnostics, []);
}

#[tokio::test]
async fn files_are_read_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let issued = issue("a.example");
    let files = CertificateSource::Files { certificate: path("tls.crt"), private_key: path("tls.key") };
    let mut from_files = server(&["a.example"], &[]);
    from_files.tls = TlsTermination { certificates: vec![files.clone()], ..TlsTermination::default() };
    let set = set(&[], vec![server(&["x.example"], &["none"]), TlsServer { server_index: 1, ..from_files }]);
    let (missing, diagnostics) = build(&set, &CertificateTable::default()).await;
    assert!(missing.is_empty());
    assert_eq!(diagnostics[0].object.as_ref().unwrap().to_string(), "Gateway/default/gate");
    assert_eq!(diagnostics[0].field, "spec.servers[1].tls");
    assert!(diagnostics[0].message.contains("cannot read"), "{}", diagnostics[0]);

    std::fs::write(path("tls.crt"), &issued.certificate).unwrap();
    std::fs::write(path("tls.key"), &issued.key).unwrap();
    let (table, diagnostics) = build(&set, &missing).await;
    assert_eq!(diagnostics, []);
    assert_eq!(table.get(&files).unwrap().info.san, ["a.example"]);

    std::fs::write(path("tls.key"), "").unwrap();
    let (table, diagnostics) = build(&set, &table).await;
    assert_eq!(diagnostics.len(), 1);
    assert!(table.get(&files).is_some(), "half of an update does no harm");
}

#[tokio::test]
async fn times_are_watched_but_do_not_forbid() {
    let days = |from: i64, to: i64| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        let day = |day: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(day).unwrap() * 86_400);
        params.not_before = day(from).into();
        params.not_after = day(to).into();
        let certificate = params.self_signed(&key).unwrap();
        Secret {
            certificate_pem: certificate.pem(),
            private_key_pem: key.serialize_pem(),
            ..secret_of("a", "a.example")
        }
    };
    let now = UNIX_EPOCH + Duration::from_secs(10_000 * 86_400);
    for (secret, expected) in [
        (days(9_000, 9_997), Some("secret a: expired 3 days ago")),
        (days(9_000, 10_005), Some("secret a: expires in 5 days")),
        (days(9_000, 10_009), None),
        (days(9_999, 10_001), None), // a short life is no reason to warn
        (days(10_003, 10_100), Some("secret a: becomes valid in 3 days")),
    ] {
        let (table, diagnostics) =
            CertificateTable::build(&set(&[secret], vec![]), &HashMap::new(), &CertificateTable::default(), now).await;
        assert_eq!(diagnostics.first().map(|diagnostic| diagnostic.message.as_str()), expected);
        assert_eq!(table.len(), 1);
    }
}

#[tokio::test]
async fn hosts_that_no_certificate_covers_are_named() {
    let secrets = [secret_of("a", "a.example"), secret_of("wild", "*.w.example")];
    let servers = vec![
        server(&["a.example", "A.b.example"], &["a"]),
        server(&["x.w.example", "x.y.w.example", "*.w.example", "*.v.example", "*"], &["wild"]),
        server(&["none.example"], &["missing"]),
        server(&["a.example", "x.w.example"], &["a", "wild"]),
    ];
    let (_, diagnostics) = build(&set(&secrets, servers), &CertificateTable::default()).await;
    let messages: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "no certificate is valid for the host A.b.example",
            "no certificate is valid for the host x.y.w.example",
            "no certificate is valid for the host *.v.example",
        ]
    );
}

#[tokio::test]
async fn dumps_describe_and_never_show_the_key() {
    let secret = secret_of("a", "a.example");
    let (table, _) = build(&set(std::slice::from_ref(&secret), vec![]), &CertificateTable::default()).await;
    let info = &table.get(&source("a")).unwrap().info;
    assert_eq!(info.subject, "CN=rcgen self signed cert");
    assert_eq!(info.san, ["a.example"]);
    assert!(info.serial.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok()));
    assert!(info.not_after > info.not_before);
    let shown = format!("{table:?} {}", serde_json::to_string(info).unwrap());
    assert!(shown.contains("a.example"));
    let secret_lines: Vec<_> = secret.private_key_pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(secret_lines.iter().all(|line| !shown.contains(line)));
    assert!(!shown.to_lowercase().contains("private"));
}

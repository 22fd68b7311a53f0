//! Real handshakes between two ends of a socket.

use std::time::Duration;

use rcgen::CertificateParams;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::client::{Inside, MeshClient, TlsError, sni};
use crate::tls::server::mesh_config;
use crate::tls::testing::{Ca, EDGE, Leaf, REVIEWS, cell, dns, uri};

const P256: &rcgen::SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;

/// What came of a handshake: whom the client saw, or why there is none; whom the server saw, or why.
struct Met {
    client: Result<Arc<Identity>, String>,
    server: Result<Identity, String>,
}

/// The key of any leaf, also of one that this proxy would not take for its own.
fn key(leaf: &Leaf) -> Arc<CertifiedKey> {
    let certificate = leaf.chain[0].as_bytes().to_vec();
    let pem = mesh_core::certificate::Pem { certificate, private_key: leaf.key_pem.as_bytes().to_vec() };
    Arc::clone(mesh_core::certificate::load(&pem, None, provider()).unwrap().certified_key())
}

fn trust(cas: &[&Ca], domains: &[&str]) -> Arc<Trust> {
    let mut roots = RootCertStore::empty();
    cas.iter().for_each(|ca| roots.add(ca.root.clone()).unwrap());
    Arc::new(Trust::new(roots, domains.iter().map(|domain| Arc::from(*domain)).collect()))
}

async fn meet(server: ServerConfig, client: &MeshClient) -> Met {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (io, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(server)).accept(io).await.map_err(|error| error.to_string())?;
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        Ok(Identity::of(&leaf).unwrap())
    };
    let connect = async {
        let io = TcpStream::connect(address).await.unwrap();
        let connected = client.connect(io, Inside::Http1).await;
        connected.map(|(_, peer)| peer).map_err(|error| error.to_string())
    };
    let (server, client) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(accept, connect) }).await.expect("in time");
    Met { client, server }
}

fn client(ca: &Ca, expected: &str) -> MeshClient {
    let cell = cell(&ca.workload(EDGE), &[ca]);
    MeshClient::new(&cell.load(), &expected.into(), &sni(9080, None, "reviews.default.svc.cluster.local")).unwrap()
}

/// The edge expects `reviews`, and meets this leaf.
async fn edge_meets(ca: &Ca, leaf: &Leaf, expected: &str) -> Met {
    let server = mesh_config(&key(leaf), &trust(&[ca], &["cluster.local"]), None).unwrap();
    meet(server, &client(ca, expected)).await
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let ca = Ca::new("root");
    let met = edge_meets(&ca, &ca.workload(REVIEWS), REVIEWS).await;
    let (server, client) = (met.client.unwrap(), met.server.unwrap());
    assert_eq!(server.uri(), Some(REVIEWS));
    assert_eq!(client.principal(), Some("cluster.local/ns/istio-system/sa/edge"));
    assert_eq!(client.hash.len(), 32);
    assert_eq!((&*client.subject, client.dns.len()), ("", 0));
}

#[tokio::test]
async fn without_an_expectation_anybody_of_the_mesh_will_do() {
    let ca = Ca::new("root");
    let met = edge_meets(&ca, &ca.workload(REVIEWS), "").await;
    assert_eq!(met.client.unwrap().uri(), Some(REVIEWS));
}

#[tokio::test]
async fn who_is_not_expected_is_refused_by_name() {
    let ca = Ca::new("root");
    let other = "spiffe://cluster.local/ns/default/sa/ratings";
    let met = edge_meets(&ca, &ca.workload(other), REVIEWS).await;
    let wanted = format!("CERTIFICATE_VERIFY_FAILED: expected {REVIEWS}, got {other}");
    assert_eq!(met.client.unwrap_err(), wanted);
    assert!(met.server.is_err());
}

#[tokio::test]
async fn certificates_that_name_nobody_are_refused() {
    let ca = Ca::new("root");
    let cases = [
        (vec![dns("reviews.default.svc.cluster.local")], "got a certificate without a URI name"),
        (vec![uri(REVIEWS), uri(EDGE)], "got a certificate with 2 URI names"),
        (vec![uri("https://cluster.local/ns/default/sa/reviews")], "expected a SPIFFE id, got `https://"),
        (vec![uri("spiffe://cluster.local/reviews")], "expected a SPIFFE id, got `spiffe://cluster.local/reviews`"),
        (
            vec![uri("spiffe://other.example/ns/default/sa/reviews")],
            "expected an identity of the trust domain cluster.local, got spiffe://other.example/ns/default/sa/reviews",
        ),
    ];
    for (sans, wanted) in cases {
        let error = edge_meets(&ca, &ca.leaf(sans, P256, |_| {}), "").await.client.unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
    // A name beside the id means nothing.
    let both = ca.leaf(vec![dns("a.example"), uri(REVIEWS)], P256, |_| {});
    assert_eq!(&*edge_meets(&ca, &both, REVIEWS).await.client.unwrap().dns[0], "a.example");
}

#[tokio::test]
async fn other_roots_and_other_times_are_refused() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let error = edge_meets(&ca, &other.workload(REVIEWS), REVIEWS).await.client.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let days = |from: i64, to: i64| {
        move |params: &mut CertificateParams| {
            let now = OffsetDateTime::now_utc();
            params.not_before = now + time::Duration::days(from);
            params.not_after = now + time::Duration::days(to);
        }
    };
    let expired = ca.leaf(vec![uri(REVIEWS)], P256, days(-2, -1));
    let error = edge_meets(&ca, &expired, REVIEWS).await.client.unwrap_err();
    assert!(error.contains("expired"), "{error}");
    let early = ca.leaf(vec![uri(REVIEWS)], P256, days(1, 2));
    let error = edge_meets(&ca, &early, REVIEWS).await.client.unwrap_err();
    assert!(error.contains("not valid yet"), "{error}");
}

#[tokio::test]
async fn two_roots_overlap() {
    let (old, new) = (Ca::new("root"), Ca::new("root"));
    let both = cell(&old.workload(EDGE), &[&old, &new]);
    for ca in [&old, &new] {
        // The server has the one root, the client believes both; and the other way round.
        let server = mesh_config(&key(&ca.workload(REVIEWS)), &trust(&[&old, &new], &["cluster.local"]), None).unwrap();
        let client = MeshClient::new(&both.load(), &REVIEWS.into(), "a").unwrap();
        let met = meet(server, &client).await;
        assert!(met.client.is_ok() && met.server.is_ok());
    }
    let only_new = mesh_config(&key(&new.workload(REVIEWS)), &trust(&[&new], &["cluster.local"]), None).unwrap();
    let met = meet(only_new, &MeshClient::new(&both.load(), &REVIEWS.into(), "a").unwrap()).await;
    assert!(met.server.is_err(), "the server knows the new root alone");
}

#[tokio::test]
async fn aliases_are_names_of_the_same_domain() {
    let ca = Ca::new("root");
    let cell = cell(&ca.workload(EDGE), &[&ca]);
    cell.set_trust_domains(&["cluster.local".into(), "old.example".into()]);
    let client = MeshClient::new(&cell.load(), &REVIEWS.into(), "a").unwrap();
    let leaf = ca.workload("spiffe://old.example/ns/default/sa/reviews");
    let server = mesh_config(&key(&leaf), &trust(&[&ca], &["cluster.local"]), None).unwrap();
    assert!(meet(server, &client).await.client.is_ok());
    let leaf = ca.workload("spiffe://old.example/ns/other/sa/reviews");
    let server = mesh_config(&key(&leaf), &trust(&[&ca], &["cluster.local"]), None).unwrap();
    assert!(meet(server, &client).await.client.unwrap_err().contains("expected spiffe://cluster.local"));
}

#[tokio::test]
async fn servers_take_no_client_without_a_certificate_of_the_mesh() {
    let ca = Ca::new("root");
    let config = |trust: &Arc<Trust>| mesh_config(&key(&ca.workload(REVIEWS)), trust, None).unwrap();
    // Another trust domain.
    let met = meet(config(&trust(&[&ca], &["other.example"])), &client(&ca, REVIEWS)).await;
    assert!(met.server.unwrap_err().contains("Other"), "named in the error");
    // No certificate at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bare = rustls::ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(ServerVerifier::new(trust(&[&ca], &["cluster.local"]), None))
        .with_no_client_auth();
    let accept = async {
        let (io, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config(&trust(&[&ca], &["cluster.local"])))).accept(io).await
    };
    let connect = async {
        let io = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(bare)).connect(name, io).await
    };
    let (accepted, _connected) = tokio::join!(accept, connect);
    let error = accepted.unwrap_err();
    assert!(error.to_string().contains("peer sent no certificates"), "{error}");
}

#[tokio::test]
async fn both_versions_and_all_kinds_of_keys() {
    let ca = Ca::new("root");
    for algorithm in [P256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
        for version in [&TLS12, &TLS13] {
            let leaf = ca.leaf(vec![uri(REVIEWS)], algorithm, |_| {});
            let server = ServerConfig::builder_with_provider(Arc::clone(provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_client_cert_verifier(ClientVerifier::new(trust(&[&ca], &["cluster.local"])))
                .with_single_cert(
                    key(&leaf).cert.clone(),
                    rustls::pki_types::PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap(),
                )
                .unwrap();
            let met = meet(server, &client(&ca, REVIEWS)).await;
            assert_eq!(met.client.unwrap().uri(), Some(REVIEWS), "{algorithm:?} {version:?}");
            assert_eq!(met.server.unwrap().uri(), Some(EDGE));
        }
    }
}

#[test]
fn whoever_has_no_certificate_says_so() {
    let cell = crate::tls::workload::WorkloadCell::awaited();
    let error = MeshClient::new(&cell.load(), &REVIEWS.into(), "a").err();
    assert_eq!(error, Some(TlsError::NoCertificate));
    let ca = Ca::new("root");
    let cell = super::super::testing::cell(&ca.workload(EDGE), &[&ca]);
    let error = MeshClient::new(&cell.load(), &"nobody".into(), "a").err();
    assert_eq!(error, Some(TlsError::BadIdentity("nobody".into())));
}

#[test]
fn subjects_are_written_as_rfc_2253_wants() {
    let ca = Ca::new("root");
    let leaf = ca.leaf(vec![dns("a.example")], P256, |params| {
        params.distinguished_name.push(rcgen::DnType::CountryName, "CH");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "A, \"B\"");
        params.distinguished_name.push(rcgen::DnType::CommonName, "client");
    });
    let identity = Identity::of(&key(&leaf).cert[0]).unwrap();
    assert_eq!(&*identity.subject, r#"CN=client,O=A\, \"B\",C=CH"#);
    assert_eq!((identity.id, identity.uris.len()), (None, 0));
}

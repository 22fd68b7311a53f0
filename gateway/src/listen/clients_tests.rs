//! Servers that ask for client certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::model::{AuthoritySource, ClientDemand, Secret, TlsServer};
use mesh_core::object::ObjectRef;
use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::super::ListenOptions;
use super::super::testing::*;
use crate::tls::testing::{Ca, Leaf, dns};

const NAME: &str = "a.example";

fn demand(secret: &str) -> ClientDemand {
    ClientDemand {
        authorities: Some(AuthoritySource::Secret(secret.into())),
        optional: false,
        names: Vec::new(),
        certificate_hashes: Vec::new(),
        key_hashes: Vec::new(),
        unverified: false,
    }
}

fn asking(demand: ClientDemand) -> TlsServer {
    let mut asking = server(&[NAME], &["a"]);
    asking.tls.clients = Some(Arc::new(demand));
    asking
}

fn believe(gate: &mut Gate, key: &str, ca: &Ca) {
    let secret = Secret::new(key.into(), ObjectRef::new("Secret", "default", key));
    let secret = Secret { authorities_pem: ca.root_pem.clone(), ..secret };
    gate.set.secrets.insert(key.into(), Arc::new(secret));
}

/// A gate whose server asks this, believes this CA, and shows this certificate.
async fn gate(demand: ClientDemand, ca: &Ca, own: &Issued) -> (Gate, SocketAddr) {
    let (mut gate, address) = Gate::tls(ListenOptions::default(), vec![asking(demand)], &[("a", own)]).await;
    believe(&mut gate, "ca", ca);
    gate.apply().await;
    (gate, address)
}

fn showing(leaf: &Leaf, own: &Issued) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.der.clone()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(leaf.chain[0].as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(crate::tls::provider::provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = builder.with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn leaf(ca: &Ca, name: &str) -> Leaf {
    ca.leaf(vec![dns(name)], &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
}

/// How the connection came about; none: the server did not let it in.
async fn met(address: SocketAddr, client: &Arc<rustls::ClientConfig>) -> Option<HandshakeKind> {
    let mut stream = connect_tls(address, client, NAME).await.ok()?;
    let kind = stream.get_ref().1.handshake_kind();
    // In TLS 1.3 the client learns of it when it reads; the ticket comes with that, too.
    if read_word(&mut stream).await.is_empty() { None } else { kind }
}

#[tokio::test]
async fn a_session_lasts_no_longer_than_the_trust_in_its_client() {
    let (old, new, own) = (Ca::new("old"), Ca::new("new"), issue(NAME));
    let (mut gate, address) = gate(demand("ca"), &old, &own).await;
    let client = showing(&leaf(&old, "x.example"), &own);
    assert_eq!(met(address, &client).await, Some(HandshakeKind::Full));
    assert_eq!(met(address, &client).await, Some(HandshakeKind::Resumed));
    // Something else changed.
    gate.secret("b", &own);
    gate.apply().await;
    assert_eq!(met(address, &client).await, Some(HandshakeKind::Resumed));
    believe(&mut gate, "ca", &new);
    gate.apply().await;
    assert_eq!(met(address, &client).await, None);
    let client = showing(&leaf(&new, "x.example"), &own);
    assert_eq!(met(address, &client).await, Some(HandshakeKind::Full));
    // More is asked for.
    gate.listen(
        "tls",
        "127.0.0.1:0",
        mesh_core::model::ListenerProtocol::Tls {
            servers: vec![asking(ClientDemand { names: vec!["y.example".to_owned()], ..demand("ca") })],
        },
    );
    gate.apply().await;
    assert_eq!(met(address, &client).await, None);
}

#[tokio::test]
async fn without_a_ca_nobody_is_let_in_and_a_bad_one_keeps_the_last() {
    let (ca, own) = (Ca::new("ca"), issue(NAME));
    let (mut gate, address) = gate(demand("ca"), &ca, &own).await;
    let client = showing(&leaf(&ca, "x.example"), &own);
    let bad = Secret { authorities_pem: "nonsense".to_owned(), ..(*gate.set.secrets["ca"]).clone() };
    gate.set.secrets.insert("ca".into(), Arc::new(bad));
    gate.apply().await;
    assert!(met(address, &client).await.is_some());
    gate.set.secrets.remove("ca");
    gate.apply().await;
    assert_eq!(met(address, &client).await, None);
    until(|| gate.counts("tls").no_certificate == 1).await;
}

#[tokio::test]
async fn who_need_not_show_a_certificate_may() {
    let (ca, other, own) = (Ca::new("ca"), Ca::new("other"), issue(NAME));
    let named = ClientDemand { optional: true, names: vec!["x.example".to_owned()], ..demand("ca") };
    let (_gate, address) = gate(named, &ca, &own).await;
    let mut nobody = client(&[&own], &["h2"]);
    nobody.resumption = rustls::client::Resumption::disabled();
    assert!(met(address, &Arc::new(nobody)).await.is_some());
    assert!(met(address, &showing(&leaf(&ca, "x.example"), &own)).await.is_some());
    assert!(met(address, &showing(&leaf(&ca, "y.example"), &own)).await.is_none());
    assert!(met(address, &showing(&leaf(&other, "x.example"), &own)).await.is_none());
}

use std::time::Duration;

use mesh_core::certificate::Pem;
use mesh_core::model::{AuthoritySource, CertificateSource};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::testing::{Ca, Leaf, dns, uri};

const P256: &rcgen::SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;

fn plain() -> Origination {
    let authorities = Some(AuthoritySource::Files { certificates: "ca.pem".to_owned(), revoked: None });
    Origination { sni: None, authorities, names: Vec::new(), unverified: false, certificate: None }
}

fn pem(ca: &Ca) -> Option<AuthorityPem> {
    Some(AuthorityPem { certificates: ca.root_pem.clone().into(), revoked: Vec::new() })
}

fn client(origination: &Origination, materials: &Materials) -> OriginationClient {
    OriginationClient::new(origination, materials, &Arc::new(RootCertStore::empty())).unwrap()
}

fn leaf(ca: &Ca, name: &str) -> Leaf {
    ca.leaf(vec![dns(name), uri("spiffe://td/ns/a/sa/b")], P256, |_| {})
}

fn server(leaf: &Leaf, clients: Option<&Ca>) -> ServerConfig {
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(provider())).with_protocol_versions(&[&TLS13]).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.root.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider()));
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(leaf.chain[0].as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// What the server saw (name, protocol, whether there was a certificate), or why there is no TLS.
async fn meet(
    server: ServerConfig,
    client: &OriginationClient,
    inside: Inside,
    name: &str,
) -> Result<(String, String, bool), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (io, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(io).await.map_err(|error| error.to_string())?;
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        let tls = stream.get_ref().1;
        let alpn = String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default()).into_owned();
        let name = tls.server_name().unwrap_or_default().to_owned();
        Ok::<_, String>((name, alpn, tls.peer_certificates().is_some()))
    };
    let connect = async {
        let io = TcpStream::connect(address).await.unwrap();
        // Kept until the server has written.
        client.connect(io, inside, name).await.map_err(|error| error.to_string())
    };
    let both = async { tokio::join!(accept, connect) };
    let (server, client) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    client?;
    server
}

#[tokio::test]
async fn the_name_that_is_asked_for_must_be_in_the_certificate() {
    let ca = Ca::new("root");
    let materials = Materials { authorities: pem(&ca), certificate: None };
    let client = client(&plain(), &materials);
    for (name, inside, expected) in [
        ("web.example", Inside::Http1, ("web.example", "http/1.1")),
        ("WEB.example.", Inside::Http2, ("web.example", "h2")),
        ("web.example", Inside::Tcp, ("web.example", "")),
    ] {
        let met = meet(server(&leaf(&ca, "web.example"), None), &client, inside, name).await.unwrap();
        assert_eq!((&*met.0.to_ascii_lowercase(), &*met.1, met.2), (expected.0, expected.1, false));
    }
    let error = meet(server(&leaf(&ca, "web.example"), None), &client, Inside::Http1, "other.example").await;
    assert!(error.as_ref().unwrap_err().contains("CERTIFICATE_VERIFY_FAILED"), "{error:?}");
    let error =
        meet(server(&leaf(&Ca::new("other"), "web.example"), None), &client, Inside::Http1, "web.example").await;
    assert!(error.as_ref().unwrap_err().contains("CERTIFICATE_VERIFY_FAILED"), "{error:?}");
    assert!(meet(server(&leaf(&ca, "a"), None), &client, Inside::Http1, "no name").await.is_err());
}

#[tokio::test]
async fn names_of_the_rule_count_instead() {
    let ca = Ca::new("root");
    let materials = Materials { authorities: pem(&ca), certificate: None };
    for (names, good) in [
        (vec!["web.example"], true),
        (vec!["spiffe://td/ns/a/sa/b"], true),
        (vec!["other.example", "web.example"], true),
        (vec!["other.example"], false),
        (vec!["spiffe://td/ns/a/sa/c"], false),
    ] {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let client = client(&Origination { names: names.clone(), ..plain() }, &materials);
        let met = meet(server(&leaf(&ca, "web.example"), None), &client, Inside::Http1, "asked.example").await;
        assert_eq!(met.is_ok(), good, "{names:?}: {met:?}");
        // A name alone is not enough.
        let other = Ca::new("other");
        let met = meet(server(&leaf(&other, "web.example"), None), &client, Inside::Http1, "web.example").await;
        assert!(met.is_err(), "{names:?}");
    }
}

#[tokio::test]
async fn who_is_not_verified_is_believed() {
    let materials = Materials { authorities: Some(AuthorityPem::default()), certificate: None };
    let client = client(&Origination { unverified: true, authorities: None, ..plain() }, &materials);
    let met = meet(server(&leaf(&Ca::new("any"), "x"), None), &client, Inside::Http1, "web.example").await.unwrap();
    assert_eq!(met.0, "web.example");
}

#[tokio::test]
async fn a_certificate_is_shown() {
    let ca = Ca::new("root");
    let own = leaf(&ca, "me.example");
    let own = Pem { certificate: own.chain[0].clone().into(), private_key: own.key_pem.clone().into() };
    let own = mesh_core::certificate::load(&own, None, provider()).unwrap();
    let certificate = Some(CertificateSource::Secret("a/b".into()));
    let mutual = Origination { certificate, ..plain() };
    let with = client(&mutual, &Materials { authorities: pem(&ca), certificate: Some(own) });
    let met = meet(server(&leaf(&ca, "web.example"), Some(&ca)), &with, Inside::Http1, "web.example").await.unwrap();
    assert!(met.2);
    let without = client(&plain(), &Materials { authorities: pem(&ca), certificate: None });
    assert!(meet(server(&leaf(&ca, "web.example"), Some(&ca)), &without, Inside::Http1, "web.example").await.is_err());
}

#[test]
fn what_is_in_the_way() {
    let new = |authorities| {
        let error = OriginationClient::new(
            &plain(),
            &Materials { authorities, certificate: None },
            &Arc::new(RootCertStore::empty()),
        );
        error.err().unwrap()
    };
    assert_eq!(new(None), "the system has no CA certificates in PEM form");
    let text = |text: &str| Some(AuthorityPem { certificates: text.into(), revoked: Vec::new() });
    assert_eq!(new(text("nonsense")), "the file has no CA certificates in PEM form");
}

#[test]
fn whom_a_server_is_asked_for() {
    let cell = |sni: Option<&str>| {
        let model = Origination { sni: sni.map(Arc::from), ..plain() };
        OriginationCell::new(Arc::new(model), Err("not made".into()))
    };
    let host: Arc<str> = "host.example".into();
    let name = |sni, authority| cell(sni).name(authority, &host).to_string();
    assert_eq!(name(Some("sni.example"), Some("a.example")), "sni.example");
    assert_eq!(name(None, Some("A.example:8443")), "a.example");
    assert_eq!(name(None, Some("[::1]:80")), "[::1]");
    assert_eq!(name(None, Some("")), "host.example");
    assert_eq!(name(None, None), "host.example");
    assert_eq!(cell(None).client().err(), Some(TlsError::NotReady("not made".into())));
}

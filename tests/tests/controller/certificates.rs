//! Certificates for workloads, asked for as Istio's agents do: gRPC over TLS, with the token of a pod. Bytes are written by
//! hand, so that both ends cannot be wrong in the same way.

use e2e::client::{Client, Request, Response, TlsOptions};
use e2e::controller::Control;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// `IstioCertificateRequest { csr: 1, validity_duration: 3 }` in a gRPC frame.
fn request(csr: &str, seconds: usize, token: Option<&str>) -> Request {
    let mut message = vec![1 << 3 | 2];
    message.extend(varint(csr.len()));
    message.extend(csr.as_bytes());
    message.push(3 << 3);
    message.extend(varint(seconds));
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let mut request = Request::get("controller.test", "/istio.v1.auth.IstioCertificateService/CreateCertificate")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", &format!("Bearer {token}"));
    }
    Request { method: "POST".to_owned(), body: Some(body), ..request }
}

/// `IstioCertificateResponse { cert_chain: 1 }`
fn chain(body: &[u8]) -> Vec<String> {
    let mut rest = body.get(5..).unwrap_or_default();
    let mut chain = Vec::new();
    while let Some((tag, tail)) = rest.split_first() {
        assert_eq!(*tag, 1 << 3 | 2);
        let end = tail.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let length = tail[..=end].iter().rev().fold(0_usize, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        let (text, more) = tail[end + 1..].split_at(length);
        chain.push(String::from_utf8(text.to_vec()).unwrap());
        rest = more;
    }
    chain
}

fn csr() -> String {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

async fn ask(address: SocketAddr, request: &Request) -> Response {
    let tls =
        TlsOptions { sni: Some("controller.test".to_owned()), alpn: vec!["h2".to_owned()], ..TlsOptions::default() };
    let (mut client, _) = Client::connect(address, Some(&tls), true).await.unwrap();
    client.send(request).await.unwrap()
}

/// `grpc-status`, which stands in the head if there is nothing else.
fn code(response: &Response) -> Option<&str> {
    response.trailer("grpc-status").or(response.header("grpc-status"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_a_certificate_for_its_service_account() {
    let control = Control::start().await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let response = ask(serving.address, &request(&csr(), 3600, Some("pod-a@shop"))).await;
    assert_eq!(code(&response), Some("0"), "{response:?}");
    let chain = chain(&response.body);
    assert_eq!(chain.len(), 2);
    let root = std::fs::read_to_string(control.root()).unwrap();
    assert_eq!(chain[1].lines().collect::<Vec<_>>(), root.lines().collect::<Vec<_>>());
    let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/gateway")]);
    let lifetime = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(lifetime, 3600 + 300);
    assert_eq!((control.counters.requests.get(), control.counters.issued.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_domain_is_the_meshs() {
    let control = Control::start().await.unwrap();
    control
        .apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: {NAMESPACE}}}\ndata: {{mesh: 'trustDomain: shop.example'}}\n"
        ))
        .await
        .unwrap();
    let serving = control.serve(None).await.unwrap();
    let text = "spiffe://shop.example/ns/";
    let begun = std::time::Instant::now();
    loop {
        let response = ask(serving.address, &request(&csr(), 0, Some("pod-a"))).await;
        let leaf = CertificateDer::from_pem_slice(chain(&response.body)[0].as_bytes()).unwrap();
        if leaf.windows(text.len()).any(|window| window == text.as_bytes()) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{response:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_one_for_nothing() {
    let control = Control::start().await.unwrap();
    let serving = control.serve(None).await.unwrap();
    for (csr, token, wanted) in [
        (csr(), None, "16"),
        (csr(), Some("other"), "16"),
        ("nothing".to_owned(), Some("pod-a"), "3"),
        ("A".repeat(20_000), Some("pod-a"), "3"),
        ("A".repeat(100_000), Some("pod-a"), "11"),
    ] {
        let response = ask(serving.address, &request(&csr, 0, token)).await;
        assert_eq!(code(&response), Some(wanted), "{token:?}: {response:?}");
        assert!(response.body.is_empty(), "{response:?}");
    }
    let counters = &control.counters;
    assert_eq!(counters.issued.get(), 0);
    assert_eq!((counters.unauthenticated.get(), counters.malformed.get()), (2, 2));
}

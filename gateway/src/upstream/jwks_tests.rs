use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn jwk(pair: &EcdsaKeyPair, id: &str) -> Value {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
}

fn sign(pair: &EcdsaKeyPair, message: &str) -> String {
    URL_SAFE_NO_PAD.encode(pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap())
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

#[test]
fn keys_are_found_by_id_and_algorithm() {
    let (a, b) = (pair(), pair());
    let keys = Keys::read(set(&[jwk(&a, "a"), json!({ "kty": "?" }), jwk(&b, "b")]).as_bytes()).unwrap();
    let verify = |id: Option<&str>, algorithm, signature: &str| keys.verify(id, algorithm, b"m", signature);
    let (of_a, of_b) = (sign(&a, "m"), sign(&b, "m"));
    assert_eq!(verify(Some("a"), Algorithm::Es256, &of_a), Ok(()));
    assert_eq!(verify(None, Algorithm::Es256, &of_b), Ok(()));
    assert_eq!(verify(Some("a"), Algorithm::Es256, &of_b), Err(Mismatch::Signature));
    assert_eq!(verify(Some("c"), Algorithm::Es256, &of_a), Err(Mismatch::NoKey));
    // The public key is no secret for HMAC.
    assert_eq!(verify(Some("a"), Algorithm::Hs256, &of_a), Err(Mismatch::NoKey));
    assert_eq!(verify(Some("a"), Algorithm::Es256, "nonsense"), Err(Mismatch::Signature));
    for (text, why) in [
        ("nonsense", "it is not JSON"),
        ("{}", "it has no list `keys`"),
        ("{\"keys\":[]}", "it has no usable key; it is empty"),
        ("{\"keys\":[{\"kty\":\"RSA\"}]}", "it has no usable key; keys[0]: "),
    ] {
        let error = Keys::read(text.as_bytes()).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}

/// A server of one document; counts who asks.
async fn serve(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            asked.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (format!("http://{address}"), count)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_want_them() {
    let pair = pair();
    let (url, count) = serve(ok(&set(&[jwk(&pair, "a")]))).await;
    let source = KeySource::Url(url.into());
    let mut store = KeyStore::default();
    let (first, second) = (store.cell(&source, PATIENCE), store.cell(&source, PATIENCE));
    let keys = first.get(PATIENCE).await.unwrap();
    assert_eq!(keys.verify(Some("a"), Algorithm::Es256, b"m", &sign(&pair, "m")), Ok(()));
    assert!(second.get(PATIENCE).await.is_some());
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(store.trouble(&source), None);
    drop((first, second));
    store.tidy();
    assert!(store.0.is_empty());
}

#[tokio::test]
async fn keys_are_where_the_issuer_says() {
    let (keys, _) = serve(ok(&set(&[jwk(&pair(), "a")]))).await;
    let (issuer, _) = serve(ok(&json!({ "jwks_uri": keys }).to_string())).await;
    let mut store = KeyStore::default();
    let cell = store.cell(&KeySource::Issuer(issuer.into()), PATIENCE);
    assert!(cell.get(PATIENCE).await.is_some());
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_and_not_waited_for() {
    let large = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(1024 * 1024 + 1));
    for (answer, why) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
            "it answers 404 Not Found",
        ),
        (ok("nonsense"), "it is not JSON"),
        (large, "length limit exceeded"),
    ] {
        let (url, _) = serve(answer).await;
        let source = KeySource::Url(url.into());
        let mut store = KeyStore::default();
        let cell = store.cell(&source, PATIENCE);
        assert!(cell.get(PATIENCE).await.is_none());
        let trouble = store.trouble(&source).unwrap();
        assert!(trouble.contains(why), "{trouble}");
    }
}

#[tokio::test]
async fn keys_that_are_written_are_there_at_once() {
    let mut store = KeyStore::default();
    let good = store.cell(&KeySource::Inline(set(&[jwk(&pair(), "a")]).into()), PATIENCE);
    assert!(good.get(Duration::ZERO).await.is_some());
    let bad = KeySource::Inline("nonsense".into());
    assert!(store.cell(&bad, PATIENCE).get(Duration::ZERO).await.is_none());
    assert!(store.trouble(&bad).is_some());
    // No token is good, and nobody waits.
    let nowhere = store.cell(&KeySource::Nowhere, PATIENCE).get(Duration::ZERO).await.unwrap();
    assert_eq!(nowhere.verify(None, Algorithm::Es256, b"m", "s"), Err(Mismatch::NoKey));
}

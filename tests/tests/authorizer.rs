//! An external authorizer that speaks gRPC, behind a real gateway. The messages are put together and taken apart by hand here, so that
//! both sides do not make the same mistake.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use e2e::backend::{Backend, text};
use e2e::client::{self, Client, H1, Request, Response};
use e2e::fixture::Edge;
use http_body_util::BodyExt as _;

/// A field of a message: number, and bytes with their length in front.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 128 {
        out.push(u8::try_from(length & 127).unwrap() | 128);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(value);
    out
}

/// `HeaderValueOption`
fn header(name: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
}

/// `CheckResponse`: OK, with a header for the request, one to be taken from it, and one for the response.
fn allowed() -> Vec<u8> {
    let ok = [field(2, &header("x-user", "jason")), field(5, b"x-secret"), field(6, &header("x-checked", "yes"))];
    [field(1, &[]), field(3, &ok.concat())].concat()
}

/// `CheckResponse`: PERMISSION_DENIED, told with 402 and a body.
fn refused() -> Vec<u8> {
    let status = field(1, &[8, 0x92, 3]);
    let denied = [status, field(2, &header("x-why", "poor")), field(3, b"pay first")].concat();
    [field(1, &[8, 7]), field(2, &denied)].concat()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// Lets through what has `x-pay: yes`, and keeps the last question.
async fn authorizer(questions: Arc<Mutex<Vec<u8>>>) -> Backend {
    let handler = move |request: http::Request<hyper::body::Incoming>| {
        let questions = Arc::clone(&questions);
        async move {
            assert_eq!(request.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(usize::from(u16::from_be_bytes([body[3], body[4]])), body.len() - 5, "one whole message");
            let question = body[5..].to_vec();
            let paid = contains(&question, &[field(1, b"x-pay"), field(2, b"yes")].concat());
            *questions.lock().unwrap() = question;
            let message = if paid { allowed() } else { refused() };
            let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            framed.extend_from_slice(&message);
            let trailers = BTreeMap::from([("grpc-status".to_owned(), "0".to_owned())]);
            let mut response = http::Response::new(text(Bytes::from(framed), &trailers));
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
            response
        }
    };
    Backend::start(handler).await.unwrap()
}

const POLICY: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    extensionProviders:
    - name: payment
      envoyExtAuthzGrpc:
        service: authz-example.internal
        port: 80
        timeout: 5s
        includeRequestBodyInCheck: { maxRequestBytes: 16, allowPartialMessage: true }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: payment, namespace: istio-system }
spec:
  action: CUSTOM
  provider: { name: payment }
  rules: [{ to: [{ operation: { paths: ["/paid*"] } }] }]
"#;

async fn ask(edge: &Edge, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = Request { method: "POST".to_owned(), ..Request::get("app.example", path) };
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body = Some(body.as_bytes().to_vec());
    Client::connect(edge.http, None, false).await.unwrap().0.send(&request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorizer_that_speaks_grpc_decides() {
    let questions = Arc::<Mutex<Vec<u8>>>::default();
    let authorizer = authorizer(Arc::clone(&questions)).await;
    let app = Backend::echo("app").await.unwrap();
    let hosts = [("app.example", app.address, "http"), ("authz.example", authorizer.address, "grpc")];
    let edge = Edge::start(&hosts).await.unwrap();
    edge.write("policy.yaml", POLICY).unwrap();
    edge.wait_for("app.example", "/paid", |answer| answer.status == 402).await.unwrap();

    // Let through: the request is whole, and changed as the authorizer says.
    let long = "a body that is longer than what the authorizer is shown of it";
    let answer = ask(&edge, "/paid?q", &[("x-pay", "yes"), ("x-secret", "s"), ("x-user", "forged")], long).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-checked"), Some("yes"));
    let saw = app.last().unwrap();
    assert_eq!(saw.body, long);
    let lines = |name: &str| {
        saw.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value).collect::<Vec<_>>()
    };
    assert_eq!(lines("x-user"), ["jason"]);
    assert_eq!(lines("x-secret"), [""; 0]);
    let question = questions.lock().unwrap().clone();
    for part in
        [&field(4, b"/paid?q"), &field(2, b"POST"), &field(5, b"app.example"), &field(11, &long.as_bytes()[..16])]
    {
        assert!(contains(&question, part), "{question:?} lacks {part:?}");
    }
    assert!(contains(&question, &[field(1, b"x-envoy-auth-partial-body"), field(2, b"true")].concat()));

    // Refused in the authorizer's words, and nothing of it at the app.
    let before = app.requests();
    let answer = ask(&edge, "/paid", &[], "short").await;
    assert_eq!((answer.status, answer.text().as_str()), (402, "pay first"));
    assert_eq!(answer.header("x-why"), Some("poor"));
    assert_eq!(app.requests(), before);

    // Not asked about other paths.
    questions.lock().unwrap().clear();
    assert_eq!(ask(&edge, "/free", &[], "").await.status, 200);
    assert!(questions.lock().unwrap().is_empty());

    // Gone: nothing is let through.
    drop(authorizer);
    edge.wait_for("app.example", "/paid", |answer| answer.status == 403).await.unwrap();
    assert_eq!(ask(&edge, "/paid", &[("x-pay", "yes")], "").await.status, 403);
    assert_eq!(ask(&edge, "/free", &[], "").await.status, 200);
}

/// What a client writes must not keep the question from being asked, nor may it wait for whom it asks to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_past_by_what_he_writes() {
    let questions = Arc::<Mutex<Vec<u8>>>::default();
    let authorizer = authorizer(Arc::clone(&questions)).await;
    let app = Backend::echo("app").await.unwrap();
    let hosts = [("app.example", app.address, "http"), ("authz.example", authorizer.address, "grpc")];
    let edge = Edge::start(&hosts).await.unwrap();
    let open = POLICY.replace("timeout: 5s", "timeout: 5s\n        failOpen: true");
    edge.write("policy.yaml", &open).unwrap();
    edge.wait_for("app.example", "/paid", |answer| answer.status == 402).await.unwrap();
    let send = |text: &'static str| {
        let address = edge.http;
        async move {
            let mut client = H1::new(client::connect(address, None).await.unwrap().0);
            client.write(text.as_bytes()).await.unwrap();
            client.read_response("POST").await.unwrap()
        }
    };
    // Such a host cannot be said in HTTP/2.
    let answer = send("POST /paid HTTP/1.1\r\nHost: app%41.example\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(answer.status, 402, "{answer:?}");

    let mut client = H1::new(client::connect(edge.http, None).await.unwrap().0);
    let head =
        "POST /paid HTTP/1.1\r\nHost: app.example\r\nx-pay: yes\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.write(head.as_bytes()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 100);
    client.write(b"some").await.unwrap();
    assert_eq!(client.read_response("POST").await.unwrap().status, 200);
    assert_eq!(app.last().unwrap().body, "some");

    // Gone: this provider lets everything through then.
    drop(authorizer);
    edge.wait_for("app.example", "/paid", |answer| answer.status == 200).await.unwrap();
}

/// Policies of two providers match: both are asked, and either refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_is_asked() {
    let questions = Arc::<Mutex<Vec<u8>>>::default();
    let authorizer = authorizer(Arc::clone(&questions)).await;
    let app = Backend::echo("app").await.unwrap();
    let second = Backend::echo("second").await.unwrap();
    let hosts = [
        ("app.example", app.address, "http"),
        ("authz.example", authorizer.address, "grpc"),
        ("second.example", second.address, "http"),
    ];
    let edge = Edge::start(&hosts).await.unwrap();
    let provider = "    - name: aa\n      envoyExtAuthzHttp: { service: second-example.internal, port: 80 }\n---";
    let policy = "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: aa, namespace: istio-system }\n\
        spec: { action: CUSTOM, provider: { name: aa }, rules: [{}] }\n";
    edge.write("policy.yaml", &(POLICY.replacen("---", provider, 1) + policy)).unwrap();
    edge.wait_for("app.example", "/paid", |answer| answer.status == 402).await.unwrap();
    assert!(second.requests() > 0);
    let before = second.requests();
    assert_eq!(ask(&edge, "/free", &[], "").await.status, 200);
    assert_eq!(second.requests(), before + 1);
}

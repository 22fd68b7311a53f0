//! The engine between a raw client and raw backends, over loopback sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Request;
use mesh_core::compile::compile;
use mesh_core::lb::{Balancer, EndpointSet};
use mesh_core::model::*;
use mesh_core::object::ObjectRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Engine;
use crate::http::Settings;
use crate::listen::{Connection, ConnectionHandler, ConnectionInfo, Retired};
use crate::live::{Cells, Live, LiveCluster};
use crate::observe::Observer;
use crate::upstream::Pools;

const PATIENCE: Duration = Duration::from_secs(10);

fn origin() -> ObjectRef {
    ObjectRef::new("VirtualService", "default", "t")
}

struct Rig {
    engine: Arc<Engine>,
    cells: Arc<Cells>,
    drain: watch::Sender<bool>,
    retired: Retired,
}

fn rule(path: &str, forward: Forward) -> Rule {
    Rule {
        source: RuleSource { object: origin(), http: 0, r#match: None },
        name: None,
        predicate: Predicate {
            path: PathMatch::Prefix { value: path.to_owned(), ignore_case: false },
            ..Predicate::default()
        },
        action: Arc::new(Action::Forward(forward)),
        headers: Arc::default(),
    }
}

fn forward_to(destination: DestinationRef) -> Forward {
    Forward {
        splits: vec![Split { destination, weight: 1, headers: Arc::default() }],
        rewrite: Rewrite::default(),
        timeout: None,
        retry: RetryPolicy { attempts: 2, connect_failure: true, refused_stream: true },
    }
}

impl Rig {
    /// `/nc` has no cluster, `/uh` no endpoint, `/slow` 200 ms; everything else goes to `backends`.
    fn new(backends: &[SocketAddr], protocol: UpstreamProtocol) -> Rig {
        let key: Key = "outbound|80||b.default.svc.cluster.local".into();
        let empty: Key = "outbound|80||none.default.svc.cluster.local".into();
        let slow =
            Forward { timeout: Some(Duration::from_millis(200)), ..forward_to(DestinationRef::Known(key.clone())) };
        let rules = vec![
            rule("/nc", forward_to(DestinationRef::Unknown("outbound|80||x".into()))),
            rule("/uh", forward_to(DestinationRef::Known(empty.clone()))),
            rule("/slow", slow),
            rule("/", forward_to(DestinationRef::Known(key.clone()))),
        ];
        let host = VirtualHost {
            host: HostPattern::Exact("x.example".into()),
            https_redirect: false,
            rules,
            origin: origin(),
        };
        let routes = RouteSet { key: "http.80".into(), virtual_hosts: vec![Arc::new(host)], origin: origin() };
        let listener = Listener {
            key: "l".into(),
            address: "127.0.0.1:80".parse().unwrap(),
            port: 80,
            protocol: ListenerProtocol::Http { routes: "http.80".into() },
            path_normalization: PathNormalization::Base,
            origin: origin(),
        };
        let destination = |key: &Key| Destination {
            key: key.clone(),
            host: "b".into(),
            service_name: "b".into(),
            service_namespace: "default".into(),
            port: 80,
            subset: None,
            protocol,
            balancing: Balancing::RoundRobin,
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(60),
            origin: origin(),
            rule: None,
        };
        let set = ResourceSet {
            listeners: BTreeMap::from([(listener.key.clone(), Arc::new(listener))]),
            routes: BTreeMap::from([(routes.key.clone(), Arc::new(routes))]),
            destinations: [&key, &empty].into_iter().map(|key| (key.clone(), Arc::new(destination(key)))).collect(),
            ..ResourceSet::default()
        };
        let compiled = compile(&set, None, 1);
        let clusters = compiled
            .snapshot
            .clusters
            .iter()
            .enumerate()
            .map(|(id, destination)| {
                let addresses: &[SocketAddr] = if destination.key == key { backends } else { &[] };
                let endpoints: Vec<_> = addresses.iter().map(|address| (endpoint(*address), *address)).collect();
                Arc::new(LiveCluster {
                    destination: destination.clone(),
                    endpoints: Arc::new(ArcSwap::from_pointee(EndpointSet::build(&endpoints, None))),
                    balancer: Arc::new(Balancer::new(Balancing::RoundRobin)),
                    id: id as u64,
                })
            })
            .collect();
        let cells = Arc::new(Cells::default());
        cells.live.store(Arc::new(Live { snapshot: Arc::new(compiled.snapshot), clusters }));
        let settings = Settings { head_timeout: Duration::from_millis(500), ..Settings::default() };
        let engine = Engine::new(cells.clone(), Pools::new(), Arc::new(Observer::default()), Arc::new(settings));
        Rig { engine: Arc::new(engine), cells, drain: watch::Sender::new(false), retired: Retired::default() }
    }

    /// A client's end of a connection that the engine serves.
    async fn connect(&self, h2: bool) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).await.unwrap();
        let (io, peer) = listener.accept().await.unwrap();
        let mut connection = Connection::plain(io);
        if h2 {
            connection.set_alpn(pingora_core::protocols::ALPN::H2);
        }
        let info = ConnectionInfo {
            id: 1,
            peer,
            local,
            listener: "l".into(),
            listener_port: 80,
            tls: None,
            retired: self.retired.clone(),
        };
        let engine = self.engine.clone();
        tokio::spawn(engine.handle(connection.into_stream(), Arc::new(info), self.drain.subscribe()));
        client
    }

    /// Sends text, half-closes, reads everything.
    async fn ask(&self, text: &str) -> String {
        let mut client = self.connect(false).await;
        client.write_all(text.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address: EndpointAddress::Socket(address), weight: 1, locality: "".into(), workload: None }
}

/// A backend that answers every connection with `answer` after a head was read, then closes.
async fn raw_backend(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = read_head(&mut io).await;
                let _ = io.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

async fn read_head(io: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A backend on hyper that echoes: body back, request head as `x-saw-*`, trailers back.
async fn echo_backend() -> SocketAddr {
    use http_body_util::BodyExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                let (parts, body) = request.into_parts();
                let saw = |name: &str| parts.headers.get(name).cloned();
                let mut response = http::Response::builder();
                for name in ["x-forwarded-for", "x-forwarded-proto", "host", "x-envoy-attempt-count"] {
                    if let Some(value) = saw(name) {
                        response = response.header(format!("x-saw-{name}"), value);
                    }
                }
                response.header("x-saw-target", parts.uri.to_string()).body(body.map_err(std::io::Error::other))
            });
            tokio::spawn(async move {
                let executor = hyper_util::rt::TokioExecutor::new();
                let io = hyper_util::rt::TokioIo::new(io);
                let _ = hyper_util::server::conn::auto::Builder::new(executor).serve_connection(io, service).await;
            });
        }
    });
    address
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x.example\r\n\r\n")
}

#[tokio::test]
async fn a_request_passes_with_the_gateways_headers() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let answer = rig.ask(&get("/a/../b?x=/../y")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for line in [
        "server: istio-envoy",
        "x-saw-target: /b?x=/../y",
        "x-saw-host: x.example",
        "x-saw-x-forwarded-for: 127.0.0.1",
        "x-saw-x-forwarded-proto: http",
        "x-saw-x-envoy-attempt-count: 1",
        "x-envoy-upstream-service-time: ",
    ] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
}

#[tokio::test]
async fn the_error_contract() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rig = Rig::new(&[refused], UpstreamProtocol::Http1);
    for (path, status, body) in [
        ("/nc", "503 Service Unavailable", ""),
        ("/uh", "503 Service Unavailable", "no healthy upstream"),
        (
            "/",
            "503 Service Unavailable",
            "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
             remote connection failure",
        ),
    ] {
        let answer = rig.ask(&get(path)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{path}: {answer}");
    }
    let answer = rig.ask("GET / HTTP/1.1\r\nHost: other\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.contains("content-length: 0"), "{answer}");
}

#[tokio::test]
async fn upstreams_that_break() {
    for (answer, expected) in [
        ("", "HTTP/1.1 503 "),
        ("garbage\r\n\r\n", "HTTP/1.1 502 "),
        ("HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 502 "),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", "HTTP/1.1 502 "),
    ] {
        let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
        let got = rig.ask(&get("/")).await;
        assert!(got.starts_with(expected), "{answer:?}: {got}");
    }
    // Cut inside the body: the head passes, and the client can tell that the body is short.
    let rig = Rig::new(
        &[raw_backend("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await],
        UpstreamProtocol::Http1,
    );
    let got = rig.ask(&get("/")).await;
    assert!(got.contains("2\r\nok\r\n") && !got.contains("\r\n0\r\n"), "{got}");
}

#[tokio::test]
async fn a_body_without_length_is_chunked_and_trailers_need_te() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n";
    let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
    let without = rig.ask(&get("/")).await;
    assert!(without.ends_with("2\r\nok\r\n0\r\n\r\n"), "{without}");
    let with = rig.ask("GET / HTTP/1.1\r\nHost: x.example\r\nTE: trailers\r\nConnection: te\r\n\r\n").await;
    assert!(with.ends_with("0\r\nx-t: 1\r\n\r\n"), "{with}");
    let rig = Rig::new(&[raw_backend("HTTP/1.1 200 OK\r\n\r\nuntil close").await], UpstreamProtocol::Http1);
    let answer = rig.ask(&get("/")).await;
    assert!(answer.ends_with("b\r\nuntil close\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn interim_answers_pass_and_an_unasked_101_does_not() {
    let answer =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nkeep-alive: timeout=5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
    let got = rig.ask(&get("/")).await;
    assert!(got.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 "), "{got}");
    let rig = Rig::new(&[raw_backend("HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n").await], UpstreamProtocol::Http1);
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        let head = read_head(&mut io).await.unwrap();
        assert!(head.contains("connection: Upgrade\r\n") && head.contains("upgrade: WebSocket\r\n"), "{head}");
        io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi")
            .await
            .unwrap();
        let mut buffer = [0; 64];
        loop {
            let n = io.read(&mut buffer).await.unwrap();
            if n == 0 {
                return;
            }
            io.write_all(&buffer[..n]).await.unwrap();
        }
    });
    let rig = Rig::new(&[address], UpstreamProtocol::Http1);
    let request = "GET /ws HTTP/1.1\r\nHost: x.example\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nearly";
    let answer = rig.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("upgrade: websocket\r\n") && answer.ends_with("\r\n\r\nhiearly"), "{answer}");
    let refused = rig.ask("GET / HTTP/1.1\r\nHost: x.example\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("connection: close"), "{refused}");
}

#[tokio::test]
async fn requests_share_a_connection_and_pipelined_ones_are_answered_in_order() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let post = "POST /2 HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\n\r\nhello";
    let answer = rig.ask(&[&get("/1"), post, &get("/3")].concat()).await;
    let at = |text: &str| answer.find(text).unwrap_or_else(|| panic!("{text} in {answer}"));
    assert!(at("target: /1") < at("target: /2") && at("target: /2") < at("hello") && at("hello") < at("target: /3"));
}

#[tokio::test]
async fn a_timeout_is_504_and_a_slow_head_408() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new(&[listener.local_addr().unwrap()], UpstreamProtocol::Http1);
    let answer = rig.ask(&get("/slow")).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("upstream request timeout"), "{answer}");
    let mut client = rig.connect(false).await;
    client.write_all(b"GET / HT").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_dead_idle_connection_is_replaced_without_a_word() {
    // Serves one request per connection, keeps it open as if it lived, and closes when the next begins.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = read_head(&mut io).await;
                let _ = io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _ = io.read_u8().await;
            });
        }
    });
    let rig = Rig::new(&[address], UpstreamProtocol::Http1);
    for _ in 0..3 {
        let answer = rig.ask(&get("/")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // Not repeated: the first might have had an effect.
    let answer = rig.ask("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 1\r\n\r\nx").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn an_empty_chunked_body_is_complete_in_the_second_try_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let head = read_head(&mut io).await.unwrap();
                if head.contains("chunked") {
                    assert_eq!(read_head(&mut io).await.unwrap(), "0\r\n\r\n");
                }
                let _ = io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _ = io.read_u8().await;
            });
        }
    });
    let rig = Rig::new(&[address], UpstreamProtocol::Http1);
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 200 "));
    let put = "PUT / HTTP/1.1\r\nHost: x.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(rig.ask(put).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn large_bodies_flow_both_ways() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let mut client = rig.connect(false).await;
    const SIZE: usize = 8 << 20;
    let (mut reader, mut writer) = client.split();
    let send = async {
        let head = format!("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: {SIZE}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..SIZE / 65536 {
            writer.write_all(&[7; 65536]).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let receive = reader.read_to_end(&mut answer);
    let ((), read) = tokio::time::timeout(PATIENCE, async { tokio::join!(send, receive) }).await.unwrap();
    read.unwrap();
    assert_eq!(answer.iter().filter(|byte| **byte == 7).count(), SIZE);
}

async fn h2_client(rig: &Rig) -> h2::client::SendRequest<Bytes> {
    let io = rig.connect(true).await;
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

#[tokio::test]
async fn connections_of_a_removed_listener_are_served_as_before() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let before = rig.cells.live.swap(Arc::default());
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 404 "));
    rig.retired.store(before);
    assert!(rig.ask(&get("/")).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn http2_streams_and_trailers_pass() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::post("http://x.example/grpc").header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(&[0, 0, 0, 0, 1, 9]), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    body.send_trailers(trailers).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), Bytes::from_static(&[0, 0, 0, 0, 1, 9]));
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
}

/// Answers one HTTP/2 stream with 200 and these headers, and leaves the rest to the test.
async fn one_stream(headers: &'static [(&'static str, &'static str)]) -> (SocketAddr, Streams) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (give, streams) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut response = http::Response::builder();
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            let _ = give.send(respond.send_response(response.body(()).unwrap(), false).unwrap());
        }
    });
    (address, streams)
}

type Streams = tokio::sync::mpsc::UnboundedReceiver<h2::SendStream<Bytes>>;

#[tokio::test]
async fn a_cancelled_stream_is_cancelled_upstream_although_the_answer_is_quiet() {
    let (address, mut streams) = one_stream(&[]).await;
    let rig = Rig::new(&[address], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::get("http://x.example/watch").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    let mut upstream = streams.recv().await.unwrap();
    drop(response);
    let reset = tokio::time::timeout(PATIENCE, std::future::poll_fn(|cx| upstream.poll_reset(cx))).await;
    assert_eq!(reset.unwrap().unwrap(), h2::Reason::CANCEL);
}

#[tokio::test]
async fn an_answer_of_length_zero_may_end_after_its_head() {
    let (address, mut streams) = one_stream(&[("content-length", "0")]).await;
    let rig = Rig::new(&[address], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::get("http://x.example/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.headers()["content-length"], "0");
    streams.recv().await.unwrap().send_data(Bytes::new(), true).unwrap();
    let mut body = response.into_body();
    while let Some(data) = tokio::time::timeout(PATIENCE, body.data()).await.unwrap() {
        assert!(data.unwrap().is_empty());
    }
    assert!(body.trailers().await.unwrap().is_none());
}

#[tokio::test]
async fn an_http2_client_gets_what_came_before_the_cut() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
    let mut client = h2_client(&rig).await;
    let (response, _) = client.send_request(Request::get("http://x.example/").body(()).unwrap(), true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), Bytes::from_static(b"ok"));
    assert!(body.data().await.unwrap().unwrap_err().is_reset());
}

#[tokio::test]
async fn grpc_clients_get_grpc_statuses() {
    let rig = Rig::new(&[], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::post("http://x.example/uh").header("content-type", "application/grpc").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("grpc-status").unwrap(), "14");
    assert_eq!(response.headers().get("grpc-message").unwrap(), "no healthy upstream");
}

#[tokio::test]
async fn draining_ends_idle_connections_and_finishes_running_ones() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let mut client = rig.connect(false).await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    let n = client.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..n]).starts_with("HTTP/1.1 200 "));
    let mut second = h2_client(&rig).await;
    rig.drain.send_replace(true);
    assert_eq!(tokio::time::timeout(PATIENCE, client.read(&mut buffer)).await.unwrap().unwrap(), 0);
    let gone = tokio::time::timeout(PATIENCE, async {
        loop {
            match std::future::poll_fn(|cx| second.poll_ready(cx)).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    });
    assert!(gone.await.is_ok());
    let late = rig.ask(&get("/")).await;
    assert!(late.starts_with("HTTP/1.1 200 ") && late.contains("connection: close"), "{late}");
}

#[tokio::test]
async fn an_http2_connection_goes_when_it_was_not_used_and_not_before() {
    let mut rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http1);
    let idle = Duration::from_millis(100);
    let settings = Settings { idle_timeout: idle, ..Settings::default() };
    let engine = Engine::new(rig.engine.cells.clone(), Pools::new(), Arc::default(), Arc::new(settings));
    rig.engine = Arc::new(engine);
    let mut client = h2_client(&rig).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < idle * 4 {
        let (response, _) = client.send_request(Request::get("http://x.example/").body(()).unwrap(), true).unwrap();
        let body = response.await.unwrap().into_body();
        drop(body);
        std::future::poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    }
    let gone = async {
        while std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    // At least a second passes until the next look.
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_begins_while_draining_says_that_it_is_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new(&[listener.local_addr().unwrap()], UpstreamProtocol::Http1);
    let mut client = rig.connect(false).await;
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (mut io, _) = listener.accept().await.unwrap();
    read_head(&mut io).await.unwrap();
    rig.drain.send_replace(true);
    io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok"), "{answer}");
}

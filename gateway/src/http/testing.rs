//! For tests: the engine between a raw client and raw backends, over loopback sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Request;
use mesh_core::compile::compile;
use mesh_core::lb::{Balancer, Breaker, EndpointSet, Shape};
use mesh_core::model::*;
use mesh_core::object::ObjectRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Engine, Settings};
use crate::listen::{Connection, ConnectionHandler, ConnectionInfo, Retired};
use crate::live::{Cells, Live, LiveCluster, TokenRules};
use crate::observe::Observer;
use crate::upstream::Pools;

pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn origin() -> ObjectRef {
    ObjectRef::new("VirtualService", "default", "t")
}

pub struct Rig {
    pub engine: Arc<Engine>,
    pub cells: Arc<Cells>,
    pub drain: watch::Sender<bool>,
    pub retired: Retired,
}

pub fn rule(path: &str, forward: Forward) -> Rule {
    Rule {
        source: RuleSource { object: origin(), http: 0, r#match: None },
        name: None,
        stat_prefix: None,
        predicate: Predicate {
            path: PathMatch::Prefix { value: path.to_owned(), ignore_case: false },
            ..Predicate::default()
        },
        action: Arc::new(Action::Forward(forward)),
        headers: Arc::default(),
    }
}

pub fn forward_to(destination: DestinationRef) -> Forward {
    Forward {
        splits: vec![Split { destination, weight: 1, headers: Arc::default() }],
        rewrite: Rewrite::default(),
        timeout: None,
        retry: Arc::new(RetryPolicy {
            attempts: 2,
            on: RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM,
            ..RetryPolicy::default()
        }),
        fault: None,
        mirrors: Vec::new(),
        cors: None,
    }
}

impl Rig {
    /// `/nc` has no cluster, `/uh` no endpoint, `/slow` 200 ms; everything else goes to `backends`.
    pub fn new(backends: &[SocketAddr], protocol: UpstreamProtocol) -> Rig {
        Self::with_mirror(backends, protocol, &[])
    }

    /// The same, with another policy where everything else goes.
    pub fn with_retries(backends: &[SocketAddr], protocol: UpstreamProtocol, retry: RetryPolicy) -> Rig {
        Self::made(backends, protocol, &[], Some(retry))
    }

    /// The same, and copies of requests for `/copied` go to `aside`.
    pub fn with_mirror(backends: &[SocketAddr], protocol: UpstreamProtocol, aside: &[SocketAddr]) -> Rig {
        Self::made(backends, protocol, aside, None)
    }

    fn made(
        backends: &[SocketAddr],
        protocol: UpstreamProtocol,
        aside: &[SocketAddr],
        retry: Option<RetryPolicy>,
    ) -> Rig {
        let key: Key = "outbound|80||b.default.svc.cluster.local".into();
        let empty: Key = "outbound|80||none.default.svc.cluster.local".into();
        let mirror: Key = "outbound|80||aside.default.svc.cluster.local".into();
        let copied = Forward {
            mirrors: vec![Mirror { destination: DestinationRef::Known(mirror.clone()), share: Share::ALL }],
            ..forward_to(DestinationRef::Known(key.clone()))
        };
        let slow =
            Forward { timeout: Some(Duration::from_millis(200)), ..forward_to(DestinationRef::Known(key.clone())) };
        let mut rest = forward_to(DestinationRef::Known(key.clone()));
        rest.retry = retry.map_or(rest.retry, Arc::new);
        let rules = vec![
            rule("/nc", forward_to(DestinationRef::Unknown("outbound|80||x".into()))),
            rule("/uh", forward_to(DestinationRef::Known(empty.clone()))),
            rule("/slow", slow),
            rule("/copied", copied),
            rule("/", rest),
        ];
        let host = VirtualHost {
            host: HostPattern::Exact("x.example".into()),
            aliases: Vec::new(),
            https_redirect: false,
            rules,
            origin: origin(),
        };
        let routes =
            RouteSet { key: "http.80".into(), virtual_hosts: vec![Arc::new(host)], tcp: Vec::new(), origin: origin() };
        let listener = Listener {
            key: "l".into(),
            address: "127.0.0.1:80".parse().unwrap(),
            port: 80,
            protocol: ListenerProtocol::Http { routes: "http.80".into() },
            path_normalization: PathNormalization::Base,
            origin: origin(),
            server: None,
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
            locality: None,
            warmup: None,
            outlier: None,
            tls: UpstreamTls::Auto,
            limits: Default::default(),
            connections: Default::default(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(60),
            reach: Reach::Discovered,
            origin: origin(),
            rule: None,
        };
        let set = ResourceSet {
            listeners: Resources::from_iter([(listener.key.clone(), Arc::new(listener))]),
            routes: Resources::from_iter([(routes.key.clone(), Arc::new(routes))]),
            destinations: [&key, &empty, &mirror]
                .into_iter()
                .map(|key| (key.clone(), Arc::new(destination(key))))
                .collect(),
            ..ResourceSet::default()
        };
        let compiled = compile(&set, None, 1);
        let clusters = compiled
            .snapshot
            .clusters
            .iter()
            .enumerate()
            .map(|(id, destination)| {
                let addresses = match &destination.key {
                    one if *one == key => backends,
                    one if *one == mirror => aside,
                    _ => &[],
                };
                let endpoints: Vec<_> = addresses.iter().map(|address| (endpoint(*address), *address)).collect();
                Arc::new(LiveCluster {
                    destination: destination.clone(),
                    endpoints: Arc::new(ArcSwap::from_pointee(EndpointSet::build(
                        &endpoints,
                        None,
                        &Shape::default(),
                        std::time::Instant::now(),
                    ))),
                    balancer: Arc::new(Balancer::new(Balancing::RoundRobin)),
                    origination: None,
                    names: None,
                    breaker: None,
                    outliers: None,
                    id: id as u64,
                })
            })
            .collect();
        let cells = Arc::new(Cells::default());
        cells.live.store(Arc::new(Live {
            limits: compiled.snapshot.rate_limiter.counts(&[], std::hash::RandomState::new, None),
            snapshot: Arc::new(compiled.snapshot),
            clusters,
            tokens: TokenRules::default(),
        }));
        let settings = Settings { head_timeout: Duration::from_millis(500), ..Settings::default() };
        let engine = Engine::new(cells.clone(), Pools::new(), Arc::new(Observer::default()), Arc::new(settings));
        Rig { engine: Arc::new(engine), cells, drain: watch::Sender::new(false), retired: Retired::default() }
    }

    /// A client's end of a connection that the engine serves.
    pub async fn connect(&self, h2: bool) -> TcpStream {
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
            client: peer,
            local,
            listener: "l".into(),
            listener_port: 80,
            tls: None,
            bytes: false,
            server_name: None,
            captured: None,
            retired: self.retired.clone(),
        };
        let engine = self.engine.clone();
        tokio::spawn(engine.handle(connection.into_stream(), Arc::new(info), self.drain.subscribe()));
        client
    }

    /// Gives every destination these limits.
    pub fn limit(&self, limits: &Limits) -> Arc<Breaker> {
        let breaker = Arc::<Breaker>::default();
        let live = self.cells.live.load();
        let limited = live.clusters.iter().map(|plain| {
            Arc::new(LiveCluster {
                destination: Arc::new(Destination { limits: limits.clone(), ..Destination::clone(&plain.destination) }),
                endpoints: plain.endpoints.clone(),
                balancer: plain.balancer.clone(),
                origination: None,
                names: None,
                breaker: Some(breaker.clone()),
                outliers: None,
                id: plain.id,
            })
        });
        let clusters = limited.collect();
        let live =
            Live { snapshot: live.snapshot.clone(), clusters, tokens: TokenRules::default(), limits: Vec::new() };
        self.cells.live.store(Arc::new(live));
        breaker
    }

    /// Sends text, half-closes, reads everything.
    pub async fn ask(&self, text: &str) -> String {
        let mut client = self.connect(false).await;
        client.write_all(text.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Socket(address),
        weight: 1,
        locality: "".into(),
        workload: None,
        mtls: false,
        priority_labels: None,
    }
}

/// A backend that answers every connection with `answer` after a head was read, then closes.
pub async fn raw_backend(answer: &'static str) -> SocketAddr {
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

pub async fn read_head(io: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A backend on hyper that echoes: body back, request head as `x-saw-*`, trailers back.
pub async fn echo_backend() -> SocketAddr {
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

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x.example\r\n\r\n")
}

pub async fn h2_client(rig: &Rig) -> h2::client::SendRequest<Bytes> {
    let io = rig.connect(true).await;
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

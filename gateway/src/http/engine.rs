//! The engine: the life of a request, from its head to its record. Two connection loops (`h1_connection`,
//! `h2_connection`) read heads and call [`Engine::run`]; everything after that is the same for both.
//!
//! head -> snapshot -> authenticate -> route -> authorise -> rate limit -> respond, or pick -> connect -> forward (retried within the same
//! snapshot) -> record

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderValue, Method, StatusCode};
use mesh_core::model::MtlsMode;
use mesh_core::snapshot::{CompiledHeaderOps, CompiledProtocol, Decision, HostTable, https_location};

use pingora_core::apps::ServerApp;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::sync::watch;

use super::authority;
use super::client_cert::CertificateHeader;
use super::exchange::{Exchange, Peer, Protocol, Scheme};
use super::failure::Failure;
use super::forward::Way;
use super::message::Downstream;
use super::mirror::Copies;
use super::{authorize, cors, fault, forwarded, grpc_status, hop_by_hop, jwt, on_demand, rate_limit};
use crate::listen::{ConnectionFuture, ConnectionHandler, ConnectionInfo, Direction};
use crate::live::{Cells, Live};
use crate::observe::Observer;
use crate::peer_metadata::{self, Said};
use crate::tls::challenges;
use crate::upstream::Pools;
use mesh_core::snapshot::path;

use super::settings::Settings;
use super::tunnel::Tunnel;

/// One per worker.
pub struct Engine {
    pub(super) cells: Arc<Cells>,
    pub(super) pools: Arc<Pools>,
    pub(super) observer: Arc<Observer>,
    pub(super) settings: Arc<Settings>,
    /// Copies of requests that are in flight.
    pub(super) copies: Arc<Copies>,
}

/// What the connection loop does next.
pub enum After {
    /// The answer is complete.
    Continue,
    /// The answer is complete, but the connection must end (the request's body was not read, or the client asked for it).
    Close,
    /// The answer is cut: the client must see that.
    Abort,
    /// 101 was answered: bytes flow both ways from here on.
    Tunnel(Box<Tunnel>),
}

/// One client's connection, as Pingora's kind of application: it gets an established stream and a sign to finish.
struct HttpConnection {
    engine: Arc<Engine>,
    info: Arc<ConnectionInfo>,
}

#[async_trait]
impl ServerApp for HttpConnection {
    async fn process_new(self: &Arc<Self>, stream: Stream, drain: &ShutdownWatch) -> Option<Stream> {
        let drain = drain.clone();
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            self.engine.clone().serve_h2(stream, self.info.clone(), drain).await;
        } else {
            self.engine.serve_h1(stream, self.info.clone(), drain).await;
        }
        None
    }
}

impl ConnectionHandler for Engine {
    fn handle(
        self: Arc<Self>,
        stream: Stream,
        info: Arc<ConnectionInfo>,
        drain: watch::Receiver<bool>,
    ) -> ConnectionFuture {
        let connection = Arc::new(HttpConnection { engine: self, info });
        Box::pin(async move {
            connection.process_new(stream, &drain).await;
        })
    }
}

impl Engine {
    pub fn new(cells: Arc<Cells>, pools: Arc<Pools>, observer: Arc<Observer>, settings: Arc<Settings>) -> Self {
        Self { cells, pools, observer, settings, copies: Arc::default() }
    }

    pub(super) fn peer(&self, info: &Arc<ConnectionInfo>) -> Arc<Peer> {
        let topology = **self.cells.topology.load();
        let certificate = match info.direction() {
            None => {
                let peer = info.tls.as_ref().and_then(|tls| tls.peer.as_deref());
                CertificateHeader::of(topology.client_certificates, peer)
            }
            Some(_) => CertificateHeader::Remove,
        };
        let own = info.captured.as_ref().and_then(|_| {
            let workload = self.cells.workload.load();
            workload.last_certificate().map(|certificate| certificate.id.to_string())
        });
        Arc::new(Peer {
            client: forwarded::Client::new(info.client.ip(), info.tls.is_some(), certificate, topology.trusted_proxies),
            info: info.clone(),
            hostname: self.settings.hostname.clone(),
            own: own.unwrap_or_default().into(),
            said: Said::default(),
        })
    }

    /// Whether the access log will ask for headers of the answer.
    pub(super) fn keeps_response_headers(&self) -> bool {
        self.observer.wants_response_headers()
    }

    /// Answers one request and says what becomes of the connection. The caller records the exchange afterwards.
    pub(super) async fn run<D: Downstream>(self: &Arc<Self>, exchange: &mut Exchange, client: &mut D) -> After {
        if exchange.head.target.starts_with(challenges::PATH)
            && let Some(text) = self.challenge(exchange)
        {
            return self.answer(StatusCode::OK, text.as_bytes(), None, None, exchange, client).await;
        }
        let Some(_place) = self.settings.room.enter() else {
            return self.fail(&Failure::Overload, None, exchange, client).await;
        };
        let now = self.now(&exchange.peer.info);
        let later: Arc<Live>;
        let mut live: &Arc<Live> = &now;
        exchange.outcome.generation = live.snapshot.generation;
        let mut accepted = accept(exchange, live);
        if accepted.is_ok() && on_demand::lacks(live, exchange).is_some() {
            accepted = match on_demand::ask(&self.cells, exchange).await {
                Ok(()) => {
                    later = self.now(&exchange.peer.info);
                    live = &later;
                    exchange.outcome.generation = live.snapshot.generation;
                    routes(live, exchange)
                }
                Err(failure) => Err(failure),
            };
        }
        let table = match accepted {
            Ok(table) => table,
            Err(failure) => return self.fail(&failure, None, exchange, client).await,
        };
        // Before the route, for rules may look at claims; what the route adds to answers is added to a refusal, too.
        let authentic = match exchange.peer.info.direction() {
            // Its own requests are no affair of a workload's policies.
            Some(Direction::Outbound) => Ok(()),
            Some(Direction::Inbound) | None => match self.ask_authorizer(live, exchange, client).await {
                Ok(()) => jwt::authenticate(&live.tokens, exchange).await,
                Err(failure) => Err(failure),
            },
        };
        let decision = table.route(&exchange.request(), &mut |below| fastrand::u32(..below.max(1)));
        let allowed = authentic.and_then(|()| authorize::authorize(&live.snapshot.authorizer, exchange));
        match allowed.and_then(|()| rate_limit::count(live, exchange)) {
            Ok(()) => self.act(live, decision, exchange, client).await,
            Err(failure) => {
                let ops = note_route(&decision, exchange);
                self.fail(&failure, ops, exchange, client).await
            }
        }
    }

    /// What a CA is shown that looks whether a name is served here, before any rule: a redirect to https would lead it to where no
    /// certificate is yet (RFC 8555 section 8.3). Every other token goes the ordinary way.
    fn challenge(&self, exchange: &Exchange) -> Option<Arc<str>> {
        let is_asked = matches!(exchange.head.method, Method::GET | Method::HEAD);
        let is_edge = exchange.peer.info.direction().is_none();
        self.cells.challenges.file(&exchange.head.target).filter(|_| is_asked && is_edge)
    }

    /// The tables of this moment. A listener that is no longer in them serves its last clients as it was.
    fn now(&self, info: &ConnectionInfo) -> Arc<Live> {
        let live = self.cells.live.load_full();
        if live.snapshot.listeners.contains_key(&info.listener) {
            return live;
        }
        info.retired.load().unwrap_or(live)
    }

    async fn act<D: Downstream>(
        self: &Arc<Self>,
        live: &Live,
        decision: Decision<'_>,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        match decision {
            Decision::Forward { rule, forward, split, cluster, clusters } => {
                exchange.note_rule(rule);
                exchange.outcome.cluster_name = Some(split.key.clone());
                let cluster = cluster.and_then(|index| live.cluster(index));
                exchange.outcome.cluster = cluster.cloned();
                if let Some(fault) = &forward.fault
                    && let Err(failure) = fault::inject(fault, exchange, client).await
                {
                    return self.fail(&failure, Some(&split.headers), exchange, client).await;
                }
                if let Some(policy) = &forward.cors
                    && let Some(headers) = cors::rule(policy, exchange)
                {
                    return self.answer_preflight(headers, exchange, client).await;
                }
                let Some(cluster) = cluster else {
                    return self.fail(&Failure::ClusterNotFound, Some(&split.headers), exchange, client).await;
                };
                let way = Way { live, rule, forward, split, clusters };
                self.forward(&way, cluster, exchange, client).await
            }
            Decision::Redirect { rule, redirect } => {
                exchange.note_rule(rule);
                let location = rule.location(redirect, &exchange.request(), exchange.peer.info.listener_port);
                self.redirect(redirect.status, &location, Some(&rule.headers), exchange, client).await
            }
            Decision::HttpsRedirect => {
                let location = https_location(&exchange.request());
                self.redirect(301, &location, None, exchange, client).await
            }
            Decision::Respond { rule, response } => {
                exchange.note_rule(rule);
                self.respond(response, &rule.headers, exchange, client).await
            }
            Decision::NoRoute => self.fail(&Failure::NoRoute, None, exchange, client).await,
        }
    }

    async fn redirect<D: Downstream>(
        &self,
        status: u16,
        location: &str,
        ops: Option<&CompiledHeaderOps>,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        let location = HeaderValue::from_str(location).ok();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
        self.answer(status, b"", location, ops, exchange, client).await
    }
}

/// Makes the request canonical and trustworthy and finds its routes.
fn accept<'l>(exchange: &mut Exchange, live: &'l Live) -> Result<&'l HostTable, Failure> {
    check_method(exchange)?;
    let upgrade = hop_by_hop::clean_request(&mut exchange.head.headers)
        .map_err(|error| Failure::BadRequest { status: 400, detail: error.detail() })?;
    if let Some(upgrade) = upgrade {
        accept_upgrade(exchange, &upgrade)?;
    }
    accept_authority(exchange)?;
    accept_forwarded(exchange);
    exchange.grpc = grpc_status::is_grpc(&exchange.head.headers);

    let Some(listener) = live.snapshot.listeners.get(&exchange.peer.info.listener) else {
        return Err(Failure::NoRoute);
    };
    let head = &mut exchange.head;
    match path::normalize(&head.target, listener.listener.path_normalization) {
        Ok(std::borrow::Cow::Borrowed(same)) if same.len() == head.target.len() => {}
        Ok(normal) => head.target = normal.into_owned(),
        Err(_) => return Err(Failure::BadPath),
    }
    table(&listener.protocol, exchange)
}

/// The codec of HTTP/1 looked at it already; only HTTP/1.0 may leave it out there.
fn accept_authority(exchange: &Exchange) -> Result<(), Failure> {
    let head = &exchange.head;
    if head.protocol == Protocol::Http2 || head.authority.is_empty() {
        authority::parse(head.authority.as_bytes())
            .map_err(|error| Failure::BadRequest { status: 400, detail: error.detail() })?;
    }
    Ok(())
}

fn accept_forwarded(exchange: &mut Exchange) {
    let (headers, peer) = (&mut exchange.head.headers, &exchange.peer);
    let client = match peer.info.direction() {
        None => forwarded::accept(headers, &peer.client),
        Some(Direction::Outbound) => forwarded::accept_outbound(headers, &peer.client),
        Some(Direction::Inbound) => {
            let said = peer_metadata::said(headers);
            let known = peer.mesh_identity().map(Arc::as_ref);
            exchange.tells = said && known.is_some();
            let before = || peer.info.tls.as_ref().and_then(|tls| tls.workload.clone());
            exchange.workload = peer.said.take(headers, known).or_else(before);
            forwarded::accept_inbound(headers, &peer.client, &peer.own, peer.identity().map(Arc::as_ref))
        }
    };
    (exchange.https, exchange.remote) = (client.https, client.address);
}

/// The routes for a request that was accepted.
fn routes<'l>(live: &'l Live, exchange: &Exchange) -> Result<&'l HostTable, Failure> {
    let listener = live.snapshot.listeners.get(&exchange.peer.info.listener).ok_or(Failure::NoRoute)?;
    table(&listener.protocol, exchange)
}

/// The routes that a listener has for a request.
fn table<'l>(protocol: &'l CompiledProtocol, exchange: &Exchange) -> Result<&'l HostTable, Failure> {
    let info = &exchange.peer.info;
    match protocol {
        CompiledProtocol::Http(table) => Ok(table),
        // It came as HTTP when the listener was another.
        CompiledProtocol::Tcp(_) => Err(Failure::NoRoute),
        CompiledProtocol::Outbound(outbound) => {
            outbound.find(info.local).routes(&exchange.head.authority).map(Arc::as_ref).ok_or(Failure::NoRoute)
        }
        CompiledProtocol::Inbound(inbound) => {
            let port = inbound.port(info.local.port());
            // The connection may be older than the demand.
            if port.port.mtls == MtlsMode::Strict && info.tls.is_none() {
                return Err(Failure::TooOpen);
            }
            if let Some(server) = &port.port.tls
                && !info.is_as_demanded(server)
            {
                return Err(Failure::TooOpen);
            }
            Ok(&port.routes)
        }
        CompiledProtocol::Tls(table) => {
            let sni = info.tls.as_ref().and_then(|tls| tls.sni.as_deref());
            let server = table.server(sni).ok_or(Failure::NoRoute)?;
            if !info.is_as_demanded(&server.server) {
                return Err(Failure::TooOpen);
            }
            let authority = &exchange.head.authority;
            // Another server's clients are others.
            if table.asks_differently(server, authority) {
                return Err(Failure::Misdirected);
            }
            if !server.routes.has_host(authority) && table.servers().any(|other| other.routes.has_host(authority)) {
                return Err(Failure::Misdirected);
            }
            Ok(&server.routes)
        }
    }
}

/// For the log of a request that is refused: the rule that it met. Yields what that rule does to answers.
fn note_route<'d>(decision: &Decision<'d>, exchange: &mut Exchange) -> Option<&'d CompiledHeaderOps> {
    let (rule, ops) = match decision {
        Decision::Forward { rule, split, .. } => {
            exchange.outcome.cluster_name = Some(split.key.clone());
            (rule, &split.headers)
        }
        Decision::Redirect { rule, .. } | Decision::Respond { rule, .. } => (rule, &rule.headers),
        Decision::HttpsRedirect | Decision::NoRoute => return None,
    };
    exchange.note_rule(rule);
    Some(ops)
}

/// Methods and targets that are not forwarded whatever the rules say (as Envoy; TRACE is refused besides).
fn check_method(exchange: &Exchange) -> Result<(), Failure> {
    let head = &exchange.head;
    if head.method == Method::CONNECT || head.target == "*" {
        return Err(Failure::NoRoute);
    }
    if head.method == Method::TRACE {
        return Err(Failure::BadRequest { status: 405, detail: "method_not_allowed" });
    }
    if head.protocol != Protocol::Http2 {
        match head.scheme {
            Some(Scheme::Https) if exchange.peer.info.tls.is_none() => {
                return Err(Failure::BadBody { status: 403, detail: "http1.https_url_on_plaintext_connection" });
            }
            Some(Scheme::Other) => return Err(Failure::BadBody { status: 400, detail: "http1.codec_error" }),
            _ => {}
        }
    }
    Ok(())
}

/// Only WebSocket, only by a GET without body; `h2c` is ignored (RFC 9113 section 3.1 dropped it).
fn accept_upgrade(exchange: &mut Exchange, upgrade: &HeaderValue) -> Result<(), Failure> {
    if exchange.head.protocol == Protocol::Http2 || upgrade.as_bytes().eq_ignore_ascii_case(b"h2c") {
        return Ok(());
    }
    if !upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")
        || exchange.head.method != Method::GET
        || exchange.head.body != super::message::BodySize::Empty
    {
        return Err(Failure::UpgradeRefused);
    }
    exchange.websocket = Some(upgrade.clone());
    Ok(())
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

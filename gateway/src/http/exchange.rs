//! One request and what became of it: everything that routing, header operations, logs and metrics look at.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Method};
use mesh_core::lb::{EndpointState, Permit};
use mesh_core::model::Workload;
use mesh_core::snapshot::{CompiledRule, FormatContext, Quota, Request, Token};

use super::cors::Leave;
use super::failure::LocalReply;
use super::forwarded;
use super::h1::Frame;
use super::message::BodySize;
use super::mirror::Taps;
use super::rate_limit;
use crate::listen::{ConnectionInfo, Direction};
use crate::live::{LiveCluster, ip_address};
use crate::observe::{Observer, RecordHeaders, RequestRecord, ResponseFlags};
use crate::peer_metadata::Said;
use crate::tls::peer_verify::Identity;
use mesh_core::snapshot::path::split_query;

/// What all requests of a connection share.
pub struct Peer {
    pub info: Arc<ConnectionInfo>,
    pub client: forwarded::Client,
    /// `%HOSTNAME%`
    pub hostname: Arc<str>,
    /// `spiffe://…` of this proxy, where it has one.
    pub own: Arc<str>,
    /// Of the client's workload.
    pub said: Said,
}

impl Peer {
    /// Who the client has proved to be.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.info.tls.as_ref()?.peer.as_ref()
    }

    /// The same, if the mesh says so: the servers of a workload's own clients (`ingress.tls` of its Sidecar) have CAs of theirs.
    pub fn mesh_identity(&self) -> Option<&Arc<Identity>> {
        self.identity().filter(|_| self.info.tls.as_ref().is_some_and(|tls| tls.clients.is_none()))
    }

    /// The request arrives at the workload.
    pub fn is_inbound(&self) -> bool {
        self.info.direction() == Some(Direction::Inbound)
    }

    pub fn server_name(&self) -> forwarded::ServerName {
        match self.info.direction() {
            Some(Direction::Outbound) => forwarded::ServerName::Envoy,
            Some(Direction::Inbound) | None => forwarded::ServerName::IstioEnvoy,
        }
    }
}

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// The head of a request as a connection read it.
#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    pub protocol: Protocol,
    /// Path and query, or `*`; empty for CONNECT.
    pub target: String,
    pub authority: String,
    /// Scheme that the client wrote, where it wrote one.
    pub scheme: Option<Scheme>,
    pub headers: HeaderMap,
    pub body: BodySize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    Other,
}

/// A request in flight.
pub struct Exchange {
    pub peer: Arc<Peer>,
    pub started: Instant,
    /// Wall clock at the start.
    pub start: SystemTime,
    pub head: RequestHead,
    /// The client speaks https, to us or to a trusted proxy.
    pub https: bool,
    /// The client's address, as far as proxies in front can be believed.
    pub remote: IpAddr,
    /// Where the client runs, as its proxy says.
    pub workload: Option<Arc<Workload>>,
    /// And wants to be told where this workload runs.
    pub(super) tells: bool,
    /// A token that was found good.
    pub token: Option<Token>,
    /// Value of `upgrade`, when it asks for WebSocket.
    pub websocket: Option<HeaderValue>,
    pub grpc: bool,
    /// How long a fault made it wait; the route's timeout begins after that.
    pub delayed: Duration,
    /// Of its body, what was read before it is forwarded. It is sent first, in each try.
    pub(super) read_ahead: Vec<Frame>,
    /// It may be sent again although it may have been read: nothing is done because of it.
    pub(super) repeatable: bool,
    /// It is being tried again.
    pub(super) retrying: Option<Permit>,
    /// A cookie that keeps the client at its endpoint, to go with the upstream's answer.
    pub(super) affinity: Option<HeaderValue>,
    /// Headers that an external authorizer adds to the answer.
    pub(super) added: HeaderMap,
    /// What is left of a rate limit, to be told.
    pub(super) quota: Option<Quota>,
    /// That a page of another origin may read the answer.
    pub(super) leave: Option<Leave>,
    /// Copies that want to have its body.
    pub(super) taps: Taps,
    pub outcome: Outcome,
}

/// What became of it. Filled in as it happens, read once at the end.
pub struct Outcome {
    pub status: u16,
    /// How often it was sent, or was to be.
    pub attempts: u32,
    pub flags: ResponseFlags,
    pub details: Cow<'static, str>,
    pub transport_failure: Cow<'static, str>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub service_time: Option<Duration>,
    pub cluster: Option<Arc<LiveCluster>>,
    /// Name of the cluster, also when it does not exist.
    pub cluster_name: Option<Arc<str>>,
    pub endpoint: Option<Arc<EndpointState>>,
    pub upstream_local: Option<SocketAddr>,
    /// Who the endpoint turned out to be; none in clear.
    pub upstream_peer: Option<Arc<Identity>>,
    /// What it says of itself, where nobody else knows.
    pub(super) upstream_said: Option<Arc<Said>>,
    /// Where it runs, as it said.
    pub upstream_workload: Option<Arc<Workload>>,
    pub route_name: Option<Arc<str>>,
    /// Of the rule, if its requests are counted by it.
    pub stat_prefix: Option<Arc<str>>,
    pub grpc_status: Option<u16>,
    /// What the head of the upstream's answer means as an HTTP status; none before it came.
    pub answered: Option<u16>,
    pub request_messages: u64,
    pub response_messages: u64,
    pub generation: u64,
    /// Kept only when a log format asks for response headers.
    pub response_headers: Option<HeaderMap>,
    /// Path and query for the upstream, when rewritten.
    pub upstream_target: Option<String>,
    /// Authority for the upstream, when rewritten.
    pub upstream_authority: Option<String>,
}

impl Exchange {
    pub fn new(peer: Arc<Peer>, head: RequestHead) -> Self {
        Self {
            https: peer.info.tls.is_some(),
            remote: peer.info.client.ip(),
            workload: None,
            tells: false,
            token: None,
            peer,
            started: Instant::now(),
            start: SystemTime::now(),
            head,
            websocket: None,
            grpc: false,
            delayed: Duration::ZERO,
            read_ahead: Vec::new(),
            repeatable: false,
            retrying: None,
            affinity: None,
            added: HeaderMap::new(),
            quota: None,
            leave: None,
            taps: Taps::new(),
            outcome: Outcome {
                status: 0,
                attempts: 0,
                flags: ResponseFlags::NONE,
                details: Cow::Borrowed("-"),
                transport_failure: Cow::Borrowed("-"),
                bytes_received: 0,
                bytes_sent: 0,
                service_time: None,
                cluster: None,
                cluster_name: None,
                endpoint: None,
                upstream_local: None,
                upstream_peer: None,
                upstream_said: None,
                upstream_workload: None,
                route_name: None,
                stat_prefix: None,
                grpc_status: None,
                answered: None,
                request_messages: 0,
                response_messages: 0,
                generation: 0,
                response_headers: None,
                upstream_target: None,
                upstream_authority: None,
            },
        }
    }

    /// The rule that it met.
    pub(super) fn note_rule(&mut self, rule: &CompiledRule) {
        self.outcome.route_name.clone_from(&rule.name);
        self.outcome.stat_prefix.clone_from(&rule.stat_prefix);
    }

    /// What the tables look at.
    pub fn request(&self) -> Request<'_> {
        let (path, query) = split_query(&self.head.target);
        Request {
            method: self.head.method.as_str(),
            scheme: self.scheme(),
            authority: &self.head.authority,
            path,
            query,
            headers: &self.head.headers,
            token: self.token.as_ref(),
        }
    }

    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// What filters want the client to have, behind what rule and upstream say.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(leave) = &self.leave {
            leave.give(headers);
        }
        if let Some(quota) = &self.quota {
            rate_limit::tell(quota, headers);
        }
        for (name, value) in &self.added {
            headers.append(name, value.clone());
        }
    }

    /// Notes an answer of our own.
    pub fn note(&mut self, reply: &LocalReply) {
        self.outcome.status = reply.status;
        self.outcome.flags |= reply.flags;
        self.outcome.details = reply.details.clone();
        self.outcome.transport_failure = reply.transport_failure.clone();
    }

    /// Tells metrics and the access log.
    fn record(&self, observer: &Observer) {
        let header = |name: http::HeaderName| text(&self.head.headers, &name);
        let outcome = &self.outcome;
        observer.record(&RequestRecord {
            start: self.start,
            duration: self.started.elapsed(),
            method: self.head.method.as_str(),
            path: &self.head.target,
            protocol: self.head.protocol.as_str(),
            status: outcome.status,
            attempts: outcome.attempts,
            flags: outcome.flags,
            details: &outcome.details,
            upstream_transport_failure: &outcome.transport_failure,
            bytes_received: outcome.bytes_received,
            bytes_sent: outcome.bytes_sent,
            upstream_service_time: outcome.service_time,
            forwarded_for: header(http::HeaderName::from_static("x-forwarded-for")),
            user_agent: header(http::header::USER_AGENT),
            request_id: header(http::HeaderName::from_static("x-request-id")),
            authority: self.outcome.upstream_authority.as_deref().unwrap_or(&self.head.authority),
            upstream_host: outcome.endpoint.as_deref().and_then(ip_address),
            upstream_cluster: outcome.cluster_name.as_deref().unwrap_or(""),
            upstream_local: outcome.upstream_local,
            downstream_local: self.peer.info.local,
            downstream_remote: self.peer.info.client,
            downstream_direct: self.peer.info.peer,
            sni: self.peer.info.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
            route_name: outcome.route_name.as_deref(),
            stat_prefix: outcome.stat_prefix.as_ref(),
            grpc: self.grpc,
            grpc_status: outcome.grpc_status,
            request_messages: outcome.request_messages,
            response_messages: outcome.response_messages,
            direction: self.peer.info.direction(),
            cluster: outcome.cluster.as_ref(),
            endpoint: outcome.endpoint.as_ref(),
            upstream_peer: outcome.upstream_peer.as_ref(),
            client: self.peer.identity(),
            peer_workload: self.outcome.upstream_workload.as_ref().or(self.workload.as_ref()),
            generation: outcome.generation,
            headers: Some(self),
        });
    }
}

/// An exchange that leaves its line in the access log however it ends, also when its task is dropped in the middle of it:
/// that is what happens to those that last longer than the time to drain.
pub struct Recorded<'o> {
    exchange: Exchange,
    observer: &'o Observer,
    cut: bool,
}

impl<'o> Recorded<'o> {
    pub fn new(exchange: Exchange, observer: &'o Observer) -> Self {
        Self { exchange, observer, cut: true }
    }

    /// It came to its end, good or bad.
    pub fn end(mut self) {
        self.cut = false;
    }
}

impl Drop for Recorded<'_> {
    fn drop(&mut self) {
        if self.cut {
            self.exchange.outcome.flags |= ResponseFlags::DC;
            self.exchange.outcome.details = Cow::Borrowed("downstream_local_disconnect");
        }
        self.exchange.record(self.observer);
    }
}

impl Deref for Recorded<'_> {
    type Target = Exchange;
    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

impl DerefMut for Recorded<'_> {
    fn deref_mut(&mut self) -> &mut Exchange {
        &mut self.exchange
    }
}

/// A header as text; empty when missing or not text.
fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

impl RecordHeaders for Exchange {
    fn request_header(&self, name: &str) -> Option<&str> {
        FormatContext::request_header(self, name)
    }

    fn response_header(&self, name: &str) -> Option<&str> {
        self.outcome.response_headers.as_ref()?.get(name)?.to_str().ok()
    }
}

impl FormatContext for Exchange {
    fn request_header(&self, name: &str) -> Option<&str> {
        match name {
            ":method" => Some(self.head.method.as_str()),
            ":path" => Some(&self.head.target),
            ":scheme" => Some(self.scheme()),
            ":authority" | "host" => Some(&self.head.authority),
            name => self.head.headers.get(name)?.to_str().ok(),
        }
    }

    fn response_header(&self, name: &str) -> Option<&str> {
        RecordHeaders::response_header(self, name)
    }

    fn response_code(&self) -> Option<u16> {
        (self.outcome.status != 0).then_some(self.outcome.status)
    }

    fn downstream_remote_address(&self) -> Option<SocketAddr> {
        Some(self.peer.info.client)
    }

    fn downstream_direct_address(&self) -> Option<SocketAddr> {
        Some(self.peer.info.peer)
    }

    fn downstream_local_address(&self) -> Option<SocketAddr> {
        Some(self.peer.info.local)
    }

    fn protocol(&self) -> &str {
        self.head.protocol.as_str()
    }

    fn start_time(&self) -> SystemTime {
        self.start
    }

    fn hostname(&self) -> &str {
        &self.peer.hostname
    }

    fn upstream_host(&self) -> Option<SocketAddr> {
        self.outcome.endpoint.as_deref().and_then(ip_address)
    }

    fn upstream_cluster(&self) -> Option<&str> {
        self.outcome.cluster_name.as_deref()
    }

    fn route_name(&self) -> Option<&str> {
        self.outcome.route_name.as_deref()
    }

    fn requested_server_name(&self) -> Option<&str> {
        self.peer.info.tls.as_ref()?.sni.as_deref()
    }
}

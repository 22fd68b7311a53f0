//! What one finished request looked like. The engine fills it in once, at the end, from what it has at hand: everything
//! is borrowed, nothing is formatted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::lb::EndpointState;
use mesh_core::model::Workload;

use super::ResponseFlags;
use crate::listen::Direction;
use crate::live::LiveCluster;
use crate::tls::peer_verify::Identity;

/// Strings that are unknown are empty; they are printed as `-`.
#[derive(Clone)]
pub struct RequestRecord<'a> {
    pub start: SystemTime,
    pub duration: Duration,
    pub method: &'a str,
    /// Path and query as the client sent them, after normalisation, before any rewrite.
    pub path: &'a str,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`
    pub protocol: &'a str,
    /// 0 if no answer was begun.
    pub status: u16,
    /// How often it was sent to an upstream, or was to be.
    pub attempts: u32,
    pub flags: ResponseFlags,
    /// `via_upstream`, `route_not_found`, ...
    pub details: &'a str,
    pub upstream_transport_failure: &'a str,
    /// Of the bodies, without framing.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// From the end of the request to the upstream's response head.
    pub upstream_service_time: Option<Duration>,
    pub forwarded_for: &'a str,
    pub user_agent: &'a str,
    pub request_id: &'a str,
    pub authority: &'a str,
    pub upstream_host: Option<SocketAddr>,
    /// Key of the cluster, also when it does not exist.
    pub upstream_cluster: &'a str,
    pub upstream_local: Option<SocketAddr>,
    pub downstream_local: SocketAddr,
    pub downstream_remote: SocketAddr,
    /// The other end of the connection, whoever a load balancer says the client is.
    pub downstream_direct: SocketAddr,
    pub sni: Option<&'a str>,
    pub route_name: Option<&'a str>,
    /// What the rule's requests are counted by.
    pub stat_prefix: Option<&'a Arc<str>>,
    /// `content-type: application/grpc...`
    pub grpc: bool,
    pub grpc_status: Option<u16>,
    /// gRPC messages seen in either direction.
    pub request_messages: u64,
    pub response_messages: u64,
    /// Of a redirected connection.
    pub direction: Option<Direction>,
    pub cluster: Option<&'a Arc<LiveCluster>>,
    pub endpoint: Option<&'a Arc<EndpointState>>,
    /// Who the endpoint turned out to be; none in clear.
    pub upstream_peer: Option<&'a Arc<Identity>>,
    /// Who the client has proved to be.
    pub client: Option<&'a Arc<Identity>>,
    /// Where the other end runs, as its proxy says: the client of what arrives at the workload, else the endpoint.
    pub peer_workload: Option<&'a Arc<Workload>>,
    /// Of the snapshot that served the request.
    pub generation: u64,
    /// Header lookups of a custom access log format; `None` for those who have no headers at hand.
    pub headers: Option<&'a dyn RecordHeaders>,
}

/// Headers of the request and the response as the client saw them. Only a custom access log format asks.
pub trait RecordHeaders: Sync {
    fn request_header(&self, name: &str) -> Option<&str>;
    fn response_header(&self, name: &str) -> Option<&str>;
}

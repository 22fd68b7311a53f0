//! What became of one connection: filled in as it happens, told to metrics now and then, and to the access log at its end.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mesh_core::lb::EndpointState;
use mesh_core::model::Workload;

use super::target::Target;
use crate::listen::ConnectionInfo;
use crate::live::ip_address;
use crate::observe::{Observer, RequestRecord, ResponseFlags, TcpCounts};
use crate::tls::peer_verify::Identity;

/// See the module. Leaves its line in the access log however it ends, also when its task is dropped.
pub struct Passage<'o> {
    observer: &'o Observer,
    pub info: Arc<ConnectionInfo>,
    pub target: Target,
    started: Instant,
    start: SystemTime,
    generation: u64,
    pub flags: ResponseFlags,
    pub details: Cow<'static, str>,
    pub transport_failure: Cow<'static, str>,
    pub endpoint: Option<Arc<EndpointState>>,
    pub upstream_local: Option<SocketAddr>,
    pub upstream_peer: Option<Arc<Identity>>,
    /// Where the endpoint runs, as it said.
    pub upstream_workload: Option<Arc<Workload>>,
    received: u64,
    sent: u64,
    opened: bool,
}

impl<'o> Passage<'o> {
    pub fn new(observer: &'o Observer, info: Arc<ConnectionInfo>, target: Target, generation: u64) -> Self {
        Self {
            observer,
            info,
            target,
            started: Instant::now(),
            start: SystemTime::now(),
            generation,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed("-"),
            transport_failure: Cow::Borrowed("-"),
            endpoint: None,
            upstream_local: None,
            upstream_peer: None,
            upstream_workload: None,
            received: 0,
            sent: 0,
            opened: false,
        }
    }

    /// Of the tables that let it in.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// It was counted as open.
    pub fn is_open(&self) -> bool {
        self.opened
    }

    /// Whether anybody but itself says where the endpoint runs.
    pub fn knows_endpoint(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.endpoint.named_workload().is_some())
    }

    /// Counts the connection as open, by what is known of its other end now.
    pub fn open(&mut self) {
        self.opened = true;
        self.observer.count_tcp(&self.record(), TcpCounts { opened: 1, ..TcpCounts::default() });
    }

    /// How many bytes there were so far.
    pub fn report(&mut self, received: u64, sent: u64) {
        let counts = TcpCounts {
            received: received.saturating_sub(self.received),
            sent: sent.saturating_sub(self.sent),
            ..TcpCounts::default()
        };
        (self.received, self.sent) = (received, sent);
        if counts != TcpCounts::default() {
            // Who has not said by now where it runs may never do.
            if !self.opened {
                self.open();
            }
            self.observer.count_tcp(&self.record(), counts);
        }
    }

    fn record(&self) -> RequestRecord<'_> {
        let info = &self.info;
        RequestRecord {
            start: self.start,
            duration: self.started.elapsed(),
            method: "",
            path: "",
            protocol: "",
            status: 0,
            attempts: 0,
            flags: self.flags,
            details: &self.details,
            upstream_transport_failure: &self.transport_failure,
            bytes_received: self.received,
            bytes_sent: self.sent,
            upstream_service_time: None,
            forwarded_for: "",
            user_agent: "",
            request_id: "",
            authority: "",
            upstream_host: self.endpoint.as_deref().and_then(ip_address),
            upstream_cluster: &self.target.name,
            upstream_local: self.upstream_local,
            downstream_local: info.local,
            downstream_remote: info.client,
            downstream_direct: info.peer,
            sni: info.server_name.as_deref().or_else(|| info.tls.as_ref()?.sni.as_deref()),
            route_name: None,
            stat_prefix: None,
            grpc: false,
            grpc_status: None,
            request_messages: 0,
            response_messages: 0,
            direction: info.direction(),
            cluster: self.target.cluster.as_ref(),
            endpoint: self.endpoint.as_ref(),
            upstream_peer: self.upstream_peer.as_ref(),
            client: info.tls.as_ref().and_then(|tls| tls.peer.as_ref()),
            peer_workload: self.upstream_workload.as_ref().or_else(|| info.tls.as_ref()?.workload.as_ref()),
            generation: self.generation,
            headers: None,
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let opened = u64::from(!self.opened);
        // One that came to nothing was opened, too.
        self.observer.count_tcp(&self.record(), TcpCounts { opened, closed: 1, ..TcpCounts::default() });
        self.observer.log(&self.record());
    }
}

//! Listeners of a sidecar: connections arrive there because they were redirected, and what is done with one depends on the
//! address that it was going to; or they were going to the listener itself, which is no different but for that.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{DestinationRef, HostPattern, Key, OnDemand, TlsServer, is_default};
use crate::object::ObjectRef;

/// Key of the destination of connections to nobody whom the mesh knows: it goes where the client was going.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// What such a connection is called where it is refused.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Key of the destination of connections to ports of the workload that no service has.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// From here a sidecar reaches its workload, so that the rules that redirect leave it alone.
pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// The same for IPv6.
pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// What leaves the workload. [`Outbound::tcp`] is looked at first, then [`Outbound::http`], then [`Outbound::unknown`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbound {
    /// By port, whatever the address: HTTP, routed by its authority.
    #[serde(default, skip_serializing_if = "is_default")]
    pub http: BTreeMap<u16, OutboundHttp>,
    /// By address and port. Of several for the same networks and port, the first without `sni` counts, and for each name the
    /// first that has it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tcp: Vec<OutboundTcp>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub unknown: UnknownDestination,
    /// Some hosts only are here: those that were asked for. None: all are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_demand: Option<OnDemand>,
    /// Nothing is redirected here: where a client is going is the address of the listener, and what has no other address than the
    /// client's cannot be reached.
    #[serde(default, skip_serializing_if = "is_default")]
    pub direct: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundHttp {
    /// Key of the [`RouteSet`](super::RouteSet), `9080`.
    pub routes: Key,
    /// Some service has this port without saying that it speaks HTTP: a client may wait for its server to speak first. Bytes
    /// that are not HTTP go as if there were no such port, here and on ports without this.
    #[serde(default, skip_serializing_if = "is_default")]
    pub detect: bool,
    /// The port of the listener says nothing: here is an HTTP proxy, or a Unix socket. By the port of a request's authority (80
    /// without one) the routes that are looked at first; `routes` are for what they do not have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by_port: BTreeMap<u16, Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundTcp {
    /// Where the client is going; empty: anywhere. The narrowest network that an address is in counts first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub networks: Vec<IpNet>,
    pub port: u16,
    /// Server names of TLS that goes here; empty: everything does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sni: Vec<HostPattern>,
    /// Chosen once for a connection. At least one.
    pub destinations: Vec<WeightedDestination>,
    /// Nobody says what the port speaks: what turns out to be HTTP is routed by this [`RouteSet`](super::RouteSet) instead.
    #[serde(default, skip_serializing_if = "is_default")]
    pub routes: Option<Key>,
    /// The service, or the VirtualService whose rule it is.
    pub origin: ObjectRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedDestination {
    /// A connection to one that is unknown is closed.
    pub destination: DestinationRef,
    /// Relative; their sum is above zero.
    pub weight: u32,
}

/// `outboundTrafficPolicy`: connections to nobody whom the mesh knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnknownDestination {
    /// To the destination [`PASSTHROUGH`].
    #[default]
    Passthrough,
    /// To this one (`egressProxy`).
    Proxy(Key),
    /// They are closed, and counted as [`BLACK_HOLE`].
    Refuse,
}

/// What arrives at the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// By the port that the client was going to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: BTreeMap<u16, InboundPort>,
    /// All other ports.
    pub others: InboundPort,
    /// Nothing is redirected here: the port is that of the listener.
    #[serde(default, skip_serializing_if = "is_default")]
    pub direct: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundPort {
    pub protocol: InboundProtocol,
    #[serde(default, skip_serializing_if = "is_default")]
    pub mtls: MtlsMode,
    /// Key of the [`RouteSet`](super::RouteSet) of what is HTTP, `inbound|9080||`.
    pub routes: Key,
    /// Key of the [`Destination`](super::Destination) of everything else. It has the routes' key.
    pub destination: Key,
    /// TLS of clients that need not be of the mesh ends here (`ingress[].tls`); with [`MtlsMode::Disable`] alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Option<TlsServer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboundProtocol {
    Http,
    Tcp,
    /// Nobody says: the first bytes do.
    Detect,
}

/// What a port demands of its clients (PeerAuthentication).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MtlsMode {
    /// Mutual TLS and clear text.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
    /// TLS is the workload's own affair.
    Disable,
}

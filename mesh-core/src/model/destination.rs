//! Destinations: a port of a service, or a subset of it, and how to speak to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AuthoritySource, Balancing, CertificateSource, ConnectionRules, Key, Limits, LocalityRule, OutlierDetection,
    Warmup, is_default,
};
use crate::object::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// `outbound|9080|v1|reviews.default.svc.cluster.local`, as in Istio's logs and metrics.
    pub key: Key,
    /// `reviews.default.svc.cluster.local`
    pub host: Arc<str>,
    /// Short name and namespace of the service, for metrics.
    pub service_name: Arc<str>,
    pub service_namespace: Arc<str>,
    pub port: u16,
    #[serde(default, skip_serializing_if = "is_default")]
    pub subset: Option<Arc<str>>,
    pub protocol: UpstreamProtocol,
    #[serde(default, skip_serializing_if = "is_default")]
    pub balancing: Balancing,
    /// None: where an endpoint is does not count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub locality: Option<Arc<LocalityRule>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub warmup: Option<Warmup>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub outlier: Option<Box<OutlierDetection>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: UpstreamTls,
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    #[serde(default, skip_serializing_if = "is_default")]
    pub connections: ConnectionRules,
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    #[serde(default, skip_serializing_if = "is_default")]
    pub reach: Reach,
    pub origin: ObjectRef,
    /// The DestinationRule that shaped it, if any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rule: Option<ObjectRef>,
}

/// `outbound_.9080_.v1_.reviews.default.svc.cluster.local` (Istio's `BuildDNSSrvSubsetKey`): how mutual TLS of the mesh calls a
/// destination, so that who is asked, or a gateway between networks, can tell what is wanted.
#[must_use]
pub fn server_name(port: u16, subset: &str, host: &str) -> String {
    format!("{SERVER_NAME}{port}_.{subset}_.{host}")
}

/// How such names begin, and no others.
pub const SERVER_NAME: &str = "outbound_.";

/// RFC 1035 section 2.3.4, without the dot at the end.
const LONGEST_NAME: usize = 253;

/// The name that an authority (a port does not count) is to a destination that is reached by names ([`Reach::Named`]), in lower case.
/// `host`: the destination's, `*.suffix`. None: it is no name, or none of that destination's: a rule for other hosts leads there.
#[must_use]
pub fn name_of_destination(host: &str, authority: &str) -> Option<String> {
    let suffix = host.strip_prefix('*').unwrap_or(host);
    let named = match authority.rsplit_once(':') {
        Some((named, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => named,
        _ => authority,
    };
    let name = named.strip_suffix('.').unwrap_or(named).to_ascii_lowercase();
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = name.len() <= LONGEST_NAME && name.len() > suffix.len() && name.ends_with(suffix);
    (fits && name.bytes().all(letters) && name.parse::<IpAddr>().is_err()).then_some(name)
}

/// Where a connection to a destination goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reach {
    /// To an endpoint, by [`Balancing`].
    #[default]
    Discovered,
    /// To the endpoint at the address that the client was going to, whose name is that of a pod (a headless service); if it
    /// is none of the endpoints, or there was no such address, as `Discovered`.
    Addressed,
    /// Where the client was going. If that is one of its endpoints, what is known of that one counts.
    Original,
    /// To the workload itself, where the client was going, from the address 127.0.0.6 or ::6: the rules that redirect leave
    /// that alone. Its list of endpoints is empty.
    OwnWorkload,
    /// The same at another port than the client was going to.
    OwnPort(u16),
    /// At this port, to what the host of the request, or the server name of a connection, resolves to (`DYNAMIC_DNS`): one of
    /// the names that the destination's host, `*.suffix`, stands for. Its list of endpoints is empty.
    Named(u16),
}

impl Reach {
    /// Whether it takes endpoints: nothing is reached without any.
    #[must_use]
    pub fn needs_endpoints(self) -> bool {
        matches!(self, Reach::Discovered | Reach::Addressed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamProtocol {
    Http1,
    /// Prior knowledge (h2c).
    Http2,
    /// The same by `h2UpgradePolicy`, on a port of HTTP/1: what HTTP/2 cannot carry, a WebSocket, still goes in HTTP/1.1.
    Http2Upgraded,
    /// What the client speaks: nobody says what is spoken there, or somebody says that (`useClientProtocol`).
    AsClient,
}

/// How TLS is spoken with the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamTls {
    /// The mesh's mutual TLS to endpoints that speak it ([`Endpoint::mtls`](super::Endpoint::mtls)); in clear to the others.
    #[default]
    Auto,
    /// Not at all.
    Disable,
    /// Always the mesh's (`ISTIO_MUTUAL`): an endpoint that does not speak it is not reached.
    Mutual,
    /// Always that of servers outside of the mesh (`SIMPLE`, `MUTUAL`).
    Originate(Arc<Origination>),
}

/// TLS with servers outside of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origination {
    /// The name that the server is asked for; none: that of the request's authority, of bytes the destination's host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sni: Option<Arc<str>>,
    /// Whose certificates are believed; none: those of the CAs of the proxy's system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authorities: Option<AuthoritySource>,
    /// The certificate must have one of these names; empty: the one that is asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub names: Vec<String>,
    /// Everybody is believed (`insecureSkipVerify`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub unverified: bool,
    /// Shown to the server; none: nothing is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub certificate: Option<CertificateSource>,
}

impl Origination {
    /// Whether some of it is in files.
    pub fn names_files(&self) -> bool {
        matches!(self.authorities, Some(AuthoritySource::Files { .. }))
            || matches!(self.certificate, Some(CertificateSource::Files { .. }))
    }

    /// Key of the secret that it is made of (`credentialName`).
    pub fn secret(&self) -> Option<&Key> {
        match (&self.certificate, &self.authorities) {
            (Some(CertificateSource::Secret(key)), _) | (_, Some(AuthoritySource::Secret(key))) => Some(key),
            _ => None,
        }
    }
}

impl UpstreamTls {
    /// Key of the secret that it is made of.
    pub fn secret(&self) -> Option<&Key> {
        match self {
            UpstreamTls::Originate(origination) => origination.secret(),
            UpstreamTls::Auto | UpstreamTls::Disable | UpstreamTls::Mutual => None,
        }
    }
}

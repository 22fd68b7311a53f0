//! Route sets: virtual hosts and their rules in the order in which they are tried.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Action, HeaderOps, Key, Predicate, WeightedDestination, is_default};
use crate::object::ObjectRef;

/// The routes of one listener (HTTP, TCP), one TLS server, or one port of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSet {
    /// `http.8080`, `https.443.<server>.<gateway>.<namespace>` or `tcp.9000`; of a sidecar `9080`, `<host>:9080` or `inbound|9080||`
    pub key: Key,
    /// Sorted by host.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Where bytes go that are not looked into. Of several for one server name the first counts, and of those without names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tcp: Vec<TcpRoute>,
    pub origin: ObjectRef,
}

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Server names of TLS that goes there; empty: everything does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sni: Vec<HostPattern>,
    /// Chosen once for a connection. At least one.
    pub destinations: Vec<WeightedDestination>,
    /// The VirtualService whose rule it is; of a name that stands for a service (`AUTO_PASSTHROUGH`), that one.
    pub origin: ObjectRef,
}

/// The rules of one host. No host pattern stands in two virtual hosts of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualHost {
    pub host: HostPattern,
    /// Other names of it (a sidecar's: short names and addresses of a service). A name that several have means the one whose
    /// `host` it is, else the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub aliases: Vec<HostPattern>,
    /// `httpsRedirect`: every request is answered 301 to https, whatever the rules say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub https_redirect: bool,
    /// First match wins.
    pub rules: Vec<Rule>,
    /// The Gateway server that opened this host, or the service that it is.
    pub origin: ObjectRef,
}

/// `*`, `*.suffix` or an exact name, lower case. The port of an authority is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostPattern {
    Exact(Arc<str>),
    /// `*.example.com` is kept as `.example.com`; it matches `a.b.example.com`, not `example.com`.
    Suffix(Arc<str>),
    Any,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Suffix(suffix) => write!(f, "*{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

/// One alternative of a user's rule: a rule with three `match` entries becomes three of these that share their action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub source: RuleSource,
    /// Route name for the access log (`<route>.<match>`), if the user gave one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<Arc<str>>,
    /// What its requests are counted by (`match[].statPrefix`), if the user says so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stat_prefix: Option<Arc<str>>,
    /// All of it must hold.
    pub predicate: Predicate,
    pub action: Arc<Action>,
    /// Header operations of the rule (not of a single destination).
    #[serde(default, skip_serializing_if = "HeaderOps::is_empty")]
    pub headers: Arc<HeaderOps>,
}

/// Where in the user's object the rule stands; shown as `namespace/name[http]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleSource {
    pub object: ObjectRef,
    /// Index in `spec.http`.
    pub http: u32,
    /// Index in `spec.http[].match`; none for a rule without match.
    #[serde(default, skip_serializing_if = "is_default")]
    pub r#match: Option<u32>,
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}[{}]", self.object.namespace, self.object.name, self.http)
    }
}

//! Which objects are read: API group, versions and kind.

use crate::diag::{self, Diagnostic, Severity};

/// How an object of a kind is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gateway,
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    Sidecar,
    AuthorizationPolicy,
    RequestAuthentication,
    PeerAuthentication,
    RateLimit,
    Service,
    EndpointSlice,
    Secret,
    Pod,
    ConfigMap,
    Node,
    Namespace,
}

struct Row {
    group: &'static str,
    versions: &'static [&'static str],
    name: &'static str,
    kind: Kind,
}

const SECURITY_GROUP: &str = "security.istio.io";

/// Of kinds that Istio does not have.
const OWN_GROUP: &str = "meshgate.io";

/// Istio serves its three versions with one schema (`istio-crds`: conversion `None`).
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];

const SECURITY: &[&str] = &["v1", "v1beta1"];

const KINDS: &[Row] = &[
    Row { group: "networking.istio.io", versions: NETWORKING, name: "Gateway", kind: Kind::Gateway },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "VirtualService", kind: Kind::VirtualService },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "DestinationRule", kind: Kind::DestinationRule },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "ServiceEntry", kind: Kind::ServiceEntry },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "WorkloadEntry", kind: Kind::WorkloadEntry },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "Sidecar", kind: Kind::Sidecar },
    Row { group: SECURITY_GROUP, versions: SECURITY, name: "AuthorizationPolicy", kind: Kind::AuthorizationPolicy },
    Row { group: SECURITY_GROUP, versions: SECURITY, name: "RequestAuthentication", kind: Kind::RequestAuthentication },
    Row { group: SECURITY_GROUP, versions: SECURITY, name: "PeerAuthentication", kind: Kind::PeerAuthentication },
    Row { group: OWN_GROUP, versions: &["v1alpha1"], name: "RateLimit", kind: Kind::RateLimit },
    Row { group: "", versions: &["v1"], name: "Service", kind: Kind::Service },
    Row { group: "", versions: &["v1"], name: "Secret", kind: Kind::Secret },
    Row { group: "", versions: &["v1"], name: "Pod", kind: Kind::Pod },
    Row { group: "", versions: &["v1"], name: "ConfigMap", kind: Kind::ConfigMap },
    Row { group: "", versions: &["v1"], name: "Node", kind: Kind::Node },
    Row { group: "", versions: &["v1"], name: "Namespace", kind: Kind::Namespace },
    Row { group: "discovery.k8s.io", versions: &["v1"], name: "EndpointSlice", kind: Kind::EndpointSlice },
];

/// A kind of Istio or of the Gateway API that is not read yet: not a spelling mistake of one that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadKind {
    pub group: &'static str,
    pub version: &'static str,
    pub name: &'static str,
    pub plural: &'static str,
}

const fn unread(group: &'static str, version: &'static str, name: &'static str, plural: &'static str) -> UnreadKind {
    UnreadKind { group, version, name, plural }
}

pub const UNREAD: &[UnreadKind] = &[
    unread("networking.istio.io", "v1", "WorkloadGroup", "workloadgroups"),
    unread("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
    unread("networking.istio.io", "v1beta1", "ProxyConfig", "proxyconfigs"),
    unread("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins"),
    unread("telemetry.istio.io", "v1", "Telemetry", "telemetries"),
    unread("gateway.networking.k8s.io", "v1", "Gateway", "gateways"),
    unread("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    unread("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes"),
];

impl UnreadKind {
    /// That an object of it has no effect.
    pub fn diagnostic(&self, api_version: &str) -> Diagnostic {
        let name = self.name;
        Diagnostic::new(diag::UNKNOWN_KIND, format!("objects of kind {name} ({api_version}) are not read"))
    }
}

/// What gives away an EnvoyFilter that limits requests: names of filters and of their types.
const LIMITING: [&str; 3] = ["envoy.filters.http.local_ratelimit", "envoy.filters.http.ratelimit", ".LocalRateLimit"];

impl UnreadKind {
    /// Whether what stands in its objects tells what there is instead.
    pub fn is_looked_into(&self) -> bool {
        self.name == "EnvoyFilter"
    }

    /// The same of an object, one of whose texts this is. Who wrote it relies on it.
    pub fn advised(&self, diagnostic: Diagnostic, text: &str) -> Diagnostic {
        if !self.is_looked_into() || !LIMITING.iter().any(|name| text.contains(name)) {
            return diagnostic;
        }
        let help = "requests are limited by objects of their own: kind RateLimit (meshgate.io/v1alpha1)";
        Diagnostic { severity: Severity::Warning, ..diagnostic.help(help) }
    }
}

/// A kind that is not read yet.
pub(super) fn unread_kind(api_version: &str, kind: &str) -> Option<&'static UnreadKind> {
    let (group, _) = api_version.split_once('/')?;
    UNREAD.iter().find(|unread| unread.group == group && unread.name == kind)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Known(Kind),
    /// The kind is read, but not in this version; these are.
    Version(&'static [&'static str]),
    /// Not read. Perhaps a spelling mistake in a kind of this name.
    Unknown(Option<&'static str>),
}

pub(super) fn lookup(api_version: &str, kind: &str) -> Lookup {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let rows = || KINDS.iter().filter(|row| row.group == group);
    match rows().find(|row| row.name == kind) {
        Some(row) if row.versions.contains(&version) => Lookup::Known(row.kind),
        Some(row) => Lookup::Version(row.versions),
        None if matches!(group, "networking.istio.io" | OWN_GROUP) && unread_kind(api_version, kind).is_none() => {
            let near = |row: &&Row| strsim::damerau_levenshtein(&kind.to_lowercase(), &row.name.to_lowercase()) <= 3;
            Lookup::Unknown(rows().find(near).map(|row| row.name))
        }
        None => Lookup::Unknown(None),
    }
}

/// Whether objects of the kind are in no namespace.
pub fn is_cluster_scoped(kind: &str) -> bool {
    matches!(kind, "Node" | "Namespace")
}

impl Kind {
    /// Views of Kubernetes objects know only a few of the fields; Istio's objects, and ours, are read whole.
    pub fn is_whole(self) -> bool {
        KINDS.iter().any(|row| row.kind == self && (row.group.ends_with("istio.io") || row.group == OWN_GROUP))
    }
}

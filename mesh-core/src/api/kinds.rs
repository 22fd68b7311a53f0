//! Which objects are read: API group, versions and kind.

/// How an object of a kind is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gateway,
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
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

/// Istio serves its three versions with one schema (`istio-crds`: conversion `None`).
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];

const KINDS: &[Row] = &[
    Row { group: "networking.istio.io", versions: NETWORKING, name: "Gateway", kind: Kind::Gateway },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "VirtualService", kind: Kind::VirtualService },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "DestinationRule", kind: Kind::DestinationRule },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "ServiceEntry", kind: Kind::ServiceEntry },
    Row { group: "networking.istio.io", versions: NETWORKING, name: "WorkloadEntry", kind: Kind::WorkloadEntry },
    Row { group: "", versions: &["v1"], name: "Service", kind: Kind::Service },
    Row { group: "", versions: &["v1"], name: "Secret", kind: Kind::Secret },
    Row { group: "", versions: &["v1"], name: "Pod", kind: Kind::Pod },
    Row { group: "", versions: &["v1"], name: "ConfigMap", kind: Kind::ConfigMap },
    Row { group: "", versions: &["v1"], name: "Node", kind: Kind::Node },
    Row { group: "", versions: &["v1"], name: "Namespace", kind: Kind::Namespace },
    Row { group: "discovery.k8s.io", versions: &["v1"], name: "EndpointSlice", kind: Kind::EndpointSlice },
];

/// Kinds of Istio that are not read yet: not a spelling mistake of one that is.
const OTHERS: &[&str] = &["Sidecar", "WorkloadGroup", "EnvoyFilter", "ProxyConfig"];

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
        None if group == "networking.istio.io" && !OTHERS.contains(&kind) => {
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
    /// Views of Kubernetes objects know only a few of the fields; Istio's objects are read whole.
    pub fn is_istio(self) -> bool {
        KINDS.iter().any(|row| row.kind == self && row.group.ends_with("istio.io"))
    }
}

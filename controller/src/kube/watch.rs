//! One watch for each kind. What they see goes through one bounded channel: if the world's owner is behind, they wait, and
//! the API server keeps what is new.

use std::fmt;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use mesh_core::api::TRAFFIC_DISTRIBUTION;
use tokio::sync::mpsc::Sender;

/// Pause after a failure: doubled each time, up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How often in a row a kind must not be found before it counts as absent: an API server that starts does not know all its
/// kinds at once.
const ABSENT: u32 = 3;

const OWN_GROUP: &str = "meshgate.io";

/// A kind, and where and which of its objects are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub scope: Scope,
    /// Field selector; empty: all.
    pub fields: &'static str,
    pub detail: Detail,
}

/// What of the objects is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Whole,
    /// Of nodes the rest is large, and different every few minutes.
    Metadata,
}

impl Watched {
    /// Nothing is told to any proxy before these were listed once: what a proxy has is better than what would be made
    /// without them. The settings are among them, for they say which namespaces are looked at: that they are not there is
    /// an answer, that we may not see them is none. Others need not be readable: without nodes endpoints have no locality,
    /// and that is all.
    #[must_use]
    pub fn is_essential(&self) -> bool {
        self.kind != "Node"
    }

    /// Whether it is a kind of Istio's API, or one that is ours: those are judged, and have a status.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.group, "networking.istio.io" | "security.istio.io" | OWN_GROUP)
    }

    /// As the API server's client wants it.
    #[must_use]
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            plural: self.plural.to_owned(),
            ..ApiResource::from_gvk(&GroupVersionKind::gvk(self.group, self.version, self.kind))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces, or in none if the kind is like that.
    Everywhere,
    /// Only in the namespace of the controller.
    System,
    /// In that, and in those of gateways that run elsewhere.
    Gateways,
}

const fn istio(kind: &'static str, plural: &'static str) -> Watched {
    Watched {
        group: "networking.istio.io",
        version: "v1",
        kind,
        plural,
        scope: Scope::Everywhere,
        fields: "",
        detail: Detail::Whole,
    }
}

const fn security(kind: &'static str, plural: &'static str) -> Watched {
    Watched { group: "security.istio.io", ..istio(kind, plural) }
}

/// A kind that Istio does not have.
const fn own(kind: &'static str, plural: &'static str) -> Watched {
    Watched { group: OWN_GROUP, version: "v1alpha1", ..istio(kind, plural) }
}

const fn core(kind: &'static str, plural: &'static str, scope: Scope, fields: &'static str) -> Watched {
    Watched { group: "", version: "v1", kind, plural, scope, fields, detail: Detail::Whole }
}

const fn metadata(kind: &'static str, plural: &'static str) -> Watched {
    Watched { detail: Detail::Metadata, ..core(kind, plural, Scope::Everywhere, "") }
}

/// Everything that the world is made of.
pub const KINDS: &[Watched] = &[
    istio("Gateway", "gateways"),
    istio("VirtualService", "virtualservices"),
    istio("DestinationRule", "destinationrules"),
    istio("ServiceEntry", "serviceentries"),
    istio("WorkloadEntry", "workloadentries"),
    istio("Sidecar", "sidecars"),
    security("AuthorizationPolicy", "authorizationpolicies"),
    security("RequestAuthentication", "requestauthentications"),
    security("PeerAuthentication", "peerauthentications"),
    own("RateLimit", "ratelimits"),
    core("Service", "services", Scope::Everywhere, ""),
    core("Pod", "pods", Scope::Everywhere, ""),
    core("Secret", "secrets", Scope::Gateways, "type!=kubernetes.io/service-account-token"),
    core("ConfigMap", "configmaps", Scope::System, "metadata.name=istio"),
    Watched {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        scope: Scope::Everywhere,
        fields: "",
        detail: Detail::Whole,
    },
    metadata("Node", "nodes"),
    metadata("Namespace", "namespaces"),
];

/// One watch: of a kind, in all namespaces or in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub kind: &'static Watched,
    pub namespace: Option<String>,
    /// Only proxies of its namespace wait for it: others do without.
    pub is_theirs: bool,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) if self.is_theirs => write!(f, "{} in {namespace}", self.kind.plural),
            _ => f.write_str(self.kind.plural),
        }
    }
}

/// All watches: first those of [`KINDS`], in their order. `system` is the controller's namespace; `gateways` are others that gateways
/// run in.
#[must_use]
pub fn sources(system: &str, gateways: &[String]) -> Vec<Source> {
    let own = KINDS.iter().map(|kind| Source { kind, namespace: namespace(system, kind), is_theirs: false });
    let mut sources: Vec<Source> = own.collect();
    for kind in KINDS.iter().filter(|kind| kind.scope == Scope::Gateways) {
        for namespace in gateways.iter().filter(|namespace| *namespace != system) {
            let source = Source { kind, namespace: Some(namespace.clone()), is_theirs: true };
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
    }
    sources
}

/// Where the controller's own objects of the kind are.
fn namespace(system: &str, kind: &Watched) -> Option<String> {
    (kind.scope != Scope::Everywhere).then(|| system.to_owned())
}

/// What a watch has to tell.
#[derive(Debug)]
pub enum Feed {
    /// Something happened to objects of this source, by its number.
    Event { source: usize, event: Box<Event<DynamicObject>> },
    /// They cannot be watched; it is tried again. `absent`: the API server does not have the kind, so it has no objects.
    /// Otherwise we may not: what objects there are is not known.
    Unavailable { source: usize, reason: String, absent: bool },
}

/// Watches them all until the receiver is gone.
pub fn watch(client: &Client, sources: &[Source], feed: &Sender<Feed>) {
    for (number, source) in sources.iter().enumerate() {
        let (kind, namespace) = (source.kind, source.namespace.as_deref());
        let mut config = watcher::Config::default();
        if !kind.fields.is_empty() {
            config = config.fields(kind.fields);
        }
        let events = match kind.detail {
            Detail::Whole => watcher::watcher(api::<DynamicObject>(client, namespace, kind), config).boxed(),
            Detail::Metadata => {
                let api = api::<PartialObjectMeta>(client, namespace, kind);
                watcher::watcher(api, config).map_ok(without_rest).boxed()
            }
        };
        tokio::spawn(watch_one((number, source.to_string()), events, feed.clone()));
    }
}

/// As if the object had nothing else, but for the annotation of namespaces that means something.
pub(super) fn bare(object: PartialObjectMeta) -> DynamicObject {
    let mut metadata = object.metadata;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == TRAFFIC_DISTRIBUTION);
    }
    metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
    DynamicObject { types: object.types, metadata, data: serde_json::json!({}) }
}

fn without_rest(event: Event<PartialObjectMeta>) -> Event<DynamicObject> {
    match event {
        Event::Apply(object) => Event::Apply(bare(object)),
        Event::Delete(object) => Event::Delete(bare(object)),
        Event::InitApply(object) => Event::InitApply(bare(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// The objects of the kind in the namespace; without one, all.
pub(super) fn api<K>(client: &Client, namespace: Option<&str>, kind: &Watched) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    let resource = kind.resource();
    match namespace {
        None => Api::all_with(client.clone(), &resource),
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

async fn watch_one(
    (source, name): (usize, String),
    mut events: BoxStream<'static, watcher::Result<Event<DynamicObject>>>,
    feed: Sender<Feed>,
) {
    let mut pause = PAUSE.0;
    let mut told = false;
    let mut not_found = 0;
    while let Some(event) = events.next().await {
        let message = match event {
            Ok(event) => {
                (pause, told, not_found) = (PAUSE.0, false, 0);
                Feed::Event { source, event: Box::new(slim(event)) }
            }
            Err(error) => {
                if told {
                    tracing::debug!(kind = name, "watch: {error}");
                } else {
                    tracing::warn!(kind = name, "watch: {error}; trying again");
                }
                let refused = refused(&error);
                let is_absent = refused.as_ref().is_some_and(|(_, absent)| *absent);
                not_found = if is_absent { not_found + 1 } else { 0 };
                let absent = not_found == ABSENT;
                if let Some((reason, _)) = refused.filter(|_| !told || absent)
                    && feed.send(Feed::Unavailable { source, reason, absent }).await.is_err()
                {
                    return;
                }
                told = true;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
                continue;
            }
        };
        if feed.send(message).await.is_err() {
            return;
        }
    }
}

/// Why the API server will not let us watch, and whether it is because it does not have the kind; none: a failure that will
/// pass.
fn refused(error: &watcher::Error) -> Option<(String, bool)> {
    let (watcher::Error::InitialListFailed(cause)
    | watcher::Error::WatchStartFailed(cause)
    | watcher::Error::WatchFailed(cause)) = error
    else {
        return None;
    };
    match cause {
        kube::Error::Api(status) if [401, 403, 404, 405].contains(&status.code) => {
            Some((status.message.clone(), status.code == 404))
        }
        _ => None,
    }
}

/// Without what nobody reads.
fn slim(event: Event<DynamicObject>) -> Event<DynamicObject> {
    let strip = |mut object: DynamicObject| {
        object.metadata.managed_fields = None;
        // kubectl's, as large as the object itself.
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        object
    };
    match event {
        Event::Apply(object) => Event::Apply(strip(object)),
        Event::InitApply(object) => Event::InitApply(strip(object)),
        other => other,
    }
}

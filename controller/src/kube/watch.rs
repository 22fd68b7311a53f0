//! One watch for each kind. What they see goes through one bounded channel: if the world's owner is behind, they wait, and
//! the API server keeps what is new.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use tokio::sync::mpsc::Sender;

/// Pause after a failure: doubled each time, up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How often in a row a kind must not be found before it counts as absent: an API server that starts does not know all its
/// kinds at once.
const ABSENT: u32 = 3;

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
    pub part: Part,
}

/// What of the objects is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// Of nodes the rest is large, and different every few minutes.
    Metadata,
}

impl Watched {
    /// Nothing is told to any proxy before these were listed once: what a proxy has is better than what would be made
    /// without them. Others need not be readable: without nodes endpoints have no locality, and that is all.
    #[must_use]
    pub fn is_essential(&self) -> bool {
        !matches!(self.kind, "ConfigMap" | "Node")
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
    /// Only in the namespace of the controller and its gateways.
    System,
}

const fn istio(kind: &'static str, plural: &'static str) -> Watched {
    Watched {
        group: "networking.istio.io",
        version: "v1",
        kind,
        plural,
        scope: Scope::Everywhere,
        fields: "",
        part: Part::Whole,
    }
}

const fn core(kind: &'static str, plural: &'static str, scope: Scope, fields: &'static str) -> Watched {
    Watched { group: "", version: "v1", kind, plural, scope, fields, part: Part::Whole }
}

const fn metadata(kind: &'static str, plural: &'static str) -> Watched {
    Watched { part: Part::Metadata, ..core(kind, plural, Scope::Everywhere, "") }
}

/// Everything that the world is made of.
pub const KINDS: &[Watched] = &[
    istio("Gateway", "gateways"),
    istio("VirtualService", "virtualservices"),
    istio("DestinationRule", "destinationrules"),
    istio("ServiceEntry", "serviceentries"),
    istio("WorkloadEntry", "workloadentries"),
    core("Service", "services", Scope::Everywhere, ""),
    core("Pod", "pods", Scope::Everywhere, ""),
    core("Secret", "secrets", Scope::System, "type!=kubernetes.io/service-account-token"),
    core("ConfigMap", "configmaps", Scope::System, "metadata.name=istio"),
    Watched {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        scope: Scope::Everywhere,
        fields: "",
        part: Part::Whole,
    },
    metadata("Node", "nodes"),
    metadata("Namespace", "namespaces"),
];

/// What a watch has to tell.
#[derive(Debug)]
pub enum Feed {
    /// Something happened to objects of this kind (index in [`KINDS`]).
    Event { kind: usize, event: Box<Event<DynamicObject>> },
    /// The kind cannot be watched; it is tried again. `absent`: the API server does not have it, so it has no objects.
    /// Otherwise we may not: what objects there are is not known.
    Unavailable { kind: usize, reason: String, absent: bool },
}

/// Watches all kinds until the receiver is gone.
pub fn watch(client: &Client, namespace: &str, feed: &Sender<Feed>) {
    for (number, kind) in KINDS.iter().enumerate() {
        let mut config = watcher::Config::default();
        if !kind.fields.is_empty() {
            config = config.fields(kind.fields);
        }
        let events = match kind.part {
            Part::Whole => watcher::watcher(api::<DynamicObject>(client, namespace, kind), config).boxed(),
            Part::Metadata => {
                let api = api::<PartialObjectMeta>(client, namespace, kind);
                watcher::watcher(api, config).map_ok(without_rest).boxed()
            }
        };
        tokio::spawn(watch_one(number, events, feed.clone()));
    }
}

/// As if the object had nothing else.
pub(super) fn bare(object: PartialObjectMeta) -> DynamicObject {
    let mut metadata = object.metadata;
    metadata.annotations = None;
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

/// All objects of the kind, as far as they matter. `namespace` is the controller's.
pub(super) fn api<K>(client: &Client, namespace: &str, kind: &Watched) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    let resource = kind.resource();
    match kind.scope {
        Scope::Everywhere => Api::all_with(client.clone(), &resource),
        Scope::System => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

async fn watch_one(
    kind: usize,
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
                Feed::Event { kind, event: Box::new(slim(event)) }
            }
            Err(error) => {
                let name = KINDS.get(kind).map_or("", |kind| kind.plural);
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
                    && feed.send(Feed::Unavailable { kind, reason, absent }).await.is_err()
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

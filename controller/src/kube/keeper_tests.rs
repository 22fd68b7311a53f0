use serde_json::{Value, json};

use super::*;
use crate::kube::{KINDS, sources};

const SYSTEM: &str = "sys";
const EDGE: &str = "edge";

/// A keeper of everything that is watched, which hears from nobody but us.
struct Desk {
    keeper: Keeper,
    handle: KeeperHandle,
}

impl Desk {
    fn new() -> Desk {
        let (_, fed) = mpsc::channel(1);
        let (keeper, handle) = Keeper::new(sources(SYSTEM, &[EDGE.to_owned()]), fed);
        Desk { keeper, handle }
    }

    /// One turn.
    fn turn(&mut self, feeds: impl IntoIterator<Item = Feed>) {
        let mut changes = Changes::default();
        feeds.into_iter().for_each(|feed| self.keeper.take(feed, &mut changes));
        self.keeper.apply(changes);
    }

    /// All kinds are listed, but for this one; nothing is there.
    fn listed_but(kind: &str) -> Desk {
        let mut desk = Desk::new();
        let others: Vec<usize> = (0..KINDS.len()).filter(|number| KINDS[*number].kind != kind).collect();
        desk.turn(
            others.into_iter().flat_map(|source| [Event::Init, Event::InitDone].map(|event| happens(source, event))),
        );
        desk
    }

    fn generation(&self) -> u64 {
        *self.handle.generation().borrow()
    }

    fn services(&self, namespace: &str) -> usize {
        self.keeper.world.kube_services(namespace).count()
    }
}

fn number(kind: &str) -> usize {
    KINDS.iter().position(|known| known.kind == kind).unwrap()
}

fn happens(source: usize, event: Event<DynamicObject>) -> Feed {
    Feed::Event { source, event: Box::new(event) }
}

fn object(kind: &str, namespace: &str, name: &str, version: &str, rest: &Value) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": kind,
        "metadata": { "name": name, "resourceVersion": version },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn service(namespace: &str, version: &str) -> DynamicObject {
    object("Service", namespace, "s", version, &json!({ "spec": { "ports": [{ "port": 80 }] } }))
}

fn unavailable(kind: &str, absent: bool) -> Feed {
    Feed::Unavailable { source: number(kind), reason: "forbidden".to_owned(), absent }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_and_made_again_in_one_turn_is_there() {
    let mut desk = Desk::listed_but("");
    let services = number("Service");
    desk.turn([happens(services, Event::Apply(service("a", "1")))]);
    assert_eq!(desk.services("a"), 1);
    desk.turn([
        happens(services, Event::Delete(service("a", "1"))),
        happens(services, Event::Apply(service("a", "2"))),
    ]);
    assert_eq!(desk.services("a"), 1);
    desk.turn([
        happens(services, Event::Delete(service("a", "2"))),
        happens(services, Event::Apply(service("a", "3"))),
        happens(services, Event::Delete(service("a", "3"))),
    ]);
    assert_eq!(desk.services("a"), 0);
}

/// They say what must not be looked at.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_without_the_settings() {
    let mut desk = Desk::listed_but("ConfigMap");
    desk.turn([unavailable("ConfigMap", false)]);
    assert_eq!(desk.generation(), 0);
    // There are none.
    desk.turn([Event::Init, Event::InitDone].map(|event| happens(number("ConfigMap"), event)));
    assert_eq!(desk.generation(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_done_without() {
    let mut desk = Desk::listed_but("Node");
    assert_eq!(desk.generation(), 0);
    desk.turn([unavailable("Node", false)]);
    assert_eq!(desk.generation(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_of_gateways_are_always_looked_at() {
    let mut desk = Desk::listed_but("");
    let mesh = json!({ "data": { "mesh": "discoverySelectors: [{matchLabels: {mesh: in}}]" } });
    desk.turn([happens(number("ConfigMap"), Event::Apply(object("ConfigMap", SYSTEM, "istio", "1", &mesh)))]);
    desk.turn([SYSTEM, EDGE, "a"].map(|namespace| happens(number("Service"), Event::Apply(service(namespace, "2")))));
    assert_eq!([SYSTEM, EDGE, "a"].map(|namespace| desk.services(namespace)), [1, 1, 0]);
}

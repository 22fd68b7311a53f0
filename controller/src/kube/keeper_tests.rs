use serde_json::{Value, json};
use tokio::sync::oneshot;

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

const SELECTORS: &str = "discoverySelectors: [{matchLabels: {mesh: in}}]";

fn namespace(name: &str, version: &str, labels: &Value) -> Feed {
    let mut object = object("Namespace", "", name, version, &json!({}));
    object.metadata.labels = serde_json::from_value(labels.clone()).unwrap();
    happens(number("Namespace"), Event::Apply(object))
}

fn pod(namespace: &str, version: &str, labels: &Value) -> Feed {
    let mut object = object("Pod", namespace, "gw", version, &json!({ "spec": { "containers": [] } }));
    object.metadata.uid = Some("u".to_owned());
    object.metadata.labels = serde_json::from_value(labels.clone()).unwrap();
    happens(number("Pod"), Event::Apply(object))
}

/// As with Istio: the selectors say whose objects count, not who is served. What a proxy is, its pod says wherever that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_whose_namespace_is_not_looked_at_any_more_is_served_on() {
    let mut desk = Desk::listed_but("");
    let mesh = json!({ "data": { "mesh": SELECTORS } });
    let gateway = json!({ "istio": "ingressgateway" });
    desk.turn([
        happens(number("ConfigMap"), Event::Apply(object("ConfigMap", SYSTEM, "istio", "1", &mesh))),
        namespace("a", "1", &json!({ "mesh": "in" })),
        pod("a", "1", &gateway),
        happens(number("Service"), Event::Apply(service("a", "1"))),
    ]);
    let identity = Identity {
        namespace: "a".to_owned(),
        service_account: "gateway".to_owned(),
        pod: "gw".to_owned(),
        uid: "u".to_owned(),
    };
    let joined = desk.keeper.join(&identity).unwrap();
    assert_eq!(desk.services("a"), 1);

    desk.turn([namespace("a", "2", &json!({}))]);
    assert_eq!(desk.services("a"), 0);
    assert_eq!(*joined.leaving.borrow(), None);
    // It is told on, and comes again whenever it likes.
    assert_eq!(joined.states.borrow().generation, desk.generation());
    assert!(desk.keeper.join(&identity).is_ok());
    // It is looked at as a pod all the same.
    desk.turn([pod("a", "3", &json!({ "istio": "other" }))]);
    assert_eq!(*joined.leaving.borrow(), Some(crate::kube::Departure::Relabelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_an_object_is_of_no_proxy_is_told_of_the_classes_that_are_asked_for() {
    let mut desk = Desk::listed_but("");
    let spec = json!({ "spec": {
        "selector": { "istio": "ingressgateway" },
        "servers": [{ "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": ["a.example"] }],
    }});
    let rules = json!({ "spec": {
        "hosts": ["b.example"], "gateways": ["gw"], "http": [{ "directResponse": { "status": 200 } }],
    }});
    desk.turn([
        happens(number("Gateway"), Event::Apply(object("Gateway", "a", "gw", "1", &spec))),
        happens(number("VirtualService"), Event::Apply(object("VirtualService", "a", "vs", "1", &rules))),
        pod("a", "1", &json!({ "istio": "ingressgateway" })),
    ]);
    let identity = Identity {
        namespace: "a".to_owned(),
        service_account: "gateway".to_owned(),
        pod: "gw".to_owned(),
        uid: "u".to_owned(),
    };
    let joined = desk.keeper.join(&identity).unwrap();
    let class = joined.states.borrow().class;
    let mut why = |classes: &[u64]| {
        let (reply, mut answer) = oneshot::channel();
        let names = ["vs", "gone"].map(|name| ObjectRef::new("VirtualService", "a", name));
        desk.keeper.obey(Command::Unconcerned(classes.to_vec(), names.to_vec(), reply));
        let answer = answer.try_recv().unwrap();
        assert_eq!((answer.len(), &answer[1]), (2, &None));
        answer[0].as_ref().map(ToString::to_string).unwrap_or_default()
    };
    assert_eq!(why(&[]), "gateway a/gw selects no connected proxy (istio: ingressgateway)");
    assert_eq!(why(&[class]), "no server of gateway a/gw opens its hosts");
}

#[tokio::test(start_paused = true)]
async fn endpoints_wait_for_no_more_changes() {
    let (feeds, fed) = mpsc::channel(8);
    let (mut keeper, _) = Keeper::new(sources(SYSTEM, &[]), fed);
    let turn_is_due = Duration::from_millis(100);
    let slice =
        object("EndpointSlice", "a", "s-1", "1", &json!({ "addressType": "IPv4", "endpoints": [], "ports": [] }));
    for (kind, change, waits) in
        [("Service", service("a", "1"), turn_is_due), ("EndpointSlice", slice.clone(), Duration::ZERO)]
    {
        let begun = Instant::now();
        let mut changes = Changes::default();
        keeper.take(happens(number("Service"), Event::Apply(service("b", kind))), &mut changes);
        feeds.send(happens(number(kind), Event::Apply(change))).await.unwrap();
        keeper.gather(&mut changes, begun + turn_is_due).await;
        assert_eq!(begun.elapsed(), waits, "{kind}");
        assert_eq!(changes.apply.len(), 2, "{kind}");
    }
    let begun = Instant::now();
    let mut changes = Changes::default();
    keeper.take(happens(number("EndpointSlice"), Event::Delete(slice)), &mut changes);
    keeper.gather(&mut changes, begun + turn_is_due).await;
    assert_eq!((begun.elapsed(), changes.remove.len()), (Duration::ZERO, 1));
}

/// A pod with a sidecar, who calls `out.example` with what is in the secret `ca`.
fn caller() -> [Feed; 3] {
    let entry = json!({ "spec": {
        "hosts": ["out.example"], "resolution": "STATIC", "endpoints": [{ "address": "192.0.2.1" }],
        "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
    }});
    let rule = json!({ "spec": {
        "host": "out.example", "workloadSelector": { "matchLabels": { "app": "client" } },
        "trafficPolicy": { "tls": { "mode": "SIMPLE", "credentialName": "ca" } },
    }});
    let mut pod = object("Pod", EDGE, "app", "1", &json!({ "spec": { "containers": [] } }));
    pod.metadata.uid = Some("u".to_owned());
    pod.metadata.labels = Some([("app".to_owned(), "client".to_owned())].into());
    pod.metadata.annotations = Some([("sidecar.istio.io/status".to_owned(), "{}".to_owned())].into());
    [
        happens(number("Pod"), Event::Apply(pod)),
        happens(number("ServiceEntry"), Event::Apply(object("ServiceEntry", EDGE, "out", "1", &entry))),
        happens(number("DestinationRule"), Event::Apply(object("DestinationRule", EDGE, "out", "1", &rule))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_to_secrets_are_followed_and_what_is_not_known_takes_nothing_away() {
    let mut desk = Desk::listed_but("");
    desk.turn(caller());
    let named = |name: &str| Account { namespace: EDGE.to_owned(), name: name.to_owned() };
    let identity = Identity {
        namespace: EDGE.to_owned(),
        service_account: "reader".to_owned(),
        pod: "app".to_owned(),
        uid: "u".to_owned(),
    };
    let joined = desk.keeper.join(&identity).unwrap();
    let (class, stream) = (joined.states.borrow().class, Arc::new(()));
    let names = mesh_core::model::asked_name("out.example").into_iter().collect();
    desk.keeper.obey(Command::Ask { class, stream: Arc::clone(&stream), names });
    desk.keeper.answer();
    // Secrets, whether that is the last word, and what is said of it.
    let told = || {
        let state = joined.states.borrow();
        let found = state.diagnostics.iter().map(|found| found.code);
        let found: Vec<&str> = found.filter(|code| ["MESH0106", "MESH0117"].contains(code)).collect();
        (state.set.secrets.len(), state.published.secrets_unread, found)
    };
    // The secrets of its namespace are not listed: it is told the rest.
    assert_eq!(told(), (0, true, vec!["MESH0106"]));
    let secret = object("Secret", EDGE, "ca", "1", &json!({ "data": { "ca.crt": "Y2E=" } }));
    let listed = [Event::Init, Event::InitApply(secret), Event::InitDone];
    desk.turn(listed.map(|event| happens(KINDS.len(), event)));
    assert_eq!(told(), (0, true, Vec::new()));
    desk.keeper.hear((named("other"), SecretAccess::Allowed));
    assert_eq!(told(), (0, true, Vec::new()));
    for (access, wanted) in [
        (SecretAccess::Unknown, (0, true, vec!["MESH0117"])),
        (SecretAccess::Allowed, (1, false, Vec::new())),
        (SecretAccess::Unknown, (1, false, Vec::new())),
        (SecretAccess::Denied, (0, false, vec!["MESH0117"])),
        (SecretAccess::Allowed, (1, false, Vec::new())),
    ] {
        desk.keeper.hear((named("reader"), access));
        assert_eq!(told(), wanted, "{access:?}");
    }
    // Who runs as somebody else in such a pod is another one.
    let stranger = Identity { service_account: "stranger".to_owned(), ..identity };
    let other = desk.keeper.join(&stranger).unwrap();
    assert_ne!(other.states.borrow().class, class);
    // Without the rule nothing is needed, and what was known of the account is forgotten.
    desk.turn([happens(
        number("DestinationRule"),
        Event::Delete(object("DestinationRule", EDGE, "out", "1", &json!({}))),
    )]);
    assert_eq!(told().0, 0);
    desk.turn([caller()].into_iter().flatten().skip(2));
    assert_eq!(told(), (0, true, Vec::new()));
}

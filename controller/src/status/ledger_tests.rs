use std::collections::HashSet;

use mesh_core::api::parse;
use mesh_core::model::ProxyInfo;
use mesh_core::translate::Translator;
use mesh_core::wire::Kind;
use mesh_core::world::World;

use super::*;
use crate::kube::Observed;
use crate::push::KindStatus;

const OBJECTS: &str = r#"
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gw, namespace: edge}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: s, namespace: shop}, spec: {host: s, subsets: [{name: v1, labels: {version: v1}}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a, namespace: shop}, spec: {hosts: [a.example], gateways: [edge/gw], http: [{route: [{destination: {host: s, subset: v1}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: b, namespace: shop}, spec: {hosts: [b.example], gateways: [edge/gw], http: [{route: [{destination: {host: nobody}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: second, namespace: shop}, spec: {host: s, subsets: [{name: v2, labels: {version: v2}}]}}
---
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: later, namespace: edge}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: root, namespace: shop}, spec: {hosts: [root.example], gateways: [edge/gw], http: [{match: [{uri: {prefix: /x}}], delegate: {name: part}}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: part, namespace: shop}, spec: {http: [{route: [{destination: {host: s}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: inside, namespace: shop}, spec: {hosts: [c.example], http: [{route: [{destination: {host: s}}]}]}}
"#;

fn name(kind: &str, name: &str) -> ObjectRef {
    ObjectRef::new(kind, if kind == "Gateway" { "edge" } else { "shop" }, name)
}

/// What a keeper would tell at publication `publication`, with all objects in generation `generation`.
fn survey(publication: u64, generations: &[(&ObjectRef, i64)]) -> Survey {
    let world = World::from_objects(parse("", OBJECTS, "default").objects);
    let proxy = ProxyInfo::edge("", "edge", [("istio".to_owned(), "ingressgateway".to_owned())].into());
    let mut translator = Translator::new(proxy);
    translator.update(&world);
    let objects = parse("", OBJECTS, "default").objects;
    let mut observed: Observed = objects.iter().map(|object| (object.object_ref(), 1)).collect();
    observed.extend(generations.iter().map(|(object, generation)| ((*object).clone(), *generation)));
    let state = ClassState {
        class: 7,
        generation: publication,
        set: translator.set().clone(),
        concerned: translator.concerned().clone(),
        diagnostics: translator.diagnostics().clone(),
        observed: observed.clone(),
        ..ClassState::default()
    };
    Survey {
        generation: publication,
        found: Arc::from([]),
        observed,
        stale: HashSet::new(),
        hidden: BTreeSet::new(),
        classes: vec![Arc::new(state)],
    }
}

fn proxy(pod: &str, acknowledged: u64) -> ProxyStatus {
    let status = |subscribed| KindStatus { subscribed, sent: acknowledged, acknowledged, ..KindStatus::default() };
    ProxyStatus {
        name: format!("{pod}.edge"),
        namespace: "edge".to_owned(),
        pod: pod.to_owned(),
        service_account: "gw".to_owned(),
        version: String::new(),
        address: String::new(),
        locality: String::new(),
        connected_since: String::new(),
        kinds: [(Kind::Config, status(true)), (Kind::Endpoints, status(true)), (Kind::Secret, status(false))].into(),
        class: 7,
    }
}

/// One that did not take something of what it acknowledged.
fn refusing(acknowledged: u64, kind: Kind, name: &str) -> ProxyStatus {
    let mut proxy = proxy("x", acknowledged);
    let names = [name, "listener/none"].map(|name| (name.to_owned(), "this version does not know `x`".to_owned()));
    proxy.kinds.get_mut(&kind).unwrap().refused = Arc::new(names.into());
    proxy
}

fn of<'p>(all: &'p [Progress], object: &ObjectRef) -> &'p Progress {
    all.iter().find(|progress| progress.object == *object).unwrap()
}

fn counts(all: &[Progress], object: &ObjectRef) -> (usize, usize) {
    let progress = of(all, object);
    (progress.programmed, progress.proxies)
}

#[test]
fn an_object_is_programmed_once_its_generation_is_acknowledged() {
    let a = name("VirtualService", "a");
    let mut ledger = Ledger::default();
    let first = survey(5, &[]);
    ledger.update(&first);
    assert_eq!(counts(&ledger.count(&first, &[proxy("x", 4), proxy("y", 5)]), &a), (1, 2));

    let second = survey(8, &[(&a, 2)]);
    ledger.update(&second);
    let count = ledger.count(&second, &[proxy("x", 7), proxy("y", 8)]);
    assert_eq!(counts(&count, &a), (1, 2));
    assert_eq!(of(&count, &a).generation, 2);
    // The others were there before.
    assert_eq!(counts(&count, &name("Gateway", "gw")), (2, 2));
    assert_eq!(counts(&count, &name("DestinationRule", "s")), (2, 2));
}

#[test]
fn objects_that_concern_nobody_have_no_proxies() {
    let mut ledger = Ledger::default();
    let survey = survey(5, &[]);
    ledger.update(&survey);
    let count = ledger.count(&survey, &[proxy("x", 5)]);
    assert_eq!(counts(&count, &name("VirtualService", "inside")), (0, 0));
    assert!(count.iter().all(|progress| &*progress.object.kind != "Service"));
    let nobody = ProxyStatus { class: 3, ..proxy("z", 5) };
    assert_eq!(counts(&ledger.count(&survey, &[nobody]), &name("VirtualService", "a")), (0, 0));
}

#[test]
fn nothing_is_said_of_what_is_not_looked_at() {
    let mut ledger = Ledger::default();
    let survey = Survey { hidden: ["shop".into()].into(), ..survey(5, &[]) };
    ledger.update(&survey);
    let count = ledger.count(&survey, &[proxy("x", 5)]);
    assert_eq!(counts(&count, &name("Gateway", "gw")), (1, 1));
    assert!(count.iter().all(|progress| &*progress.object.namespace != "shop"), "{count:?}");
}

#[test]
fn findings_are_told_of_their_object() {
    let mut ledger = Ledger::default();
    let survey = survey(5, &[]);
    ledger.update(&survey);
    let count = ledger.count(&survey, &[]);
    let codes: Vec<&str> =
        of(&count, &name("VirtualService", "b")).findings.iter().map(|finding| &*finding.code).collect();
    assert_eq!(codes, [diag::DESTINATION_HOST_UNKNOWN.id]);
    assert!(of(&count, &name("VirtualService", "a")).findings.is_empty());
}

#[test]
fn what_is_refused_is_not_programmed_whatever_is_acknowledged() {
    let (a, b) = (name("VirtualService", "a"), name("VirtualService", "b"));
    let mut ledger = Ledger::default();
    let first = survey(5, &[]);
    ledger.update(&first);
    let refuses = |acknowledged| refusing(acknowledged, Kind::Config, "host/http.80/a.example");
    let count = ledger.count(&first, &[refuses(5), proxy("y", 5)]);
    assert_eq!(counts(&count, &a), (1, 2));
    assert_eq!(of(&count, &a).refused[0].message, "this version does not know `x`");
    assert_eq!(counts(&count, &b), (2, 2));
    // Something else is acknowledged: what was refused is still not there.
    let count = ledger.count(&first, &[refuses(6)]);
    assert_eq!(counts(&count, &a), (0, 1));
    // Nor is it with a new generation of the object that makes the same, and so is not sent.
    let second = survey(7, &[(&a, 2)]);
    ledger.update(&second);
    assert_eq!(counts(&ledger.count(&second, &[refuses(7)]), &a), (0, 1));
    assert_eq!(counts(&ledger.count(&second, &[proxy("x", 7)]), &a), (1, 1));
}

#[test]
fn what_is_not_in_force_is_not_programmed() {
    let a = name("VirtualService", "a");
    let mut ledger = Ledger::default();
    let mut survey = survey(5, &[]);
    survey.stale.insert(a.clone());
    ledger.update(&survey);
    let count = ledger.count(&survey, &[proxy("x", 9)]);
    assert_eq!((counts(&count, &a), of(&count, &a).stale), ((0, 1), true));
}

#[test]
fn a_version_that_waits_is_not_programmed_yet() {
    let a = name("VirtualService", "a");
    let mut ledger = Ledger::default();
    ledger.update(&survey(5, &[]));
    let mut waiting = survey(6, &[(&a, 2)]);
    let mut in_force = waiting.observed.clone();
    in_force.remove(&a);
    let state = ClassState { observed: in_force, ..ClassState::clone(&waiting.classes[0]) };
    waiting.classes = vec![Arc::new(state)];
    ledger.update(&waiting);
    let count = ledger.count(&waiting, &[proxy("x", 6)]);
    assert_eq!((counts(&count, &a), of(&count, &a).generation), ((0, 1), 2));
    let there = survey(7, &[(&a, 2)]);
    ledger.update(&there);
    assert_eq!(counts(&ledger.count(&there, &[proxy("x", 7)]), &a), (1, 1));
}

#[test]
fn what_works_through_others_concerns_the_same_proxies() {
    let mut ledger = Ledger::default();
    let first = survey(5, &[]);
    ledger.update(&first);
    let whole = [
        name("VirtualService", "root"),
        name("VirtualService", "part"),
        name("DestinationRule", "second"),
        name("Gateway", "later"),
    ];
    let count = ledger.count(&first, &[proxy("x", 5), proxy("y", 4)]);
    for object in &whole {
        assert_eq!(counts(&count, object), (1, 2), "{object}");
    }
    // A refusal of what they are part of concerns them, too.
    let count = ledger.count(&first, &[refusing(5, Kind::Config, "host/http.80/root.example")]);
    assert_eq!(counts(&count, &whole[0]), (0, 1));
    assert_eq!(of(&count, &whole[0]).refused[0].message, "this version does not know `x`");
    assert_eq!(counts(&count, &whole[3]), (1, 1));
    // A new version of one of them counts from its publication on.
    let second = survey(7, &[(&whole[0], 2)]);
    ledger.update(&second);
    let count = ledger.count(&second, &[proxy("x", 6)]);
    assert_eq!(counts(&count, &whole[0]), (0, 1));
    assert_eq!(counts(&count, &whole[1]), (1, 1));
}

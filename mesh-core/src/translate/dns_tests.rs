use crate::model::{DestinationRef, IpFamilies, ListenerProtocol, ProxyInfo};
use crate::object::ObjectRef;
use crate::translate::fixture::{Docs, docs, sidecar};
use crate::translate::{Translation, Translator, translate};

fn asked(families: IpFamilies) -> ProxyInfo {
    ProxyInfo { dns_capture: true, families, ..sidecar() }
}

/// A name and what is answered.
fn names(t: &Translation) -> Vec<String> {
    let show = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    t.set.dns.values().map(|name| format!("{}: {}", name.key, show(&name.addresses))).collect()
}

/// `networks:port -> destination`
fn tcp(t: &Translation) -> Vec<String> {
    let ListenerProtocol::Outbound(outbound) = &t.set.listeners["0.0.0.0:15001"].protocol else { unreachable!() };
    let to = |destination: &DestinationRef| match destination {
        DestinationRef::Known(key) => key.to_string(),
        DestinationRef::Unknown(key) => format!("!{key}"),
    };
    let show = |entry: &crate::model::OutboundTcp| {
        let networks: Vec<String> = entry.networks.iter().map(ToString::to_string).collect();
        format!("{}:{} -> {}", networks.join(" "), entry.port, to(&entry.destinations[0].destination))
    };
    outbound.tcp.iter().map(show).collect()
}

fn entry(docs: Docs, name: &str, spec: &str) -> Docs {
    let ports = "ports: [{number: 5432, name: tcp, protocol: TCP}]";
    docs.add("ServiceEntry", name, &format!("spec: {{{spec}, {ports}}}"))
}

fn two() -> Docs {
    let docs = entry(docs(), "default/a", "hosts: [A.example], resolution: DNS");
    entry(docs, "default/b", "hosts: [b.example], resolution: STATIC, endpoints: [{address: 10.0.0.2}]")
}

#[test]
fn automatic_addresses_count_for_those_who_answer_for_names() {
    let world = two().world();
    let t = translate(&world, &asked(IpFamilies::V4));
    assert_eq!(names(&t), ["a.example: 240.240.51.221", "b.example: 240.240.70.28"]);
    assert_eq!(
        tcp(&t),
        ["240.240.51.221/32:5432 -> outbound|5432||a.example", "240.240.70.28/32:5432 -> outbound|5432||b.example"]
    );
    assert_eq!(t.addresses("outbound|5432||a.example"), ["a.example:5432"]);
    let both = translate(&world, &asked(IpFamilies::V4First));
    assert_eq!(names(&both)[0], "a.example: 240.240.51.221 2001:2::f0f0:33dd");
    assert_eq!(names(&translate(&world, &asked(IpFamilies::V6)))[0], "a.example: 2001:2::f0f0:33dd");
    let others = translate(&world, &sidecar());
    assert_eq!(names(&others), [""; 0]);
    assert_eq!(tcp(&others)[0], ":5432 -> outbound|5432||a.example");
}

#[test]
fn names_are_those_of_entries_that_the_workload_sees_and_kubernetes_does_not() {
    let docs = docs()
        .add("Service", "default/svc", "spec: {clusterIP: 10.96.0.1, ports: [{name: tcp, port: 5432}]}")
        .add("Service", "default/headless", "spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}");
    let docs = entry(
        docs,
        "default/own",
        "hosts: [own.example], addresses: [10.9.0.1, 'fd00::9', 10.8.0.0/16], resolution: STATIC",
    );
    let docs = entry(docs, "default/wild", "hosts: ['*.wild.example'], addresses: [10.9.0.2], resolution: STATIC");
    let docs = entry(docs, "default/none", "hosts: [none.example], addresses: [10.9.0.3], resolution: NONE");
    let docs = entry(docs, "default/block", "hosts: [block.example], addresses: [10.7.0.0/16], resolution: STATIC");
    let docs = entry(docs, "other/hidden", "hosts: [hidden.example], exportTo: ['.'], resolution: DNS");
    let docs = entry(
        docs,
        "default/merged",
        "hosts: [svc.default.svc.cluster.local], addresses: [10.9.0.4], resolution: STATIC",
    );
    let docs = entry(docs, "default/nowhere", "hosts: [nowhere.example]");
    assert_eq!(
        names(&translate(&docs.world(), &asked(IpFamilies::Unknown))),
        ["*.wild.example: 10.9.0.2", "none.example: 10.9.0.3", "own.example: 10.9.0.1 fd00::9"]
    );
}

#[test]
fn what_is_http_is_known_by_its_automatic_address_too() {
    let docs = docs().add(
        "ServiceEntry",
        "default/a",
        "spec: {hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}",
    );
    let t = translate(&docs.world(), &asked(IpFamilies::V4));
    let aliases: Vec<String> = t.host("80", "a.example").aliases.iter().map(ToString::to_string).collect();
    assert_eq!(aliases, ["a.example.", "240.240.51.221"]);
}

#[test]
fn names_follow_the_world() {
    let mut world = two().world();
    let mut translator = Translator::new(asked(IpFamilies::V4));
    translator.update(&world);
    let before = translator.set().clone();
    let changed = entry(docs(), "default/b", "hosts: [b.example, c.example], addresses: [10.9.0.9]");
    world.apply(changed.objects());
    translator.update(&world);
    let at_once = translate(&world, &asked(IpFamilies::V4));
    assert_eq!(**translator.set(), at_once.set);
    assert_eq!(names(&at_once)[1..], ["b.example: 10.9.0.9", "c.example: 10.9.0.9"]);
    assert!(std::sync::Arc::ptr_eq(&before.dns["a.example"], &translator.set().dns["a.example"]));
    world.remove(&[ObjectRef::new("ServiceEntry", "default", "b")]);
    translator.update(&world);
    assert_eq!(names(&Translation { set: (**translator.set()).clone(), diagnostics: Vec::new() }).len(), 1);
    // An endpoint that changes is no matter of names.
    let names_before = translator.set().dns.clone();
    let moved = docs().add("WorkloadEntry", "default/w", "spec: {address: 10.0.0.9}");
    world.apply(moved.objects());
    translator.update(&world);
    assert!(names_before.ptr_eq(&translator.set().dns));
}

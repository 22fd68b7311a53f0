use crate::diag;
use crate::model::{ListenerProtocol, ProxyInfo, Role, UnknownDestination};
use crate::object::ObjectRef;
use crate::translate::fixture::{Docs, docs, sidecar, to};
use crate::translate::{Composite, Translation};
use crate::translate::{Translator, translate};
use crate::world::World;

fn egress(docs: Docs, hosts: &str) -> Docs {
    docs.add("Sidecar", "default/default", &format!("spec: {{egress: [{{hosts: [{hosts}]}}]}}"))
}

fn services() -> Docs {
    docs().service("default/a", 80).service("other/b", 80).service("third/c", 80)
}

/// Hosts of the table of port 80 that are services.
fn seen(docs: &Docs) -> Vec<String> {
    let t = docs.to_sidecar();
    let known = t.set.routes.get("80").into_iter().flat_map(|routes| &routes.virtual_hosts);
    let short = |host: String| host.split('.').next().unwrap().to_owned();
    known.map(|host| short(host.host.to_string())).filter(|host| host != "*").collect()
}

#[test]
fn hosts_are_seen_by_namespace_and_name() {
    for (hosts, expected) in [
        ("'*/*'", vec!["a", "b", "c"]),
        ("'./*'", vec!["a"]),
        ("'default/*', 'third/*'", vec!["a", "c"]),
        ("'~/*'", vec![]),
        ("'*/b.other.svc.cluster.local'", vec!["b"]),
        ("'other/a.default.svc.cluster.local'", vec![]),
        ("'*/*.other.svc.cluster.local', './a.default.svc.cluster.local'", vec!["a", "b"]),
        ("'*/*', '~other/*'", vec!["a", "c"]),
        ("'*/*', '~/c.third.svc.cluster.local', '~./*'", vec!["b"]),
        ("'other/*', 'third/*', '~*/*.third.svc.cluster.local'", vec!["b"]),
    ] {
        assert_eq!(seen(&egress(services(), hosts)), expected, "{hosts}");
    }
    assert_eq!(seen(&services()), ["a", "b", "c"]);
    let no_egress = services().add("Sidecar", "default/default", "spec: {outboundTrafficPolicy: {mode: ALLOW_ANY}}");
    assert_eq!(seen(&no_egress), ["a", "b", "c"]);
}

/// What is exported to nobody else is not seen, whatever the Sidecar says.
#[test]
fn export_to_counts_as_well() {
    let hidden = "spec: {hosts: [hidden.example], exportTo: [.], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}";
    let docs = services().add("ServiceEntry", "other/hidden", hidden);
    assert_eq!(seen(&egress(docs, "'*/*'")), ["a", "b", "c"]);
}

/// Of services with one name the one counts that is seen, for rules too that name it.
#[test]
fn a_name_means_the_service_that_is_seen() {
    let entry = |address: &str| {
        format!(
            "spec: {{hosts: [x.example], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: {address}}}]}}"
        )
    };
    let docs = docs().add_on(1, "ServiceEntry", "first/x", &entry("10.0.0.1")).add_on(
        2,
        "ServiceEntry",
        "second/x",
        &entry("10.0.0.2"),
    );
    let key = "outbound|80||x.example";
    assert_eq!(egress(docs, "'second/*'").to_sidecar().addresses(key), ["10.0.0.2:80"]);
}

#[test]
fn what_a_rule_names_need_not_be_seen() {
    let rules = format!("spec: {{hosts: [a], http: [{}]}}", to("b.other.svc.cluster.local"));
    let t = egress(services(), "'./*'").add("VirtualService", "default/v", &rules).to_sidecar();
    assert!(t.set.destinations.contains_key("outbound|80||b.other.svc.cluster.local"));
    assert_eq!(t.hosts("80"), ["a.default.svc.cluster.local", "*"]);
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn a_listener_says_what_is_spoken_on_its_port() {
    let any = "spec: {clusterIP: 10.0.0.9, ports: [{name: x, port: 80}, {name: y, port: 81}]}";
    let sidecar = |protocol: &str| {
        format!(
            "spec: {{egress: [{{port: {{number: 80, protocol: {protocol}, name: e}}, hosts: ['*/*']}}, {{hosts: ['*/*']}}]}}"
        )
    };
    let outbound = |protocol: &str| {
        let t = docs()
            .add("Service", "default/any", any)
            .add("Sidecar", "default/default", &sidecar(protocol))
            .to_sidecar();
        let ListenerProtocol::Outbound(outbound) = &t.set.listeners["0.0.0.0:15001"].protocol else { unreachable!() };
        let tcp = outbound.tcp.iter().map(|tcp| (tcp.port, tcp.routes.is_some()));
        (outbound.http.keys().copied().collect::<Vec<u16>>(), tcp.collect::<Vec<_>>())
    };
    assert_eq!(outbound("HTTP"), (vec![80], vec![(81, true)]));
    assert_eq!(outbound("TCP"), (vec![], vec![(80, false), (81, true)]));
}

#[test]
fn the_listener_names_the_sidecar_that_it_follows() {
    let world = egress(services(), "'./*'").world();
    let mut translator = Translator::new(sidecar());
    translator.update(&world);
    let concerned = |translator: &Translator| {
        let objects = translator.concerned().get(&Composite::Listener("0.0.0.0:15001".into())).cloned();
        objects.iter().flat_map(|objects| objects.iter()).map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(concerned(&translator), ["Sidecar/default/default"]);
}

/// A Sidecar that is not for a proxy costs it nothing.
#[test]
fn a_change_is_for_those_whom_it_concerns() {
    let docs = egress(services(), "'./*'");
    let mut world = docs.world();
    let proxies = [sidecar(), ProxyInfo { role: Role::Sidecar, ..ProxyInfo::edge("other", "other", [].into()) }];
    let mut translators = proxies.map(Translator::new);
    translators.iter_mut().for_each(|translator| translator.update(&world));
    let before = translators.each_ref().map(|translator| translator.set().clone());
    let change = docs_of("Sidecar", "default/default", "spec: {egress: [{hosts: ['other/*']}]}");
    world.apply(change.objects());
    translators.iter_mut().for_each(|translator| translator.update(&world));
    let [own, other] = translators.each_ref().map(Translator::set);
    assert!(!std::sync::Arc::ptr_eq(own, &before[0]) && std::sync::Arc::ptr_eq(other, &before[1]));
    assert_eq!(**own, translate(&world, &sidecar()).set);
    // What stays is the same allocation.
    let key = "0.0.0.0:15006";
    assert!(std::sync::Arc::ptr_eq(&own.listeners[key], &before[0].listeners[key]));
    // One in the root namespace is for both, but for who has one of his own.
    let before = translators.each_ref().map(|translator| translator.set().clone());
    world.apply(docs_of("Sidecar", "istio-system/default", "spec: {egress: [{hosts: ['~/*']}]}").objects());
    translators.iter_mut().for_each(|translator| translator.update(&world));
    let [own, other] = translators.each_ref().map(Translator::set);
    assert!(std::sync::Arc::ptr_eq(own, &before[0]) && !std::sync::Arc::ptr_eq(other, &before[1]));
}

fn docs_of(kind: &str, name: &str, body: &str) -> Docs {
    docs().add(kind, name, body)
}

#[test]
fn the_outbound_policy_of_the_sidecar_counts_before_that_of_the_mesh() {
    let unknown = |policy: &str| {
        let t = services()
            .add("Sidecar", "default/default", &format!("spec: {{outboundTrafficPolicy: {policy}}}"))
            .to_sidecar();
        let ListenerProtocol::Outbound(outbound) = &t.set.listeners["0.0.0.0:15001"].protocol else { unreachable!() };
        outbound.unknown.clone()
    };
    assert_eq!(unknown("{mode: ALLOW_ANY}"), UnknownDestination::Passthrough);
    assert_eq!(unknown("{mode: REGISTRY_ONLY}"), UnknownDestination::Refuse);
    assert_eq!(unknown("{}"), UnknownDestination::Refuse);
}

/// Hosts of the tables of a listener of its own; none: there is no such listener.
fn own(t: &Translation, address: &str) -> Option<Vec<String>> {
    let ListenerProtocol::Outbound(outbound) = &t.set.listeners.get(address)?.protocol else { unreachable!() };
    assert!(outbound.direct && outbound.unknown == UnknownDestination::Refuse);
    let tables = outbound.http.values().flat_map(|http| t.hosts(&http.routes));
    let short = |host: String| host.split('.').next().unwrap().to_owned();
    let bytes = outbound.tcp.iter().map(|tcp| format!("tcp {}", tcp.port));
    Some(tables.map(short).chain(bytes).collect())
}

#[test]
fn listeners_of_their_own_have_hosts_of_their_own() {
    let db = "spec: {clusterIP: 10.0.0.5, ports: [{name: tcp, port: 3306}]}";
    let spec = "spec: {egress: [{port: {number: 80, protocol: HTTP}, bind: 127.0.0.2, captureMode: NONE, hosts: ['other/*']}, \
                {captureMode: NONE, hosts: ['./*']}]}";
    let t = services().add("Service", "default/db", db).add("Sidecar", "default/default", spec).to_sidecar();
    assert_eq!(own(&t, "127.0.0.2:80").unwrap(), ["b", "*"]);
    assert_eq!(own(&t, "127.0.0.1:80").unwrap(), ["a", "*"]);
    assert_eq!(own(&t, "127.0.0.1:3306").unwrap(), ["tcp 3306"]);
    let origin = &t.set.listeners["127.0.0.2:80"].origin;
    assert_eq!(origin.to_string(), "Sidecar/default/default");
    // Nothing else is seen.
    let ListenerProtocol::Outbound(redirected) = &t.set.listeners["0.0.0.0:15001"].protocol else { unreachable!() };
    assert!(redirected.http.is_empty() && redirected.tcp.is_empty() && !redirected.direct);
    assert_eq!(t.host("127.0.0.2:80", "*").rules[0].name.as_deref(), Some("block_all"));
}

#[test]
fn a_listener_of_its_own_goes_with_its_last_host() {
    let spec = "spec: {egress: [{captureMode: NONE, hosts: ['*/*']}]}";
    let docs = docs().service("default/a", 80).service("other/b", 81).add("Sidecar", "default/default", spec);
    let mut world = docs.world();
    let mut translator = Translator::new(sidecar());
    translator.update(&world);
    let listeners =
        |translator: &Translator| translator.set().listeners.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(listeners(&translator), ["0.0.0.0:15001", "0.0.0.0:15006", "127.0.0.1:80", "127.0.0.1:81"]);
    world.remove(&[ObjectRef::new("Service", "other", "b")]);
    translator.update(&world);
    assert_eq!(listeners(&translator), ["0.0.0.0:15001", "0.0.0.0:15006", "127.0.0.1:80"]);
}

/// Keys of the routes of HTTP at a listener, by the port of an authority; behind them those of all others.
fn by_port(t: &Translation, listener: &str, port: u16) -> Option<Vec<(u16, String)>> {
    let ListenerProtocol::Outbound(outbound) = &t.set.listeners.get(listener)?.protocol else { unreachable!() };
    let http = outbound.http.get(&port)?;
    let named = http.by_port.iter().map(|(port, routes)| (*port, routes.to_string()));
    Some(named.chain([(0, http.routes.to_string())]).collect())
}

#[test]
fn where_the_port_says_nothing_the_authority_does() {
    let both = "spec: {clusterIP: 10.0.0.5, ports: [{name: http, port: 80}, {name: http-more, port: 8080}, {name: tcp, port: 3306}]}";
    let spec = "spec: {egress: [{port: {number: 0, protocol: HTTP}, bind: 'unix:///a', hosts: ['*/*']}, \
                {port: {number: 3128, protocol: HTTP_PROXY}, captureMode: NONE, hosts: ['./*']}, \
                {port: {number: 3129, protocol: HTTP_PROXY}, hosts: ['other/*']}, {hosts: ['~/*']}]}";
    let t = services().add("Service", "default/both", both).add("Sidecar", "default/default", spec).to_sidecar();
    assert_eq!(t.codes(), [""; 0]);
    let of = |listener: &str, prefix: &str, ports: &[u16]| {
        let named = ports.iter().map(|port| (*port, format!("{prefix}|{port}")));
        let expected: Vec<(u16, String)> = named.chain([(0, prefix.to_owned())]).collect();
        let port = if listener.starts_with("unix") { 0 } else { prefix.rsplit(':').next().unwrap().parse().unwrap() };
        assert_eq!(by_port(&t, listener, port), Some(expected), "{listener}");
    };
    of("unix:///a", "unix:///a", &[80, 8080]);
    of("127.0.0.1:3128", "127.0.0.1:3128", &[80, 8080]);
    of("0.0.0.0:15001", "3129", &[80]);
    let short =
        |key: &str| t.hosts(key).into_iter().map(|host| host.split('.').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(short("unix:///a|80"), ["a", "b", "both", "c"]);
    assert_eq!(short("unix:///a|8080"), ["both"]);
    // Those of a single port are found without it.
    assert_eq!(short("unix:///a"), ["a", "b", "c", "*"]);
    assert_eq!(short("127.0.0.1:3128"), ["a", "*"]);
    let listener = &t.set.listeners["unix:///a"];
    assert_eq!(
        (listener.address.to_string(), listener.port, listener.is_redirected()),
        ("unix:///a".to_owned(), 0, false)
    );
    let ListenerProtocol::Outbound(outbound) = &listener.protocol else { unreachable!() };
    assert!(outbound.tcp.is_empty());
}

#[test]
fn bytes_at_a_unix_socket_are_for_one_port_of_one_service() {
    let two = "spec: {clusterIP: 10.0.0.5, ports: [{name: tcp-a, port: 3306}, {name: tcp-b, port: 3307}]}";
    let one = "spec: {clusterIP: 10.0.0.6, ports: [{name: tcp, port: 5432}]}";
    let spec = "spec: {egress: [{port: {number: 0, protocol: TCP}, bind: 'unix:///db', hosts: ['./two.default.svc.cluster.local', \
                './one.default.svc.cluster.local']}]}";
    let docs = docs().add_on(1, "Service", "default/two", two).add_on(2, "Service", "default/one", one);
    let docs = docs.add("Sidecar", "default/default", spec);
    let bytes = |t: &Translation| {
        let ListenerProtocol::Outbound(outbound) = &t.set.listeners["unix:///db"].protocol else { unreachable!() };
        assert!(outbound.http.is_empty());
        let shown = |tcp: &crate::model::OutboundTcp| format!("{} {:?}", tcp.port, tcp.destinations[0].destination);
        outbound.tcp.iter().map(shown).collect::<Vec<_>>()
    };
    let t = docs.to_sidecar();
    assert_eq!(bytes(&t), ["0 Known(\"outbound|5432||one.default.svc.cluster.local\")"]);
    assert_eq!(t.codes(), ["MESH0143"]);
    let rule = "spec: {hosts: [two], tcp: [{route: [{destination: {host: two, port: {number: 3307}}}]}]}";
    let t = docs.add("VirtualService", "default/two", rule).to_sidecar();
    assert_eq!(bytes(&t)[0], "0 Known(\"outbound|3307||two.default.svc.cluster.local\")");
}

#[test]
fn what_cannot_be_had_is_said_and_the_rest_is_there() {
    let spec = "spec: {egress: [{port: {number: 15001, protocol: HTTP}, captureMode: NONE, hosts: ['*/*']}, {hosts: ['./*']}]}";
    let t = services().add("Sidecar", "default/default", spec).to_sidecar();
    let fields: Vec<&str> = t.diagnostics.iter().map(|said| said.field.as_str()).collect();
    assert_eq!(fields, ["spec.egress[0].port.number"]);
    assert_eq!(t.codes(), ["MESH0142"]);
    assert_eq!(t.hosts("80"), ["a.default.svc.cluster.local", "*"]);
}

#[test]
fn who_loses_is_told_who_wins() {
    let some = "spec: {workloadSelector: {labels: {app: client}}, egress: [{hosts: ['./*']}]}";
    let all = "spec: {egress: [{hosts: ['./*']}]}";
    let docs = services()
        .add_on(2, "Sidecar", "default/b", some)
        .add_on(1, "Sidecar", "default/c", some)
        .add_on(3, "Sidecar", "default/d", all)
        .add_on(4, "Sidecar", "default/e", all);
    let t = docs.to_sidecar();
    assert!(
        t.said(diag::SIDECAR_OVERLAP)[0]
            .starts_with("error[MESH0140] Sidecar/default/b spec.workloadSelector: Sidecar/default/c is older")
    );
    assert!(
        t.said(diag::SIDECAR_DUPLICATE)[0].starts_with("error[MESH0141] Sidecar/default/e: Sidecar/default/d is older")
    );
    assert_eq!(t.diagnostics.len(), 2);
    // Who is selected by neither does not hear of the one.
    let other = ProxyInfo { role: Role::Sidecar, ..ProxyInfo::edge("x", "default", [].into()) };
    let said = translate(&World::from_objects(docs.objects()), &other).diagnostics;
    assert_eq!(said.iter().map(|said| said.code).collect::<Vec<_>>(), ["MESH0141"]);
}

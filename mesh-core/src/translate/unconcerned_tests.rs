use super::super::fixture::{docs, http_server, proxy, sidecar};
use super::*;

fn why(world: &World, proxies: &[&ProxyInfo], kind: &str, name: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    unconcerned(world, proxies, &ObjectRef::new(kind, namespace, name)).map_or_else(String::new, |why| why.to_string())
}

fn service(gateways: &str, more: &str) -> String {
    format!("spec: {{hosts: [a.example], gateways: [{gateways}], http: [{{directResponse: {{status: 200}}}}]{more}}}")
}

#[test]
fn virtual_services_say_which_gateway_is_in_the_way_and_why() {
    let other = format!("spec: {{selector: {{istio: foo, app: x}}, servers: [{}]}}", http_server(80, "'*'"));
    let any = format!("spec: {{selector: {{}}, servers: [{}]}}", http_server(80, "'*'"));
    let world = docs()
        .http("b.example")
        .add("Gateway", "default/other", &other)
        .add("Gateway", "default/any", &any)
        .add("VirtualService", "default/mesh", &service("mesh", ""))
        .add("VirtualService", "default/nothing", &service("", ""))
        .add("VirtualService", "default/missing", &service("gw", ""))
        .add("VirtualService", "default/other", &service("other, mesh", ""))
        .add("VirtualService", "default/any", &service("any", ""))
        .add("VirtualService", "default/host", &service("istio-system/gw", ""))
        .add("VirtualService", "default/private", &service("istio-system/gw", ", exportTo: [.]"))
        .add("VirtualService", "default/many", &service("a, b, c, d, e, f", ""))
        .add("VirtualService", "default/part", "spec: {http: [{directResponse: {status: 200}}]}")
        .world();
    let edge = proxy();
    let of = |proxies: &[&ProxyInfo], name: &str| why(&world, proxies, "VirtualService", &format!("default/{name}"));
    for proxies in [&[][..], &[&edge]] {
        assert_eq!(of(proxies, "mesh"), "`spec.gateways` names `mesh` only, and no sidecar is connected");
        let empty = "`spec.gateways` is empty, which means `mesh` only, and no sidecar is connected";
        assert_eq!(of(proxies, "nothing"), empty);
        assert_eq!(of(proxies, "missing"), "gateway default/gw does not exist");
        let labels = "gateway default/other selects no connected proxy (app: x, istio: foo)";
        assert_eq!(of(proxies, "other"), labels);
        assert!(of(proxies, "many").ends_with("gateway default/d does not exist and 2 more"));
        assert!(of(proxies, "part").starts_with("it has no hosts, and no VirtualService"));
    }
    let any = "gateway default/any selects every gateway, and none is connected";
    assert_eq!(of(&[], "any"), any);
    let labels = "gateway istio-system/gw selects no connected proxy (istio: ingressgateway)";
    assert_eq!(of(&[], "host"), labels);
    let closed = "no server of gateway istio-system/gw opens its hosts";
    assert_eq!(of(&[&edge], "host"), closed);
    let private = "`spec.exportTo` leaves out the namespaces of the proxies of gateway istio-system/gw";
    assert_eq!(of(&[&edge], "private"), private);
}

#[test]
fn what_sidecars_are_told_when_they_ask_waits_for_nobody() {
    let world = docs()
        .add("VirtualService", "default/mesh", &service("mesh", ""))
        .add("VirtualService", "default/both", &service("missing, mesh", ""))
        .add("VirtualService", "default/edge", &service("missing", ""))
        .add("VirtualService", "default/private", &service("mesh", ", exportTo: [.]"))
        .add("DestinationRule", "default/rule", "spec: {host: a.example}")
        .add("DestinationRule", "default/typo", "spec: {host: b.example}")
        .add(
            "ServiceEntry",
            "default/entry",
            "spec: {hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}]}",
        )
        .world();
    let sidecar = sidecar();
    let of = |kind: &str, name: &str| unconcerned(&world, &[&sidecar], &ObjectRef::new(kind, "default", name)).unwrap();
    for (kind, name) in [
        ("VirtualService", "mesh"),
        ("VirtualService", "private"),
        ("DestinationRule", "rule"),
        ("ServiceEntry", "entry"),
    ] {
        assert!(of(kind, name).is_on_demand(), "{kind} {name}: {}", of(kind, name));
    }
    assert!(!of("VirtualService", "edge").is_on_demand());
    assert!(!of("VirtualService", "both").is_on_demand(), "a Gateway is in the way");
    assert!(!of("DestinationRule", "typo").is_on_demand(), "nobody can call it");
    let elsewhere = ProxyInfo { namespace: "elsewhere".to_owned(), ..sidecar.clone() };
    let hidden = why(&world, &[&elsewhere], "VirtualService", "default/private");
    assert!(hidden.ends_with("and `spec.exportTo` leaves out all connected sidecars"), "{hidden}");
}

/// It is opened, and has nothing to say there: who looked for a missing host would look in vain.
#[test]
fn what_is_opened_and_does_not_count_is_not_called_closed() {
    let body = |more: &str| format!("spec: {{hosts: [a.example], gateways: [istio-system/gw], {more}}}");
    let all = "http: [{directResponse: {status: 200}}]";
    let elsewhere = "http: [{match: [{uri: {prefix: /x}, port: 81}], directResponse: {status: 200}}]";
    let tcp = "tcp: [{route: [{destination: {host: s}}]}]";
    let text = docs()
        .http("a.example")
        .add_on(1, "VirtualService", "default/first", &body(all))
        .add_on(2, "VirtualService", "default/second", &body(all))
        .add("VirtualService", "default/elsewhere", &body(elsewhere))
        .add("VirtualService", "default/tcp", &body(tcp));
    let world = World::from_objects(crate::api::parse("", text.text(), "default").objects);
    let translation = super::super::translate(&world, &proxy());
    assert_eq!(translation.order("a.example"), ["default/first[0]"]);
    for name in ["second", "elsewhere", "tcp"] {
        let said = why(&world, &[&proxy()], "VirtualService", &format!("default/{name}"));
        let idle = "gateway istio-system/gw opens its hosts, and none of its rules is in force there";
        assert_eq!(said, idle, "{name}");
    }
}

#[test]
fn other_objects_say_what_they_lack() {
    let entry = |export: &str| {
        format!(
            "spec: {{hosts: [x.example, y.example], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS{export}}}"
        )
    };
    let world = docs()
        .http("'*'")
        .add("DestinationRule", "default/dr", "spec: {host: reviews}")
        .add("DestinationRule", "default/private", "spec: {host: reviews, exportTo: [.]}")
        .add("ServiceEntry", "default/se", &entry(""))
        .add("ServiceEntry", "other/private", &entry(", exportTo: [.]"))
        .add("ServiceEntry", "twice/a", &entry(""))
        .add("ServiceEntry", "twice/b", &entry(""))
        .service("default/s", 80)
        .world();
    let of = |proxies: &[&ProxyInfo], kind: &str, name: &str| why(&world, proxies, kind, name);
    let edge = proxy();
    let selector = "`spec.selector` selects no connected proxy (istio: ingressgateway)";
    assert_eq!(of(&[], "Gateway", "istio-system/gw"), selector);
    assert!(of(&[&edge], "Gateway", "istio-system/gw").starts_with("none of its servers"));
    let unused = "no destination of connected proxies (host `reviews`) uses it";
    assert_eq!(of(&[&edge], "DestinationRule", "default/dr"), unused);
    let hidden = "`spec.exportTo` leaves out the namespaces of all connected proxies";
    assert_eq!(of(&[&edge], "DestinationRule", "default/private"), hidden);
    assert_eq!(of(&[], "DestinationRule", "default/private"), unused);
    let unused = "no destination of connected proxies (`x.example`, `y.example`) comes from it";
    assert_eq!(of(&[&edge], "ServiceEntry", "default/se"), unused);
    assert_eq!(of(&[&edge], "ServiceEntry", "other/private"), hidden);
    // They stand for each other: whether this one counts is not known here.
    for name in ["twice/a", "twice/b"] {
        assert_eq!(of(&[&edge], "ServiceEntry", name), "", "{name}");
    }
    assert_eq!(of(&[&edge], "Service", "default/s"), "");
    assert_eq!(of(&[&edge], "DestinationRule", "default/gone"), "");
}

/// Of two replicas, the one whose proxies are nearer to having it is right.
#[test]
fn what_got_further_is_greater() {
    let world = docs().http("b.example").add("VirtualService", "default/a", &service("istio-system/gw, x", "")).world();
    let name = ObjectRef::new("VirtualService", "default", "a");
    let edge = proxy();
    let [nobody, closed] = [&[][..], &[&edge]].map(|proxies| unconcerned(&world, proxies, &name).unwrap());
    assert!(nobody < closed, "{nobody} {closed}");
    // Of a replica of another version.
    let read: Unconcerned = serde_json::from_str(r#"{ "step": 200, "text": "more is known" }"#).unwrap();
    assert!(read > closed);
}

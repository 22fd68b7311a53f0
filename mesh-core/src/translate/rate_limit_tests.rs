use crate::model::{LimitKey, ProxyInfo};
use crate::translate::fixture::{docs, proxy};
use crate::translate::{Translator, translate};
use crate::world::World;

#[test]
fn defaults_are_filled_in() {
    let spec = "spec: {limits: [{name: a, requests: 100, per: 1m, by: [{clientAddress: {}}, {header: {name: X-Key}}, \
                {claim: '[a][b]'}]}, {name: b, requests: 1, per: 1s, burst: 5, headers: false, scope: Global, \
                to: [{operation: {paths: [/a]}}], when: [{key: 'experimental.envoy.filters.x', values: [a]}]}]}";
    let world = World::from_objects(docs().add("RateLimit", "istio-system/a", spec).objects_anyway());
    let translation = translate(&world, &proxy());
    let limits = &translation.set.rate_limits["istio-system/a"].limits;
    let [a, b] = limits.as_slice() else { panic!("{limits:?}") };
    assert_eq!(a.amount.to_string(), "100 in 60s, 100 at once, by clientAddress/32/64 and header x-key and claim a.b");
    assert_eq!(a.amount.by[1], LimitKey::Header("x-key".to_owned()));
    assert!(!a.silent && a.from.is_empty() && a.to.is_empty() && a.when.is_empty());
    assert_eq!(b.amount.to_string(), "1 in 1s, 5 at once, over all proxies");
    assert!(b.silent);
    // What is not understood counts nothing.
    assert_eq!((b.index, b.to.len(), b.when[0].values.len()), (1, 1, 0));
    let said: Vec<String> = translation.diagnostics.iter().map(|one| format!("{} {}", one.code, one.field)).collect();
    assert_eq!(said, ["MESH0124 spec.limits[1].when[0].key"]);
}

#[test]
fn limits_are_for_whom_policies_are() {
    let mut names = docs();
    for (name, whom) in [
        ("istio-system/root", ""),
        ("istio-system/selected", "selector: {matchLabels: {istio: ingressgateway}}, "),
        ("istio-system/other", "selector: {matchLabels: {istio: egressgateway}}, "),
        ("default/elsewhere", ""),
        ("edge/own", ""),
        ("edge/attached", "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: gw}], "),
    ] {
        names = names.add("RateLimit", name, &format!("spec: {{{whom}limits: [{{name: a, requests: 1, per: 1s}}]}}"));
    }
    let world = World::from_objects(names.objects_anyway());
    let keys = |proxy: &ProxyInfo| -> Vec<String> {
        translate(&world, proxy).set.rate_limits.keys().map(|key| key.to_string()).collect()
    };
    assert_eq!(keys(&proxy()), ["istio-system/root", "istio-system/selected"]);
    let labels = [("gateway.networking.k8s.io/gateway-name".to_owned(), "gw".to_owned())];
    let managed = ProxyInfo::edge("edge", "edge", labels.into());
    assert_eq!(keys(&managed), ["edge/attached", "edge/own", "istio-system/root"]);
}

#[test]
fn a_change_of_limits_touches_nothing_else() {
    let http = "route: [{destination: {host: a.default.svc.cluster.local}}]";
    let mut world =
        World::from_objects(docs().http("'*'").vs("default/a", "'*'", &format!("{{{http}}}")).objects_anyway());
    let mut translator = Translator::new(proxy());
    translator.update(&world);
    let before = translator.set().clone();
    let added = docs().add("RateLimit", "istio-system/a", "spec: {limits: [{name: a, requests: 1, per: 1s}]}");
    let added = added.objects_anyway();
    let name = added[0].object_ref();
    world.apply(added);
    translator.update(&world);
    assert_eq!(translator.set().rate_limits.len(), 1);
    assert!(before.routes.ptr_eq(&translator.set().routes));
    assert!(before.listeners.ptr_eq(&translator.set().listeners));
    world.remove(&[name]);
    translator.update(&world);
    assert_eq!(*translator.set(), before);
}

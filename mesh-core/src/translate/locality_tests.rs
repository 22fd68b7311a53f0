use std::sync::Arc;

use super::super::fixture::{Docs, docs, to};
use crate::model::{
    Criterion, Destination, Distribution, Failover, LocalityPattern, LocalityRule, PriorityLabels, ZoneAware,
};

const WEB: &str = "outbound|80||web.default.svc.cluster.local";
const OUTLIERS: &str = "outlierDetection: {consecutive5xxErrors: 5}";

fn destination(docs: Docs) -> Destination {
    let translation = docs.http("'*'").vs("default/v", "a.com", &to("web")).translate_anyway();
    Destination::clone(&translation.set.destinations[WEB])
}

fn rule(docs: Docs) -> Option<LocalityRule> {
    destination(docs).locality.map(Arc::unwrap_or_clone)
}

fn web() -> Docs {
    docs().service("default/web", 80)
}

/// Under this traffic policy (flow style).
fn under(docs: Docs, policy: &str) -> Option<LocalityRule> {
    rule(docs.add("DestinationRule", "default/web", &format!("spec: {{host: web, trafficPolicy: {{{policy}}}}}")))
}

fn setting(setting: &str) -> Option<LocalityRule> {
    under(web(), &format!("{OUTLIERS}, loadBalancer: {{localityLbSetting: {setting}}}"))
}

fn failover(criteria: Vec<Criterion>, by_locality: bool, weighted: bool) -> Option<LocalityRule> {
    Some(LocalityRule::Failover(Failover { criteria, by_locality, regions: vec![], weighted }))
}

fn label(name: &str, value: &str) -> Criterion {
    Criterion::Label { name: name.into(), value: value.into() }
}

#[test]
fn near_endpoints_come_first_where_outliers_are_detected() {
    assert_eq!(rule(web()), None);
    assert_eq!(under(web(), "loadBalancer: {simple: RANDOM}"), None);
    assert_eq!(under(web(), OUTLIERS), failover(vec![], true, false));
    assert_eq!(setting("{enabled: false}"), None);
    assert_eq!(setting("{enabled: true}"), failover(vec![], true, false));
    let without = "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}";
    assert_eq!(under(web(), without), None);
}

#[test]
fn regions_and_labels_order_them() {
    assert_eq!(
        setting("{failover: [{from: us, to: eu}]}"),
        Some(LocalityRule::Failover(Failover {
            criteria: vec![],
            by_locality: true,
            regions: vec![("us".into(), "eu".into())],
            weighted: true,
        }))
    );
    let criteria = vec![
        Criterion::Region,
        Criterion::Node,
        // The proxy's own value, and none.
        label("istio", "ingressgateway"),
        label("version", ""),
        label("topology.istio.io/cluster", "Kubernetes"),
        label("topology.kubernetes.io/zone", "z2"),
    ];
    let priority = "{failoverPriority: [topology.kubernetes.io/region, kubernetes.io/hostname, istio, version, \
                    topology.istio.io/cluster, 'topology.kubernetes.io/zone=z2']}";
    assert_eq!(setting(priority), failover(criteria, false, true));
}

#[test]
fn shares_need_no_outlier_detection() {
    let pattern = |text: &str| LocalityPattern(text.into());
    let wanted = Some(LocalityRule::Distribute(vec![Distribution {
        from: pattern("us/a/*"),
        to: vec![(pattern("us/a/*"), 80), (pattern("us/b"), 20)],
    }]));
    let distribute = "{distribute: [{from: us/a/*, to: {us/a/*: 80, us/b: 20}}]}";
    assert_eq!(under(web(), &format!("loadBalancer: {{localityLbSetting: {distribute}}}")), wanted);
}

#[test]
fn the_mesh_decides_where_nobody_else_does() {
    let mesh = |setting: &str| {
        let body = format!("data: {{mesh: 'localityLbSetting: {setting}'}}");
        web().add("ConfigMap", "istio-system/istio", &body)
    };
    assert_eq!(under(mesh("{enabled: false}"), OUTLIERS), None);
    let region = "{failover: [{from: us, to: eu}]}";
    assert_ne!(under(mesh(region), OUTLIERS), failover(vec![], true, false));
    // A rule that says anything says all of it.
    let own = format!("{OUTLIERS}, loadBalancer: {{localityLbSetting: {{enabled: true}}}}");
    assert_eq!(under(mesh(region), &own), failover(vec![], true, false));
    // What is wrong is as if it was not there.
    let wrong = mesh("{distribute: [{from: a, to: {b: 99}}]}");
    let translation = wrong.http("'*'").vs("default/v", "a.com", &to("web")).translate_anyway();
    let found: Vec<_> = translation.diagnostics.iter().map(|found| (found.code, &*found.field)).collect();
    assert!(translation.set.destinations[WEB].locality.is_none());
    assert_eq!(found, [("MESH0003", "data.mesh.localityLbSetting.distribute[0].to")]);
}

#[test]
fn services_ask_for_what_is_near_without_outlier_detection() {
    let network = || label("topology.istio.io/network", "");
    let zone = failover(vec![network(), Criterion::Region, Criterion::Zone], false, true);
    let node =
        failover(vec![network(), Criterion::Region, Criterion::Zone, Criterion::Subzone, Criterion::Node], false, true);
    let service = |distribution: &str| {
        let spec = format!("spec: {{trafficDistribution: {distribution}, ports: [{{name: http, port: 80}}]}}");
        docs().add("Service", "default/web", &spec)
    };
    assert_eq!(rule(service("PreferClose")), zone);
    assert_eq!(rule(service("PreferSameZone")), zone);
    assert_eq!(rule(service("PreferSameNode")), node);
    assert_eq!(rule(service("Somewhere")), None);
    let annotated = |word: &str| {
        let annotation = format!("networking.istio.io/traffic-distribution: {word}");
        docs().annotated("Service", "default/web", &annotation, "spec: {ports: [{name: http, port: 80}]}")
    };
    assert_eq!(rule(annotated("PreferSameNode")), node);
    assert_eq!(rule(annotated("Any")), None);
    let namespace = || {
        let annotation = "networking.istio.io/traffic-distribution: PreferClose";
        let text = format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: default, annotations: {{{annotation}}}}}\n"
        );
        Docs::of(&text)
    };
    let plain = |docs: Docs| docs.add("Service", "default/web", "spec: {ports: [{name: http, port: 80}]}");
    assert_eq!(rule(plain(namespace())), zone);
    // The rule comes first.
    let off = "loadBalancer: {localityLbSetting: {enabled: false}}";
    assert_eq!(under(service("PreferClose"), off), None);
}

#[test]
fn endpoints_tell_what_is_asked_of_them() {
    let pods = |rule: &str| {
        let pod = |name: &str, node: &str, labels: &str, ip: &str| {
            let body = format!("spec: {{nodeName: {node}}}\nstatus: {{podIP: {ip}}}");
            (format!("default/{name}"), format!("app: web, {labels}"), body)
        };
        let mut docs =
            docs().add("Service", "default/web", "spec: {selector: {app: web}, ports: [{name: http, port: 80}]}");
        let all = [
            pod("a", "n1", "istio: ingressgateway", "10.0.0.1"),
            pod("b", "n2", "istio: other, istio-locality: us.z1", "10.0.0.2"),
        ];
        for (name, labels, body) in all {
            docs = docs.labelled(&name, &labels, &body);
        }
        let policy = format!("{OUTLIERS}, loadBalancer: {{localityLbSetting: {{failoverPriority: [{rule}]}}}}");
        let docs =
            docs.add("DestinationRule", "default/web", &format!("spec: {{host: web, trafficPolicy: {{{policy}}}}}"));
        let translation = docs.http("'*'").vs("default/v", "a.com", &to("web")).translate_anyway();
        let endpoints = &translation.set.endpoints[WEB].endpoints;
        let labels: Vec<_> = endpoints.iter().map(|endpoint| endpoint.priority_labels.as_deref().cloned()).collect();
        labels
    };
    let labels = |agreeing, node: &str| Some(PriorityLabels { agreeing, node: node.into() });
    assert_eq!(pods("istio, kubernetes.io/hostname"), [labels(1, "n1"), labels(0, "n2")]);
    assert_eq!(pods("version, 'topology.kubernetes.io/zone=z1'"), [labels(1, ""), labels(3, "")]);
    assert_eq!(pods("topology.kubernetes.io/region"), [None, None]);
}

fn zones(docs: Docs, setting: &str) -> Option<LocalityRule> {
    under(docs, &format!("loadBalancer: {{zoneAwareLbSetting: {setting}}}"))
}

#[test]
fn zones_are_weighed_by_the_proxies_of_the_workload() {
    let docs = || {
        let pods = [
            ("istio-system/a", "ingressgateway", "us.a", "True"),
            ("istio-system/b", "ingressgateway", "us.b", "True"),
            ("istio-system/c", "ingressgateway", "us.b", "True"),
            ("istio-system/d", "ingressgateway", "us.b", "False"),
            ("istio-system/e", "other", "us.b", "True"),
            ("default/f", "ingressgateway", "us.b", "True"),
        ];
        pods.into_iter().fold(web(), |docs, (name, label, place, ready)| {
            let status = format!("status: {{podIP: 10.0.0.1, conditions: [{{type: Ready, status: '{ready}'}}]}}");
            docs.labelled(name, &format!("istio: {label}, istio-locality: {place}"), &status)
        })
    };
    let proxies = vec![("us/a".into(), 1), ("us/b".into(), 2)];
    let plain = ZoneAware { failover: Failover::default(), proxies: proxies.clone(), minimum: 6 };
    assert_eq!(zones(docs(), "{}"), Some(LocalityRule::ZoneAware(plain)));
    assert_eq!(zones(docs(), "{enabled: false}"), None);
    let failover = Failover {
        criteria: vec![label("version", "v2")],
        regions: vec![("us".into(), "eu".into())],
        ..Failover::default()
    };
    assert_eq!(
        zones(
            docs(),
            "{enabled: true, minClusterSize: 2, failover: [{from: us, to: eu}], failoverPriority: [version=v2]}"
        ),
        Some(LocalityRule::ZoneAware(ZoneAware { failover, proxies, minimum: 2 }))
    );
}

//! What is said about an object in its surroundings is what is said about it in the whole world.

use std::collections::BTreeSet;

use super::*;
use crate::api::parse;
use crate::diag::Diagnostic;
use crate::model::ProxyInfo;
use crate::object::ObjectRef;
use crate::translate::translate;

const WORLD: &str = r#"
{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: gw, namespace: edge}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: ratings, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: reviews, namespace: shop}, spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: other, namespace: shop}, spec: {hosts: [a.example], gateways: [edge/gw], http: [{route: [{destination: {host: ratings}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: part, namespace: shop}, spec: {http: [{route: [{destination: {host: reviews, subset: v7}}]}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: out, namespace: shop}, spec: {hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}}
"#;

const JUDGED: &[&str] = &[
    r#"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: mine, namespace: shop}, spec: {hosts: [a.example], gateways: [edge/gw], http: [{route: [{destination: {host: reviews, subset: v2}}]}]}}"#,
    r#"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: mine, namespace: shop}, spec: {hosts: [b.example], gateways: [edge/gw], http: [{route: [{destination: {host: review}}]}]}}"#,
    r#"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: mine, namespace: shop}, spec: {hosts: [c.example], gateways: [edge/gv], http: [{route: [{destination: {host: reviews}}]}]}}"#,
    r#"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: mine, namespace: shop}, spec: {hosts: [d.example], gateways: [edge/gw], http: [{delegate: {name: part}}, {delegate: {name: nobody}}]}}"#,
    r#"{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: mine, namespace: shop}, spec: {hosts: [e.example], gateways: [edge/gw], http: [{match: [{uri: {regex: "("}}], route: [{destination: {host: reviews}}]}]}}"#,
    r#"{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: mine, namespace: shop}, spec: {host: rewiews}}"#,
    r#"{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: zz, namespace: shop}, spec: {host: reviews, subsets: [{name: v1, labels: {version: v3}}]}}"#,
    r#"{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: zz, namespace: edge}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: nothing}}]}}"#,
];

fn findings(world: &World, about: &ObjectRef) -> BTreeSet<Diagnostic> {
    let proxy = ProxyInfo::edge("", "edge", [("istio".to_owned(), "ingressgateway".to_owned())].into());
    translate(world, &proxy).diagnostics.into_iter().filter(|found| found.object.as_ref() == Some(about)).collect()
}

#[test]
fn surroundings_say_what_the_world_says() {
    let world = World::from_objects(parse("", WORLD, "default").objects);
    let mut said = 0;
    for text in JUDGED {
        let object = parse("", text, "default").objects.remove(0);
        let about = object.object_ref();
        let mut whole = world.clone();
        whole.apply(vec![object.clone()]);
        let expected = findings(&whole, &about);
        said += expected.len();
        assert_eq!(findings(&world.around(object), &about), expected, "{text}");
    }
    assert!(said >= 6, "only {said} findings were compared");
}

#[test]
fn what_is_of_no_concern_is_left_out() {
    let mut objects = parse("", WORLD, "default").objects;
    for number in 0..50 {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: v{number}, namespace: far}}, \
             spec: {{hosts: [h{number}.example], gateways: [edge/gw], http: [{{route: [{{destination: {{host: s}}}}]}}]}}}}"
        );
        objects.extend(parse("", &text, "default").objects);
    }
    let world = World::from_objects(objects);
    let object = parse("", JUDGED[0], "default").objects.remove(0);
    let part = world.around(object);
    let names: Vec<&str> = part.virtual_services().map(|entry| entry.meta.name.as_str()).collect();
    assert_eq!(names, ["mine", "other"]);
}

/// Whoever applies something must learn that it is wrong before its namespace is looked at.
#[test]
fn what_is_not_looked_at_is_judged_as_if_it_were() {
    let settings = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: edge}, \
                    data: {mesh: 'discoverySelectors: [{matchLabels: {mesh: in}}]'}}";
    let world = World::from_objects(parse("", WORLD, "default").objects);
    let mut hiding = world.clone();
    hiding.apply(parse("", settings, "default").objects);
    assert_eq!(hiding.virtual_services().count(), 0);
    for text in JUDGED {
        let object = parse("", text, "default").objects.remove(0);
        let about = object.object_ref();
        let mut whole = world.clone();
        whole.apply(vec![object.clone()]);
        assert_eq!(findings(&hiding.around(object), &about), findings(&whole, &about), "{text}");
    }
}

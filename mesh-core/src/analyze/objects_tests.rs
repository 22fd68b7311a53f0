use super::analyze_objects;
use crate::api::parse;
use crate::diag::{self, Code, Diagnostic};
use crate::object::ObjectRef;
use crate::world::World;

fn found(text: &str, said: Vec<Diagnostic>) -> Vec<(&'static str, String, String)> {
    let mut diagnostics = said;
    let parsed = parse("a.yaml", text, "default");
    assert!(parsed.diagnostics.iter().all(|one| one.severity != diag::Severity::Error), "{:?}", parsed.diagnostics);
    analyze_objects(&World::from_objects(parsed.objects), &mut diagnostics);
    let mut found: Vec<_> = diagnostics
        .into_iter()
        .map(|one| {
            assert!(one.position.is_some() || one.message == "said", "{one:?}");
            (one.code, one.object.map(|object| object.name.to_string()).unwrap_or_default(), one.field)
        })
        .collect();
    found.sort();
    found
}

fn is(code: Code, name: &str, field: &str) -> (&'static str, String, String) {
    (code.id, name.to_owned(), field.to_owned())
}

const REFERENCES: &str = r#"
{ apiVersion: v1, kind: Service, metadata: { name: one }, spec: { ports: [{ name: http, port: 80 }] } }
---
{ apiVersion: v1, kind: Service, metadata: { name: two }, spec: { ports: [{ name: http, port: 80 }, { name: http-b, port: 81 }] } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: wide, namespace: other }
spec: { hosts: ["*.wide.example"], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: NONE }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: hidden, namespace: other }
spec: { hosts: [hidden.example], exportTo: ["."], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: DNS }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: one }
spec: { host: one, subsets: [{ name: v1, labels: { version: v1 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: good }
spec:
  hosts: [one]
  http:
  - route: [{ destination: { host: one, subset: v1 } }]
    mirror: { host: a.wide.example }
  tcp:
  - route: [{ destination: { host: two, port: { number: 81 } } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: bad }
spec:
  hosts: [two]
  gateways: [mesh, nowhere]
  http:
  - route:
    - destination: { host: one, subset: v2 }
      weight: 1
    - destination: { host: nobody }
      weight: 1
    mirrors: [{ destination: { host: hidden.example } }]
  - route: [{ destination: { host: two } }]
  tcp:
  - route: [{ destination: { host: one, port: { number: 81 } } }]
"#;

#[test]
fn what_rules_of_the_mesh_name_is_looked_for() {
    let all = [
        is(diag::GATEWAY_UNKNOWN, "bad", "spec.gateways[1]"),
        is(diag::DESTINATION_HOST_UNKNOWN, "bad", "spec.http[0].mirrors[0].destination.host"),
        is(diag::DESTINATION_HOST_UNKNOWN, "bad", "spec.http[0].route[1].destination.host"),
        is(diag::DESTINATION_SUBSET_UNKNOWN, "bad", "spec.http[0].route[0].destination.subset"),
        is(diag::DESTINATION_PORT_UNKNOWN, "bad", "spec.tcp[0].route[0].destination.port.number"),
        is(diag::DESTINATION_PORT_OPEN, "bad", "spec.http[1].route[0].destination.host"),
    ];
    assert_eq!(found(REFERENCES, Vec::new()), all);
}

#[test]
fn what_is_known_for_a_proxy_is_not_said_again() {
    let bad = ObjectRef::new("VirtualService", "default", "bad");
    let field = "spec.http[0].route[1].destination.host";
    let said = Diagnostic::new(diag::DESTINATION_HOST_UNKNOWN, "said").object(&bad).field(field.to_owned());
    let count = found(REFERENCES, vec![said]).iter().filter(|(_, _, at)| at == field).count();
    assert_eq!(count, 1);
}

#[test]
fn hosts_of_rules_are_looked_for_at_their_gateways() {
    let text = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw }
spec: { selector: { a: other }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: [a.example] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: opened }
spec: { hosts: [a.example], gateways: [gw], http: [{ directResponse: { status: 200 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: closed }
spec: { hosts: [b.example], gateways: [gw], http: [{ directResponse: { status: 200 } }] }
"#;
    assert_eq!(found(text, Vec::new()), [is(diag::HOST_NOT_IN_GATEWAY, "closed", "spec.gateways[0]")]);
}

#[test]
fn rules_of_a_gateway_are_followed_where_its_pods_are() {
    let text = r#"
{ apiVersion: v1, kind: Pod, metadata: { name: gw, namespace: front, labels: { istio: gw } }, spec: {} }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: front }
spec: { selector: { istio: gw }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: own, namespace: front }
spec: { hosts: ["*.own.example"], exportTo: ["."], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: NONE }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: own, namespace: front }
spec: { host: "*.own.example", subsets: [{ name: v1, labels: { version: v1 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: rules, namespace: app }
spec:
  hosts: [a.example]
  gateways: [front/gw]
  http: [{ route: [{ destination: { host: a.own.example, subset: v1 } }] }]
"#;
    assert_eq!(found(text, Vec::new()), []);
    let elsewhere = text.replace("gateways: [front/gw]", "gateways: [mesh]");
    let all = [
        is(diag::DESTINATION_HOST_UNKNOWN, "rules", "spec.http[0].route[0].destination.host"),
        is(diag::DESTINATION_SUBSET_UNKNOWN, "rules", "spec.http[0].route[0].destination.subset"),
    ];
    assert_eq!(found(&elsewhere, Vec::new()), all);
}

#[test]
fn both_are_told_of_a_host_that_they_share() {
    let rules = |name: &str, namespace: &str, export: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
             spec: {{ hosts: [a.example], exportTo: ['{export}'], http: [{{ directResponse: {{ status: 200 }} }}] }}\n"
        )
    };
    let text = rules("a", "x", "*") + &rules("b", "y", "*");
    let both = [is(diag::HOST_TAKEN, "b", "spec.hosts"), is(diag::HOST_CONTESTED, "a", "spec.hosts")];
    assert_eq!(found(&text, Vec::new()), both);
    let text = rules("a", "x", ".") + &rules("b", "y", ".");
    assert_eq!(found(&text, Vec::new()), [], "nobody sees both");
}

#[test]
fn selectors_select_somebody() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: p, labels: { app: p, tier: web } }\nspec: {}\n";
    let sidecar = |name: &str, labels: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{ name: {name} }}\n\
             spec: {{ workloadSelector: {{ labels: {labels} }}, egress: [{{ hosts: ['./*'] }}] }}\n"
        )
    };
    let gateway = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: gw }\n\
                   spec: { selector: { istio: typo }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: [a.example] }] }\n";
    let lonely = sidecar("lonely", "{ app: nobody }");
    let nothing =
        [is(diag::SELECTOR_EMPTY, "gw", "spec.selector"), is(diag::SELECTOR_EMPTY, "lonely", "spec.workloadSelector")];
    assert_eq!(found(&[pod, &lonely, gateway].concat(), Vec::new()), nothing);
    assert_eq!(found(&[&lonely, gateway].concat(), Vec::new()), [], "no workload is known");
    let two = [pod, &sidecar("a", "{ app: p }"), &sidecar("b", "{ tier: web }")].concat();
    let both = [
        is(diag::SIDECAR_OVERLAP, "b", "spec.workloadSelector"),
        is(diag::SIDECAR_SHARED, "a", "spec.workloadSelector"),
    ];
    assert_eq!(found(&two, Vec::new()), both);
}

#[test]
fn subsets_select_pods_of_their_service() {
    let text = r#"
{ apiVersion: v1, kind: Service, metadata: { name: one }, spec: { selector: { app: one }, ports: [{ name: http, port: 80 }] } }
---
{ apiVersion: v1, kind: Pod, metadata: { name: p, labels: { app: one, version: v1 } }, spec: {} }
---
{ apiVersion: v1, kind: Pod, metadata: { name: q, labels: { app: other, version: v2 } }, spec: {} }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: one }
spec: { host: one, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }
"#;
    assert_eq!(found(text, Vec::new()), [is(diag::SUBSET_WITHOUT_ENDPOINTS, "one", "spec.subsets[1].labels")]);
}

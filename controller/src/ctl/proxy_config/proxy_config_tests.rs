#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::ctl::picture::testing::picture;

const OBJECTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: default }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }
  - port: { number: 443, name: https, protocol: HTTPS }
    hosts: [shop.example]
    tls: { mode: SIMPLE, credentialName: shop }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: [shop.example, "*.shop.example"]
  gateways: [web]
  http:
  - match:
    - { uri: { prefix: /cart }, method: { exact: POST }, headers: { x-beta: { exact: "1" } }, queryParams: { v: { regex: "[0-9]" } } }
    - { uri: { regex: "/c.*" } }
    route:
    - { destination: { host: cart, subset: v1 }, weight: 90 }
    - { destination: { host: cart, subset: v2 }, weight: 10 }
  - match: [{ uri: { exact: /old } }]
    redirect: { uri: /new, redirectCode: 308 }
  - route: [{ destination: { host: nowhere, port: { number: 80 } } }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: cart, namespace: default }
spec:
  host: cart
  trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } }
  subsets: [{ name: v1, labels: { version: v1 } }]
---
{ apiVersion: v1, kind: Service, metadata: { name: cart, namespace: default }, spec: { ports: [{ port: 80, name: http }] } }
"#;

/// As a gateway with these objects would answer.
fn pages() -> Pages {
    let set = picture(OBJECTS).set;
    let part = |value: serde_json::Result<Value>| value.unwrap();
    let cluster = "outbound|80|v1|cart.default.svc.cluster.local";
    assert!(set.destinations.contains_key(cluster));
    let secret = |name: &str| {
        json!({ "key": format!("istio-system/{name}"), "certificate_pem": "", "private_key_pem": "[redacted]",
            "origin": { "kind": "Secret", "namespace": "istio-system", "name": name } })
    };
    Pages {
        dump: json!({
            "generation": 3,
            "listeners": part(serde_json::to_value(&set.listeners)),
            "routes": part(serde_json::to_value(&set.routes)),
            "destinations": part(serde_json::to_value(&set.destinations)),
            "endpoints": part(serde_json::to_value(&set.endpoints)),
            "dns": { "db.example": { "key": "db.example", "addresses": ["240.240.0.1", "2001:2::f0f0:1"],
                "origin": { "kind": "ServiceEntry", "namespace": "default", "name": "db" } } },
            "secrets": { "istio-system/shop": secret("shop"), "istio-system/broken": secret("broken") },
        }),
        listeners: json!({ "listeners": [{ "key": "0.0.0.0:80", "address": "0.0.0.0:80", "state": "accepting",
            "counts": { "open": 2, "accepted": 17 } }] }),
        clusters: json!({ "clusters": [{ "key": cluster, "protocol": "Http1", "balancing": "RoundRobin", "origin": "x",
            "endpoints": [{ "address": "10.0.0.1:8080", "weight": 1, "locality": "north/a", "workload": "default/cart-v1", "ejected": true,
                "requests_active": 1, "requests_total": 42,
                "connections": { "connects": 3, "connect_failures": 1, "active": 1, "idle": 2, "streams": 0 } }] }] }),
        certificates: json!({ "certificates": [{ "source": "istio-system/shop", "days_left": 29, "subject": "CN=shop",
            "issuer": "CN=ca", "san": ["shop.example", "a", "b", "c", "d"], "serial": "0a:1b",
            "not_before": 1_767_225_600, "not_after": 1_769_817_600, "key_type": "ECDSA" }],
            "workload": { "generation": 1, "trust_domains": ["cluster.local"], "renewals": 1,
                "roots": [{ "subject": "O=a", "serial": "0c", "sha256": "x", "not_before": 1_767_225_600, "not_after": 4_102_444_800_i64 }],
                "certificate": { "id": "spiffe://cluster.local/ns/ns/sa/web", "sha256": "y", "seconds_left": 9, "subject": "",
                    "issuer": "", "san": [], "serial": "0d:2e", "not_before": 1_767_225_600, "not_after": 4_102_444_800_i64, "key_type": "ECDSA" } } }),
    }
}

fn args(line: &[&str]) -> ProxyConfigArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ProxyConfigArgs,
    }
    let parsed: Line = clap::Parser::try_parse_from(["proxy-config"].iter().chain(line)).unwrap();
    parsed.args
}

fn shown(line: &[&str]) -> String {
    show(&args(line), &pages()).unwrap()
}

#[test]
fn everything() {
    insta::assert_snapshot!(shown(&["all", "pod.ns"]), @r#"
    LISTENERS
    ADDRESS       PORT   MATCH               DESTINATION                          STATE       CONNECTIONS   FROM
    0.0.0.0:443   443    SNI: shop.example   Route: https.443.https.web.default   CLOSED      -             Gateway/default/web
    0.0.0.0:80    80     HTTP                Route: http.80                       ACCEPTING   2 of 17       Gateway/default/web

    ROUTES
    NAME                          HOST             MATCH                                  VIRTUAL SERVICE   ACTION
    http.80                       shop.example     /cart* method=POST x-beta=1 ?v~[0-9]   default/shop[0]   90% outbound|80|v1|cart.default.svc.cluster.local, 10% outbound|80|v2|cart.default.svc.cluster.local (unknown)
    http.80                       shop.example     ~/c.*                                  default/shop[0]   90% outbound|80|v1|cart.default.svc.cluster.local, 10% outbound|80|v2|cart.default.svc.cluster.local (unknown)
    http.80                       shop.example     /old                                   default/shop[1]   redirect 308
    http.80                       shop.example     *                                      default/shop[2]   outbound|80||nowhere.default.svc.cluster.local (unknown)
    http.80                       *.shop.example   /cart* method=POST x-beta=1 ?v~[0-9]   default/shop[0]   90% outbound|80|v1|cart.default.svc.cluster.local, 10% outbound|80|v2|cart.default.svc.cluster.local (unknown)
    http.80                       *.shop.example   ~/c.*                                  default/shop[0]   90% outbound|80|v1|cart.default.svc.cluster.local, 10% outbound|80|v2|cart.default.svc.cluster.local (unknown)
    http.80                       *.shop.example   /old                                   default/shop[1]   redirect 308
    http.80                       *.shop.example   *                                      default/shop[2]   outbound|80||nowhere.default.svc.cluster.local (unknown)
    https.443.https.web.default   shop.example     /cart* method=POST x-beta=1 ?v~[0-9]   default/shop[0]   90% outbound|80|v1|cart.default.svc.cluster.local, 10% outbound|80|v2|cart.default.svc.cluster.local (unknown)
    https.443.https.web.default   shop.example     ~/c.*                                  default/shop[0]   90% outbound|80|v1|cart.default.svc.cluster.local, 10% outbound|80|v2|cart.default.svc.cluster.local (unknown)
    https.443.https.web.default   shop.example     /old                                   default/shop[1]   redirect 308
    https.443.https.web.default   shop.example     *                                      default/shop[2]   outbound|80||nowhere.default.svc.cluster.local (unknown)

    CLUSTERS
    SERVICE FQDN                     PORT   SUBSET   PROTOCOL   BALANCING     ENDPOINTS   DESTINATION RULE
    cart.default.svc.cluster.local   80     v1       HTTP/1.1   ROUND_ROBIN   1           cart.default

    ENDPOINTS
    ENDPOINT        OUTLIER CHECK   WEIGHT   LOCALITY   WORKLOAD          ACTIVE   REQUESTS   CONNECTIONS   FAILED CONNECTS   CLUSTER
    10.0.0.1:8080   FAILED          1        north/a    default/cart-v1   1        42         3             1                 outbound|80|v1|cart.default.svc.cluster.local

    SECRETS
    RESOURCE NAME         TYPE         STATUS     VALID CERT   SERIAL NUMBER   NOT AFTER              NOT BEFORE             KEY     NAMES
    default               Cert Chain   ACTIVE     true         0d2e            2100-01-01T00:00:00Z   2026-01-01T00:00:00Z   ECDSA   spiffe://cluster.local/ns/ns/sa/web
    ROOTCA                CA           ACTIVE     true         0c              2100-01-01T00:00:00Z   2026-01-01T00:00:00Z   -       -
    istio-system/shop     Cert Chain   ACTIVE     false        0a1b            2026-01-31T00:00:00Z   2026-01-01T00:00:00Z   ECDSA   shop.example,a,b and 2 more
    istio-system/broken   Cert Chain   UNUSABLE   -            -               -                      -                      -       -

    NAMES
    NAME         ADDRESSES                    SERVICE ENTRY
    db.example   240.240.0.1,2001:2::f0f0:1   db.default
    "#);
}

#[test]
fn filters() {
    assert_eq!(shown(&["listener", "pod", "--port", "443"]).lines().count(), 2);
    assert_eq!(shown(&["l", "pod", "--port", "1"]), "No listeners here.\n");
    assert_eq!(shown(&["routes", "pod", "--host", "*.shop.example"]).lines().count(), 5);
    assert_eq!(shown(&["cluster", "pod", "--subset", "v1"]).lines().count(), 2);
    assert_eq!(shown(&["ep", "pod", "--fqdn", "other"]), "No endpoints here.\n");
    assert_eq!(shown(&["names", "pod", "--host", "db.example"]).lines().count(), 2);
    assert_eq!(shown(&["n", "pod", "--host", "other"]), "No names here.\n");
}

#[test]
fn programs_get_what_the_gateway_says() {
    let json = |line: &[&str]| -> Value { serde_json::from_str(&shown(line)).unwrap() };
    let routes = json(&["routes", "pod", "-o", "json"]);
    assert_eq!(routes, pages().dump["routes"]);
    let some = json(&["routes", "pod", "-o", "json", "--host", "*.shop.example"]);
    assert_eq!(some["http.80"]["virtual_hosts"].as_array().unwrap().len(), 1);
    assert_eq!(json(&["endpoints", "pod", "-o", "json"])[0]["endpoints"][0]["address"], "10.0.0.1:8080");
    assert_eq!(json(&["endpoints", "pod", "-o", "json", "--subset", "v2"]), json!([]));
    let secrets = json(&["secrets", "pod", "-o", "json"]);
    assert_eq!(secrets["certificates"][0]["source"], "istio-system/shop");
    assert_eq!(secrets["workload"]["certificate"]["serial"], "0d:2e");
    let all = json(&["all", "pod", "-o", "json"]);
    let parts: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(parts, ["listeners", "routes", "clusters", "endpoints", "secrets", "names"]);
    assert!(shown(&["clusters", "pod", "-o", "yaml"]).contains("\n  host: cart.default.svc.cluster.local\n"));
}

#[test]
fn another_version_is_bad_data_in_tables_only() {
    let mut pages = pages();
    pages.dump["listeners"]["0.0.0.0:80"]["protocol"] = json!({ "Quic": {} });
    let error = show(&args(&["listeners", "pod"]), &pages).unwrap_err();
    assert_eq!(exit::code(&error), exit::BAD_DATA);
    assert!(show(&args(&["listeners", "pod", "-o", "json"]), &pages).unwrap().contains("Quic"));
}

use super::picture::testing::picture_of;
use super::*;

const GATEWAY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }
  - { port: { number: 8443, name: tls, protocol: TLS }, hosts: ["*"], tls: { mode: PASSTHROUGH } }
---
{ apiVersion: v1, kind: Service, metadata: { name: cart }, spec: { ports: [{ port: 80, name: http }, { port: 443, name: tls }] } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: [shop.example, store.example]
  gateways: [web]
"#;

const OLD: &str = r#"
  http:
  - match: [{ uri: { prefix: /cart }, headers: { x-beta: { exact: "1" } } }]
    directResponse: { status: 204 }
  - match: [{ uri: { regex: "/cart/[0-9]+" } }]
    timeout: 5s
    route: [{ destination: { host: cart, port: { number: 80 } } }]
  - match: [{ uri: { prefix: /old } }]
    redirect: { uri: /new, redirectCode: 308 }
  tls:
  - match: [{ port: 8443, sniHosts: [shop.example] }]
    route: [{ destination: { host: cart, port: { number: 443 } } }]
"#;

const NEW: &str = r#"
  http:
  - match: [{ uri: { regex: "/cart/[0-9]+" } }]
    timeout: 9s
    route: [{ destination: { host: cart, port: { number: 80 } } }]
  - match: [{ uri: { prefix: /cart }, headers: { x-beta: { exact: "1" } } }]
    directResponse: { status: 204 }
"#;

fn diff(old: &str, new: &str) -> Differences {
    let picture = |file, rules: &str| picture_of(file, &format!("{}{rules}", GATEWAY.trim_end()));
    compared(&picture("old.yaml", old), &picture("new.yaml", new))
}

#[test]
fn what_people_read() {
    insta::assert_snapshot!(text(&diff(OLD, NEW)), @"
    GET http://shop.example/cart/0 with x-beta: 1  (port 80)
      - respond 204, by VirtualService/default/shop spec.http[0].match[0] (old.yaml:20)
      + forward to outbound|80||cart.default.svc.cluster.local, by VirtualService/default/shop spec.http[0].match[0] (new.yaml:20)
      differs in: decision
      the same for: store.example

    GET http://shop.example/cart/0  (port 80)
      - forward to outbound|80||cart.default.svc.cluster.local, by VirtualService/default/shop spec.http[1].match[0] (old.yaml:22)
      + forward to outbound|80||cart.default.svc.cluster.local, by VirtualService/default/shop spec.http[0].match[0] (new.yaml:20)
      differs in: timeout
      the same for: store.example

    GET http://shop.example/old  (port 80)
      - redirect 308, by VirtualService/default/shop spec.http[2].match[0] (old.yaml:25)
      + 404: no rule matches
      differs in: decision
      the same for: store.example

    TLS connection for shop.example  (port 8443)
      - connect to outbound|443||cart.default.svc.cluster.local, by VirtualService/default/shop spec (old.yaml:16)
      + closed: no route for the connection
      differs in: decision

    4 changes
    ");
}

#[test]
fn what_programs_read() {
    let found = diff(OLD, OLD.replace("timeout: 5s", "timeout: 6s").as_str());
    insta::assert_snapshot!(Output::Json.render(&found, String::new).unwrap(), @r#"
    {
      "changes": [
        {
          "request": {
            "method": "GET",
            "scheme": "http",
            "authority": "shop.example",
            "path": "/cart/0"
          },
          "port": 80,
          "listener": "0.0.0.0:80",
          "old": {
            "decision": "forward to outbound|80||cart.default.svc.cluster.local",
            "rule": "default/shop[1]",
            "object": "VirtualService/default/shop",
            "field": "spec.http[1].match[0]",
            "file": "old.yaml",
            "line": 22
          },
          "new": {
            "decision": "forward to outbound|80||cart.default.svc.cluster.local",
            "rule": "default/shop[1]",
            "object": "VirtualService/default/shop",
            "field": "spec.http[1].match[0]",
            "file": "new.yaml",
            "line": 22
          },
          "differsIn": [
            "timeout"
          ],
          "alsoFor": [
            "store.example"
          ]
        }
      ]
    }
    "#);
}

#[test]
fn nothing_is_said_of_equal_files() {
    assert_eq!(text(&diff(OLD, OLD)), "no request changes its outcome\n");
}

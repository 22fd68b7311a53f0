#![allow(clippy::unwrap_used)]

use super::picture::testing::picture;
use super::*;

const OBJECTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: default }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: [shop.example]
  gateways: [web]
  http:
  - name: beta
    match: [{ uri: { prefix: /cart }, headers: { x-beta: { exact: "1" } } }]
    rewrite: { uri: /basket }
    route:
    - { destination: { host: cart, port: { number: 80 } }, weight: 75 }
    - { destination: { host: crat, port: { number: 80 } }, weight: 25 }
  - match: [{ uri: { prefix: /old } }]
    redirect: { uri: /new, redirectCode: 308 }
  - match: [{ uri: { prefix: /cart } }]
    route: [{ destination: { host: cart, port: { number: 80 } } }]
---
{ apiVersion: v1, kind: Service, metadata: { name: cart, namespace: default }, spec: { ports: [{ port: 80, name: http }] } }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: cart-1, namespace: default, labels: { kubernetes.io/service-name: cart } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: [10.0.0.1], conditions: { ready: true } }]
"#;

fn args(line: &[&str]) -> ExplainArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }
    let parsed: Line = clap::Parser::try_parse_from(["explain"].iter().chain(line)).unwrap();
    parsed.args
}

fn explain(line: &[&str]) -> (String, bool) {
    let args = args(line);
    let picture = picture(OBJECTS);
    let explanation = drawn(&question(&args).unwrap(), &picture).unwrap();
    let request = format!("{} {}", args.method, args.url);
    (text(&request, &explanation), is_served(&explanation))
}

#[test]
fn forwarded() {
    let (text, served) = explain(&["http://shop.example/cart/1"]);
    insta::assert_snapshot!(text, @r#"
    GET http://shop.example/cart/1

    Listener    0.0.0.0:80
    Routes      http.80
    Host        shop.example
    Rules       ✗ default/shop[0] match[0] (beta): wants headers[x-beta]: exact "1"
                ✗ default/shop[1] match[0]: wants uri: prefix "/old"
                ✓ default/shop[2] match[0]: matches
    Outcome     forward by default/shop[2]
    To          100 % outbound|80||cart.default.svc.cluster.local — 1 endpoint
    Retries     up to 2 more tries on connect-failure,refused-stream,cancelled,unavailable
    "#);
    assert!(served);
}

#[test]
fn a_share_goes_nowhere() {
    let (text, served) = explain(&["http://shop.example/cart", "-H", "x-beta=1"]);
    insta::assert_snapshot!(text, @r#"
    GET http://shop.example/cart

    Listener    0.0.0.0:80
    Routes      http.80
    Host        shop.example
    Rules       ✓ default/shop[0] match[0] (beta): matches
    Outcome     forward by default/shop[0]
    Path        rewritten to /basket
    To           75 % outbound|80||cart.default.svc.cluster.local — 1 endpoint
                 25 % outbound|80||crat.default.svc.cluster.local — unknown: 503
    Retries     up to 2 more tries on connect-failure,refused-stream,cancelled,unavailable
    "#);
    assert!(!served);
}

#[test]
fn redirected() {
    let (text, served) = explain(&["http://shop.example/old?a=1", "-X", "POST"]);
    insta::assert_snapshot!(text, @r#"
    POST http://shop.example/old?a=1

    Listener    0.0.0.0:80
    Routes      http.80
    Host        shop.example
    Rules       ✗ default/shop[0] match[0] (beta): wants uri: prefix "/cart"
                ✓ default/shop[1] match[0]: matches
    Outcome     redirect 308 to http://shop.example/new?a=1 by default/shop[1]
    "#);
    assert!(served);
}

#[test]
fn lost() {
    let outcome = |line: &[&str]| {
        let (text, served) = explain(line);
        assert!(!served);
        text.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(outcome(&["http://shop.example/"]), "Outcome     no route (404: no rule matches)");
    assert_eq!(outcome(&["http://other.example/"]), "Outcome     no host (404: no virtual host for this name)");
    assert_eq!(
        outcome(&["https://shop.example/"]),
        "Outcome     no listener (nothing listens for this scheme and port)"
    );
}

/// The objects with a server for TLS, of which nobody has the secret; and on a port that the pod has under another number.
#[test]
fn where_nobody_answers_it_is_said_why() {
    let server = "  - { port: { number: 443, name: https, protocol: HTTPS }, hosts: [shop.example], tls: { mode: SIMPLE, credentialName: shop } }\n";
    let objects = OBJECTS.replacen("---\n", &format!("{server}---\n"), 1);
    let service = "{ apiVersion: v1, kind: Service, metadata: { name: gw, namespace: istio-system }, spec: { selector: { istio: ingressgateway }, ports: [{ name: http, port: 80, targetPort: 8080 }, { name: https, port: 443, targetPort: 8443 }] } }";
    let picture = picture(&format!("{objects}---\n{service}\n"));
    let ask = |url: &str| drawn(&Question::new(url).unwrap(), &picture).unwrap();
    let secure = ask("https://shop.example/cart");
    assert!(
        text("GET x", &secure).contains("Outcome     no certificate (the server of this name has none"),
        "{secure:?}"
    );
    assert!(!is_served(&secure) && listened(&secure, &picture).is_none());
    let inside = ask("http://shop.example:8081/cart");
    assert_eq!(
        listened(&inside, &picture).unwrap(),
        "the gateway listens for http on 80 (8080 inside the pod), https on 443 (8443 inside the pod)"
    );
}

/// What a gateway answers is read back as it was meant.
#[test]
fn explanations_travel() {
    let explanation = drawn(&Question::new("http://shop.example/cart").unwrap(), &picture(OBJECTS)).unwrap();
    let mut json = serde_json::to_value(&explanation).unwrap();
    let read = |json: &serde_json::Value| text("GET x", &serde_json::from_value(json.clone()).unwrap());
    assert!(read(&json).contains(" — 1 endpoint\n"));
    assert_eq!(read(&json), text("GET x", &explanation));
    // A gateway that is older does not count them.
    json["destinations"][0].as_object_mut().unwrap().remove("endpoints");
    assert!(read(&json).contains("outbound|80||cart.default.svc.cluster.local\n"));
}

#[test]
fn the_page_of_a_gateway_is_asked_with_all_of_it() {
    let args = args(&[
        "https://a.example/x?y=1&z",
        "-H",
        "cookie=a=b; c",
        "-H",
        "X-B: c:d",
        "-X",
        "PUT",
        "--sni",
        "b",
        "--source-ip",
        "::1",
        "--remote-ip",
        "10.0.0.1",
        "--claim",
        "a=b",
    ]);
    assert_eq!(
        page(&args),
        "/explain?url=https%3A%2F%2Fa.example%2Fx%3Fy%3D1%26z&method=PUT&header=cookie%3Aa%3Db%3B%20c&header=X-B%3A%20c%3Ad&sni=b&source=%3A%3A1&remote=10.0.0.1&claim=a%3Db"
    );
}

#[test]
fn what_is_no_question_is_a_usage_error() {
    assert!(matches!(question(&args(&["ftp://x/"])), Err(Failure::Usage(_))));
    assert!(matches!(question(&args(&["http://x/", "-H", "novalue"])), Err(Failure::Usage(_))));
    assert!(matches!(question(&args(&["http://x/", "--claim", "novalue"])), Err(Failure::Usage(_))));
}

const POLICIES: &str = r#"
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: office, namespace: istio-system }
spec: { rules: [{ from: [{ source: { remoteIpBlocks: [10.0.0.0/8] } }], when: [{ key: "request.auth.claims[groups]", values: [staff] }] }] }
---
apiVersion: meshgate.io/v1alpha1
kind: RateLimit
metadata: { name: near, namespace: istio-system }
spec:
  limits:
  - { name: all, requests: 5, per: 1s }
  - { name: some, requests: 1, per: 1s, from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }
"#;

/// What policies and limits say of it.
fn judged(line: &[&str]) -> (Vec<String>, serde_json::Value) {
    let args = args(&[&["http://shop.example/cart"], line].concat());
    let picture = picture(&format!("{OBJECTS}{POLICIES}"));
    let explanation = drawn(&question(&args).unwrap(), &picture).unwrap();
    let text = text("GET x", &explanation);
    let lines =
        text.lines().skip_while(|line| !line.starts_with("Policies")).take_while(|line| !line.starts_with("To"));
    (lines.map(str::to_owned).collect(), serde_json::to_value(&explanation).unwrap())
}

#[test]
fn what_depends_on_the_client_says_so() {
    let staff = ["--claim", "groups=staff"];
    let (said, json) = judged(&staff);
    assert_eq!(
        said,
        [
            "Policies    whether they allow it depends on the client's address (remote.ip; tell it by --source-ip or --remote-ip)",
            "Limits      istio-system/near/all: 5 in 1s, 5 at once",
            "            istio-system/near/some: 1 in 1s, 1 at once — whether it counts depends on the client's address (source.ip; tell it by --source-ip)",
        ]
    );
    assert_eq!(json["authorization"]["depends_on"], serde_json::json!(["remote.ip"]));
    assert_eq!(json["rate_limits"][0]["depends_on"], serde_json::Value::Null);
    assert_eq!(json["rate_limits"][1]["depends_on"], serde_json::json!(["source.ip"]));

    let (said, json) = judged(&[&staff[..], &["--source-ip", "10.1.2.3"]].concat());
    assert_eq!(said.first().unwrap(), "Policies    allow it");
    assert_eq!(said.last().unwrap(), "            istio-system/near/some: 1 in 1s, 1 at once");
    assert_eq!(json["authorization"]["depends_on"], serde_json::Value::Null);

    let (said, _) = judged(&[&staff[..], &["--source-ip", "10.1.2.3", "--remote-ip", "192.0.2.1"]].concat());
    assert_eq!(said.first().unwrap(), "Policies    deny it (403): none of those that allow things allows this");
    // Whatever the address is: nobody has the claim.
    let (said, _) = judged(&[]);
    assert_eq!(said.first().unwrap(), "Policies    deny it (403): none of those that allow things allows this");
}

#[test]
fn how_destinations_are_called() {
    let objects = r#"
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: dynamic, namespace: default }
spec:
  hosts: ["*.example"]
  gateways: [web]
  http: [{ route: [{ destination: { host: "*.dyn.example", port: { number: 80 } } }] }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: dyn, namespace: default }
spec: { hosts: ["*.dyn.example"], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: DYNAMIC_DNS }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: dyn, namespace: default }
spec:
  host: "*.dyn.example"
  trafficPolicy: { connectionPool: { http: { useClientProtocol: true } }, proxyProtocol: { version: V2 } }
"#;
    let picture = picture(&format!("{OBJECTS}{objects}"));
    let ask = |url: &str| drawn(&Question::new(url).unwrap(), &picture).unwrap();
    let to = |url: &str| destinations(&ask(url)).concat();
    let notes = "PROXY header V2, in the client's version of HTTP";
    assert_eq!(to("http://a.dyn.example/"), format!("100 % outbound|80||*.dyn.example, {notes}"));
    assert!(is_served(&ask("http://a.dyn.example/")));
    let other = "http://other.example/";
    assert_eq!(
        to(other),
        format!("100 % outbound|80||*.dyn.example — other.example is none of its hosts: 503, {notes}")
    );
    assert!(!is_served(&ask(other)));
}

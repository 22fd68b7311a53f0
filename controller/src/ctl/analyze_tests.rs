#![allow(clippy::unwrap_used)]

use super::picture::testing::picture;
use super::*;

const OBJECTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: shop }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: cart, namespace: shop }
spec:
  hosts: [cart.example]
  gateways: [web]
  http:
  - route: [{ destination: { host: crat, port: { number: 80 } } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: blog, namespace: blog }
spec:
  hosts: [blog.example]
  gateways: [shop/wbe]
  http:
  - match: [{ uri: { regex: "(" } }]
    directResponse: { status: 200 }
---
{ apiVersion: v1, kind: Service, metadata: { name: cart, namespace: shop }, spec: { ports: [{ port: 80, name: http }] } }
"#;

/// As if the objects were in the cluster: without files.
fn of_cluster() -> Picture {
    let mut picture = picture(OBJECTS);
    picture.diagnostics.iter_mut().for_each(|diagnostic| diagnostic.position = None);
    picture
}

#[test]
fn files_are_told_with_lines() {
    let (diagnostics, objects) = select(&picture(OBJECTS), None);
    insta::assert_snapshot!(diag::text(&diagnostics, objects, false), @r#"
    error[MESH0103]: `crat` is `crat.shop.svc.cluster.local`, and no Service or ServiceEntry is called so; its share is answered 503
      --> objects.yaml:17:36
       = object: VirtualService/shop/cart
       = field: spec.http[0].route[0].destination.host
       = help: did you mean `cart.shop.svc.cluster.local`?

    error[MESH0101]: there is no Gateway `shop/wbe`; the rules do not apply there
      --> objects.yaml:24:14
       = object: VirtualService/blog/blog
       = field: spec.gateways[0]
       = help: did you mean `web`?

    error[MESH0003]: `(` is not a regular expression: unclosed group
      --> objects.yaml:26:29
       = object: VirtualService/blog/blog
       = field: spec.http[0].match[0].uri.regex
       = help: RE2 syntax: https://github.com/google/re2/wiki/Syntax

    4 objects: 3 errors, 0 warnings, 0 infos
    "#);
    assert_eq!(diag::verdict(&diagnostics), Verdict::Problems);
}

#[test]
fn a_namespace_of_the_cluster_alone() {
    let (diagnostics, objects) = select(&of_cluster(), Some("shop"));
    insta::assert_snapshot!(diag::text(&diagnostics, objects, false), @r#"
    error[MESH0103]: `crat` is `crat.shop.svc.cluster.local`, and no Service or ServiceEntry is called so; its share is answered 503
       = object: VirtualService/shop/cart
       = field: spec.http[0].route[0].destination.host
       = help: did you mean `cart.shop.svc.cluster.local`?

    3 objects: 1 error, 0 warnings, 0 infos
    "#);
    assert_eq!(select(&of_cluster(), Some("elsewhere")), (Vec::new(), 0));
}

#[test]
fn programs_get_the_shape_of_check() {
    let (diagnostics, _) = select(&of_cluster(), Some("shop"));
    let render = |unavailable: &[Unavailable]| -> serde_json::Value {
        let json = Output::Json.render(&report(&diagnostics, unavailable), String::new).unwrap();
        serde_json::from_str(&json).unwrap()
    };
    let value = render(&[]);
    assert_eq!(value["diagnostics"][0]["code"], diag::DESTINATION_HOST_UNKNOWN.id);
    assert_eq!(value["diagnostics"][0]["object"], "VirtualService/shop/cart");
    assert_eq!(value.get("notLookedAt"), None);

    let kind = |kind: &str, missing| Unavailable {
        kind: kind.to_owned(),
        reason: "forbidden".to_owned(),
        missing,
        is_read: false,
    };
    let value = render(&[kind("sidecars.networking.istio.io", false), kind("gateways", true)]);
    let hidden = serde_json::json!([{ "kind": "sidecars.networking.istio.io", "reason": "forbidden" }]);
    assert_eq!(value["notLookedAt"], hidden);
}

#[test]
fn certificates_are_looked_at() {
    let objects = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: default }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 443, name: https, protocol: HTTPS }, hosts: [a.example], tls: { mode: SIMPLE, credentialName: bad } }
---
apiVersion: v1
kind: Secret
metadata: { name: bad, namespace: istio-system }
type: kubernetes.io/tls
stringData: { tls.crt: "no certificate", tls.key: "no key" }
"#;
    let (diagnostics, _) = select(&picture(objects), None);
    insta::assert_snapshot!(diag::text(&diagnostics, 2, false), @r"
    error[MESH0301]: secret istio-system/bad: no certificate found in PEM form
      --> objects.yaml:10:1
       = object: Secret/istio-system/bad
       = help: connections for servers that have no other certificate are closed

    2 objects: 1 error, 0 warnings, 0 infos
    ");
}

/// A Gateway that selects the labels is served wherever it is; certificates are where the gateway runs, and that is told by
/// whatever says it, else it is where `install` puts it.
#[tokio::test]
async fn files_alone_are_for_gateways_of_any_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.yaml");
    let codes = async |more: &str, line: &[&str]| {
        let objects = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: shop }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: 443, name: https, protocol: HTTPS }, hosts: [a.example], tls: { mode: SIMPLE, credentialName: cert } }
---
{ apiVersion: v1, kind: Secret, metadata: { name: cert, namespace: NS }, stringData: { tls.crt: "no certificate", tls.key: "no key" } }
"#;
        std::fs::write(&file, objects.replace("NS", "edge") + more).unwrap();
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            cluster: ClusterArgs,
            #[command(flatten)]
            gateway: GatewayArgs,
        }
        let args: Line = clap::Parser::try_parse_from(["x"].iter().chain(line)).unwrap();
        let files = [file.clone()];
        let sources =
            Sources { files: &files, cluster: &args.cluster, use_cluster: false, default_namespace: "default" };
        let picture = picture::take(&sources, &args.gateway, Depth::Analysis).await.unwrap();
        picture.diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>()
    };
    // Read, if it is there: it is none, which is not the point here.
    let (found, missing) = ([diag::CERTIFICATE_UNUSABLE.id], [diag::SECRET_MISSING.id]);
    assert_eq!(codes("", &[]).await, missing);
    assert_eq!(codes("", &["--namespace-of-gateway", "edge"]).await, found);
    assert_eq!(codes("", &["--system-namespace", "edge"]).await, found);
    let service = "---\n{ apiVersion: v1, kind: Service, metadata: { name: gw, namespace: edge }, spec: { selector: { istio: ingressgateway }, ports: [{ port: 443 }] } }\n";
    assert_eq!(codes(service, &[]).await, found);
    assert_eq!(codes(service, &["--namespace-of-gateway", "shop"]).await, missing);
}

/// Each pod is looked at that a Sidecar selects, and each namespace that has one.
#[test]
fn sidecars_in_each_others_way() {
    let sidecar = |name: &str, spec: &str| {
        format!(
            "---\n{{ apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{ name: {name}, namespace: shop }}, spec: {spec} }}\n"
        )
    };
    let mut text =
        "{ apiVersion: v1, kind: Pod, metadata: { name: p, namespace: shop, labels: { app: a, version: v1 } } }\n"
            .to_owned();
    text += &sidecar("app", "{ workloadSelector: { labels: { app: a } }, egress: [{ hosts: ['./*'] }] }");
    text += &sidecar("version", "{ workloadSelector: { labels: { version: v1 } }, egress: [{ hosts: ['./*'] }] }");
    text += &sidecar("one", "{ egress: [{ hosts: ['./*'] }] }");
    text += &sidecar("two", "{ egress: [{ hosts: ['./*'] }] }");
    let found: Vec<String> = picture(&text)
        .diagnostics
        .iter()
        .map(|said| format!("{} {}", said.code, said.object.as_ref().map(ToString::to_string).unwrap_or_default()))
        .collect();
    assert_eq!(found, ["MESH0144 Sidecar/shop/app", "MESH0140 Sidecar/shop/version", "MESH0141 Sidecar/shop/two"]);
}

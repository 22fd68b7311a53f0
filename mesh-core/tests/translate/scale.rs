//! Many objects: nothing may grow with the square of them. The limit is far above what a busy machine needs without
//! optimisation, and far below what a square would.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mesh_core::translate::translate;
use mesh_core::{api, world::World};

const MANY: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(60);

/// `many` hosts with a service each. With `tls`, each has a server of its own.
fn world(many: usize, tls: bool) -> World {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: istio-system}\n\
         spec:\n  selector: {istio: ingressgateway}\n  servers:\n",
    );
    if tls {
        for n in 0..many {
            writeln!(
                text,
                "  - {{port: {{number: 443, name: s{n}, protocol: HTTPS}}, hosts: [h{n}.example.com], tls: {{mode: SIMPLE, credentialName: c}}}}"
            )
            .unwrap();
        }
    } else {
        text.push_str("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}\n");
    }
    for n in 0..many {
        writeln!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{n}, namespace: shop}}\n\
             spec:\n  hosts: [h{n}.example.com]\n  gateways: [istio-system/gw]\n  http:\n\
             \x20 - match: [{{uri: {{prefix: /api}}}}, {{uri: {{exact: /}}}}]\n    route: [{{destination: {{host: s{n}}}}}]\n\
             \x20 - route: [{{destination: {{host: s{n}}}}}]\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: shop}}\nspec: {{selector: {{app: s{n}}}, ports: [{{port: 80, name: http}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{n}, namespace: shop, labels: {{kubernetes.io/service-name: s{n}}}}}\n\
             addressType: IPv4\nports: [{{port: 80, name: http}}]\nendpoints: [{{addresses: [10.0.{}.{}]}}]",
            n / 250,
            n % 250
        )
        .unwrap();
    }
    let parsed = api::parse("many.yaml", &text, "default");
    assert_eq!(parsed.diagnostics, []);
    World::from_objects(parsed.objects)
}

#[test]
fn ten_thousand_hosts() {
    let world = world(MANY, false);
    let start = Instant::now();
    let mut first = translate(&world, &super::ingress());
    let took = start.elapsed();
    println!("{MANY} hosts: translate {took:?}");
    assert_eq!(first.diagnostics, []);
    assert_eq!(first.set.routes["http.80"].virtual_hosts.len(), MANY);
    assert_eq!(first.set.endpoints.len(), MANY);
    assert!(took < LIMIT, "{took:?}");

    let again = translate(&world, &super::ingress());
    let start = Instant::now();
    first.set.reuse(&again.set);
    println!("{MANY} hosts: reuse {:?}", start.elapsed());
    assert!(std::sync::Arc::ptr_eq(&first.set.routes["http.80"], &again.set.routes["http.80"]));
}

#[test]
fn ten_thousand_servers() {
    let world = world(MANY, true);
    let start = Instant::now();
    let translation = translate(&world, &super::ingress());
    let took = start.elapsed();
    println!("{MANY} TLS servers: translate {took:?}");
    assert_eq!(translation.set.routes.len(), MANY);
    assert!(took < LIMIT, "{took:?}");
}

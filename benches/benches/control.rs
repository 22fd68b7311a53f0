//! What one change costs the controller: from an object to what is sent, among 5,000 routes in 50 namespaces.

use std::fmt::Write as _;

use criterion::{Criterion, criterion_group, criterion_main};
use mesh_core::api::{ApiObject, parse};
use mesh_core::model::{ProxyInfo, ProxySettings};
use mesh_core::translate::{Translator, translate};
use mesh_core::wire::Publication;
use mesh_core::world::World;
use meshgate_benches::CpuTime;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUTES: usize = 5_000;
const NAMESPACES: usize = 50;

fn proxy() -> ProxyInfo {
    ProxyInfo::edge("gateway", "meshgate-system", [("istio".to_owned(), "ingressgateway".to_owned())].into())
}

/// A route with its Service and its endpoints, as text.
fn route(number: usize, path: &str) -> String {
    let namespace = number % NAMESPACES;
    let (third, fourth) = (number / 250, number % 250 + 1);
    let mut text = String::new();
    let _ = write!(
        text,
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: r{number}, namespace: ns-{namespace}}}
spec:
  hosts: [r{number}.example.com]
  gateways: [meshgate-system/edge]
  http:
  - match: [{{uri: {{prefix: {path}}}}}]
    route: [{{destination: {{host: s{number}, port: {{number: 80}}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: s{number}, namespace: ns-{namespace}}}
spec: {{ports: [{{name: http, port: 80, targetPort: 8080}}], selector: {{app: s{number}}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{number}-1, namespace: ns-{namespace}, labels: {{kubernetes.io/service-name: s{number}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.1.{third}.{fourth}], conditions: {{ready: true}}}}]
---
"
    );
    text
}

fn objects(text: &str) -> Vec<ApiObject> {
    parse("", text, "default").objects
}

const EDGE: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: meshgate-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*/*']}]}
---
";

fn world() -> World {
    let text = (0..ROUTES).fold(EDGE.to_owned(), |text, number| text + &route(number, "/"));
    World::from_objects(objects(&text))
}

struct Controller {
    world: World,
    translator: Translator,
    publication: Publication,
}

impl Controller {
    fn new() -> Controller {
        let mut controller =
            Controller { world: world(), translator: Translator::new(proxy()), publication: Publication::default() };
        controller.publish();
        assert_eq!(controller.translator.set().endpoints.len(), ROUTES);
        controller
    }

    fn publish(&mut self) {
        self.translator.update(&self.world);
        let set = self.translator.set().clone();
        let published = self.publication.update(set, &ProxySettings::default(), self.world.generation());
        assert!(published.is_ok());
    }
}

fn control(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("one change among 5,000 routes");
    group.sample_size(20);
    let mut controller = Controller::new();
    for (kind, name) in [(0, "VirtualService"), (1, "Service"), (2, "EndpointSlice")] {
        let variants = [objects(&route(17, "/a")), objects(&route(17, "/b").replace("10.1.0", "10.2.0"))];
        let mut turn = variants.iter().filter_map(|objects| objects.get(kind)).cycle().cloned();
        group.bench_function(format!("one {name}: all of it"), |bencher| {
            bencher.iter(|| {
                controller.world.apply(turn.next().into_iter().collect());
                controller.publish();
            });
        });
    }
    let variants = [objects(&route(17, "/a")), objects(&route(17, "/b"))];
    let mut turn = variants.iter().filter_map(|objects| objects.first()).cycle().cloned();
    group.bench_function("World::apply", |bencher| {
        bencher.iter(|| controller.world.apply(turn.next().into_iter().collect()));
    });
    group.bench_function("Translator::update", |bencher| {
        bencher.iter(|| {
            controller.world.apply(turn.next().into_iter().collect());
            controller.translator.update(&controller.world);
        });
    });
    group.bench_function("everything, once", |bencher| bencher.iter(|| translate(&controller.world, &proxy())));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = control
}
criterion_main!(benches);

//! What one change costs the controller: from an object to what is sent, among 5,000 routes in 50 namespaces.

use std::fmt::Write as _;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use mesh_core::api::{ApiObject, parse};
use mesh_core::model::{ProxyInfo, ProxySettings, ResourceSet};
use mesh_core::translate::translate;
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
    set: Arc<ResourceSet>,
    publication: Publication,
    generation: u64,
}

impl Controller {
    fn new() -> Controller {
        let mut controller =
            Controller { world: world(), set: Arc::default(), publication: Publication::default(), generation: 0 };
        controller.publish();
        assert_eq!(controller.set.endpoints.len(), ROUTES);
        controller
    }

    fn publish(&mut self) {
        let mut set = translate(&self.world, &proxy()).set;
        set.reuse(&self.set);
        self.set = Arc::new(set);
        self.generation += 1;
        let published = self.publication.update(self.set.clone(), &ProxySettings::default(), self.generation);
        assert!(published.is_ok());
    }
}

fn control(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("one change among 5,000 routes");
    group.sample_size(20);
    let mut controller = Controller::new();
    let variants = [objects(&route(17, "/a")), objects(&route(17, "/b"))];
    let mut turn = variants.iter().cycle();
    group.bench_function("one VirtualService: all of it", |bencher| {
        bencher.iter(|| {
            controller
                .world
                .apply(turn.next().map(|objects| objects.iter().take(1).cloned().collect()).unwrap_or_default());
            controller.publish();
        });
    });
    group.bench_function("World::apply", |bencher| {
        bencher.iter(|| {
            controller
                .world
                .apply(turn.next().map(|objects| objects.iter().take(1).cloned().collect()).unwrap_or_default())
        });
    });
    group.bench_function("translate", |bencher| bencher.iter(|| translate(&controller.world, &proxy())));
    group.bench_function("reuse", |bencher| {
        let set = translate(&controller.world, &proxy()).set;
        bencher.iter(|| {
            let mut set = set.clone();
            set.reuse(&controller.set);
            set
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = control
}
criterion_main!(benches);

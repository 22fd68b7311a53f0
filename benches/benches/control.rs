//! What one change costs the controller: from an object to what is sent, among 5,000 routes in 50 namespaces.

use criterion::{Criterion, criterion_group, criterion_main};
use mesh_core::model::ProxySettings;
use mesh_core::translate::{Translator, translate};
use mesh_core::wire::Publication;
use mesh_core::world::World;
use meshgate_benches::CpuTime;
use meshgate_benches::crowd::{objects, proxy, read, route};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUTES: usize = 5_000;

struct Controller {
    world: World,
    translator: Translator,
    publication: Publication,
}

impl Controller {
    fn new() -> Controller {
        let mut controller = Controller {
            world: World::from_objects(objects(ROUTES)),
            translator: Translator::new(proxy()),
            publication: Publication::default(),
        };
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
        let variants = [read(&route(17, "/a")), read(&route(17, "/b").replace("10.1.0", "10.2.0"))];
        let mut turn = variants.iter().filter_map(|objects| objects.get(kind)).cycle().cloned();
        group.bench_function(format!("one {name}: all of it"), |bencher| {
            bencher.iter(|| {
                controller.world.apply(turn.next().into_iter().collect());
                controller.publish();
            });
        });
    }
    let variants = [read(&route(17, "/a")), read(&route(17, "/b"))];
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

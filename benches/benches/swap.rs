//! Publishing a snapshot, and what a reader pays for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use criterion::{Criterion, criterion_group, criterion_main};
use mesh_core::compile::compile;
use meshgate_benches::{CpuTime, host, on_prefix, rules, set};

fn swap(criterion: &mut Criterion<CpuTime>) {
    let routes = set(vec![host("h.example.com", rules(10_000, on_prefix))]);
    let snapshots: [_; 2] = std::array::from_fn(|number| Arc::new(compile(&routes, None, number as u64).snapshot));
    let [first, second] = &snapshots;
    let cell = Arc::new(ArcSwap::new(first.clone()));
    let mut group = criterion.benchmark_group("snapshot cell");
    group.bench_function("load", |bencher| bencher.iter(|| cell.load().generation));
    let mut turn = false;
    group.bench_function("publish", |bencher| {
        bencher.iter(|| {
            turn = !turn;
            cell.swap(if turn { second.clone() } else { first.clone() })
        });
    });
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = std::thread::spawn({
        let (cell, stop, snapshots) = (cell.clone(), stop.clone(), snapshots.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                for snapshot in &snapshots {
                    cell.store(snapshot.clone());
                }
            }
        }
    });
    group.bench_function("load while another thread publishes", |bencher| bencher.iter(|| cell.load().generation));
    stop.store(true, Ordering::Relaxed);
    let _ = publisher.join();
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = swap
}
criterion_main!(benches);

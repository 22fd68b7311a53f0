//! What a change costs: compile from nothing, and after one edit.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mesh_core::compile::compile;
use mesh_core::model::{ResourceSet, Rule};
use meshgate_benches::{CpuTime, host, on_prefix, on_regex, rule, rules, set};

const RULES: u32 = 100_000;
const HOSTS: u32 = 10_000;

fn one_host(rules: Vec<Rule>) -> ResourceSet {
    set(vec![host("h.example.com", rules)])
}

/// Ten rules in each of 10,000 hosts.
fn many_hosts() -> ResourceSet {
    let each = |number| host(&format!("host-{number}.example.com"), rules(RULES / HOSTS, on_prefix));
    set((0..HOSTS).map(each).collect())
}

fn from_nothing(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("compile 100k routes from nothing");
    group.sample_size(10);
    for (name, set) in [("one host", one_host(rules(RULES, on_prefix))), ("10k hosts", many_hosts())] {
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| compile(&set, None, 1)));
    }
    group.finish();
    let mut group = criterion.benchmark_group("compile regex routes from nothing");
    group.sample_size(10);
    for count in [100, 1_000] {
        let set = one_host(rules(count, on_regex));
        group.bench_function(count.to_string(), |bencher| bencher.iter_with_large_drop(|| compile(&set, None, 1)));
    }
    group.finish();
}

fn one_edit(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("compile 100k routes, one edited");
    group.sample_size(20);
    let before = one_host(rules(RULES, on_prefix));
    let previous = compile(&before, None, 1).snapshot;
    let shared: Vec<Rule> =
        before.routes.values().flat_map(|routes| &routes.virtual_hosts).flat_map(|host| host.rules.clone()).collect();
    let edits: [(&str, Vec<Rule>); 3] = [
        ("one host, others shared", edited(shared.clone())),
        ("one host, others equal", edited(rules(RULES, on_prefix))),
        ("one host, one inserted", {
            let mut rules = shared;
            rules.insert(RULES as usize / 2, rule(RULES, on_prefix(RULES)));
            rules
        }),
    ];
    for (name, rules) in edits {
        let after = one_host(rules);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| (), |()| compile(&after, Some(&previous), 2), BatchSize::PerIteration)
        });
    }
    let before = many_hosts();
    let previous = compile(&before, None, 1).snapshot;
    let mut after = before.clone();
    for (key, routes) in &before.routes {
        let mut changed = (**routes).clone();
        if let Some(last) = changed.virtual_hosts.last_mut() {
            *last = host("host-9999.example.com", edited(rules(RULES / HOSTS, on_prefix)));
        }
        after.routes.insert(key.clone(), std::sync::Arc::new(changed));
    }
    group.bench_function("10k hosts, others shared", |bencher| {
        bencher.iter_batched(|| (), |()| compile(&after, Some(&previous), 2), BatchSize::PerIteration);
    });
    for (key, routes) in &before.routes {
        let mut changed = (**routes).clone();
        changed.virtual_hosts.insert(HOSTS as usize / 2, host("new.example.com", rules(1, on_prefix)));
        after.routes.insert(key.clone(), std::sync::Arc::new(changed));
    }
    group.bench_function("10k hosts, one inserted", |bencher| {
        bencher.iter_batched(|| (), |()| compile(&after, Some(&previous), 2), BatchSize::PerIteration);
    });
    group.finish();
}

fn edited(mut rules: Vec<Rule>) -> Vec<Rule> {
    let middle = rules.len() / 2;
    if let Some(place) = rules.get_mut(middle) {
        *place = rule(1_000_000, on_prefix(1_000_000));
    }
    rules
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = from_nothing, one_edit
}
criterion_main!(benches);

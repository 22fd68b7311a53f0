//! What finding the rule of a request costs. The figures of one group should be flat.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use mesh_core::compile::compile;
use mesh_core::model::{ResourceSet, Rule};
use mesh_core::snapshot::{Decision, Request};
use meshgate_benches::{CpuTime, host, on_header, on_prefix, on_regex, path, requests, rules, set, table};

/// Requests of one round, spread over all rules, so that no cache holds the way of a single one.
const REQUESTS: u32 = 4096;

struct Sample {
    authority: String,
    path: String,
    headers: HeaderMap,
}

impl Sample {
    fn new(authority: &str, path: String) -> Sample {
        let mut headers = HeaderMap::new();
        for (name, value) in [("user-agent", "curl/8.0"), ("accept", "*/*"), ("x-request-id", "0")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Sample { authority: authority.to_owned(), path, headers }
    }
}

/// Numbers below `count` in no order.
fn spread(count: u32) -> impl Iterator<Item = u32> {
    (0..REQUESTS).map(move |number| number.wrapping_mul(2_654_435_761) % count)
}

fn measure(criterion: &mut Criterion<CpuTime>, group: &str, count: u32, set: &ResourceSet, samples: &[Sample]) {
    let compiled = compile(set, None, 1);
    let Some(table) = table(&compiled.snapshot) else { return };
    let mut group = criterion.benchmark_group(group);
    group.throughput(requests(samples.len()));
    group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
        bencher.iter(|| {
            let mut found = 0_u32;
            for sample in samples {
                let request = Request {
                    method: "GET",
                    scheme: "http",
                    authority: &sample.authority,
                    path: &sample.path,
                    query: None,
                    headers: &sample.headers,
                };
                if let Decision::Forward { cluster: Some(_), .. } = table.route(&request, &mut |_| 0) {
                    found += 1;
                }
            }
            assert_eq!(found as usize, samples.len());
            found
        });
    });
    group.finish();
}

fn one_host(rules: Vec<Rule>) -> ResourceSet {
    set(vec![host("h.example.com", rules)])
}

fn route_match(criterion: &mut Criterion<CpuTime>) {
    for count in [10, 100, 1_000, 10_000, 100_000] {
        let samples: Vec<_> =
            spread(count).map(|number| Sample::new("h.example.com", path(number) + "items/42")).collect();
        measure(criterion, "prefix routes in one host", count, &one_host(rules(count, on_prefix)), &samples);
    }
    for count in [10, 100, 1_000, 10_000] {
        let name = |number| format!("host-{number}.example.com");
        let hosts = (0..count).map(|number| host(&name(number), rules(3, on_prefix))).collect();
        let samples: Vec<_> = spread(count).map(|number| Sample::new(&name(number), path(number % 3) + "x")).collect();
        measure(criterion, "exact hosts", count, &set(hosts), &samples);
    }
    for count in [10, 100, 1_000] {
        let samples: Vec<_> =
            spread(count).map(|number| Sample::new("h.example.com", format!("/abc/item-{number}/42"))).collect();
        measure(criterion, "regex routes in one host", count, &one_host(rules(count, on_regex)), &samples);
    }
    for count in [10, 1_000, 100_000] {
        let samples: Vec<_> = spread(count)
            .map(|number| {
                let mut sample = Sample::new("h.example.com", "/x".to_owned());
                let value = HeaderValue::try_from(format!("user-{number}"));
                sample.headers.extend(value.ok().map(|value| (http::HeaderName::from_static("x-user"), value)));
                sample
            })
            .collect();
        measure(criterion, "one path, header values", count, &one_host(rules(count, on_header)), &samples);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = route_match
}
criterion_main!(benches);

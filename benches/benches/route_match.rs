//! What finding the rule of a request costs. The figures of one group should be flat.
//!
//! The prefix routes are asked in two ways. "ten paths": the same number of different requests whatever the table's size, so
//! that the processor's caches hold the ways of all of them, and what is compared is the work of a match. "spread": over
//! all rules, so that a large table does not fit the caches and the memory's latency is part of the figure.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::compile::compile;
use mesh_core::model::{ResourceSet, Rule};
use mesh_core::snapshot::{Decision, Request};
use meshgate_benches::{CpuTime, host, on_header, on_prefix, on_regex, path, requests, rules, set, table};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of one round.
const REQUESTS: u32 = 4096;

/// Heads of requests. Their text is in one piece that is read from front to back, so that it is in the cache as that of
/// a request that was just received is; what is not, is the table.
struct Samples {
    text: String,
    /// Length of authority and path.
    lengths: Vec<(usize, usize)>,
    /// One for all, or one for each.
    headers: Vec<HeaderMap>,
}

impl Samples {
    fn new(heads: impl Iterator<Item = (String, String)>) -> Samples {
        let mut samples = Samples { text: String::new(), lengths: Vec::new(), headers: vec![plain_headers()] };
        for (authority, path) in heads {
            samples.lengths.push((authority.len(), path.len()));
            samples.text += &authority;
            samples.text += &path;
        }
        samples
    }

    fn requests(&self) -> impl Iterator<Item = Request<'_>> {
        let mut rest = self.text.as_str();
        self.lengths.iter().zip(self.headers.iter().cycle()).filter_map(move |((authority, path), headers)| {
            let (head, behind) = rest.split_at_checked(authority + path)?;
            rest = behind;
            let (authority, path) = head.split_at_checked(*authority)?;
            Some(Request { method: "GET", scheme: "http", authority, path, query: None, headers, token: None })
        })
    }
}

fn plain_headers() -> HeaderMap {
    let lines = [("user-agent", "curl/8.0"), ("accept", "*/*"), ("x-request-id", "0")];
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Numbers below `count` in no order.
fn spread(count: u32) -> impl Iterator<Item = u32> {
    (0..REQUESTS).map(move |number| number.wrapping_mul(2_654_435_761) % count)
}

fn measure(criterion: &mut Criterion<CpuTime>, group: &str, count: u32, set: &ResourceSet, samples: &Samples) {
    let compiled = compile(set, None, 1);
    let Some(table) = table(&compiled.snapshot) else { return };
    let mut group = criterion.benchmark_group(group);
    group.throughput(requests(samples.lengths.len()));
    group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
        bencher.iter(|| {
            let mut found = 0_u32;
            for request in samples.requests() {
                if let Decision::Forward { cluster: Some(_), .. } = table.route(&request, &mut |_| 0) {
                    found += 1;
                }
            }
            assert_eq!(found as usize, samples.lengths.len());
            found
        });
    });
    group.finish();
}

fn one_host(rules: Vec<Rule>) -> ResourceSet {
    set(vec![host("h.example.com", rules)])
}

fn route_match(criterion: &mut Criterion<CpuTime>) {
    let authority = || "h.example.com".to_owned();
    for count in [10, 100, 1_000, 10_000, 100_000] {
        let set = one_host(rules(count, on_prefix));
        let prefix = |number| (authority(), path(number) + "items/42");
        let samples = Samples::new(spread(10).map(|number| prefix(number * (count / 10))));
        measure(criterion, "prefix routes in one host, ten paths", count, &set, &samples);
        let samples = Samples::new(spread(count).map(prefix));
        measure(criterion, "prefix routes in one host, spread", count, &set, &samples);
    }
    for count in [10, 100, 1_000, 10_000] {
        let name = |number| format!("host-{number}.example.com");
        let hosts = (0..count).map(|number| host(&name(number), rules(3, on_prefix))).collect();
        let samples = Samples::new(spread(count).map(|number| (name(number), path(number % 3) + "x")));
        measure(criterion, "exact hosts", count, &set(hosts), &samples);
    }
    for count in [10, 100, 1_000] {
        let samples = Samples::new(spread(count).map(|number| (authority(), format!("/abc/item-{number}/42"))));
        measure(criterion, "regex routes in one host", count, &one_host(rules(count, on_regex)), &samples);
    }
    for count in [10, 1_000, 100_000] {
        let mut samples = Samples::new(spread(count).map(|_| (authority(), "/x".to_owned())));
        let each = spread(count).filter_map(|number| {
            let mut headers = plain_headers();
            headers.insert("x-user", HeaderValue::try_from(format!("user-{number}")).ok()?);
            Some(headers)
        });
        samples.headers = each.collect();
        measure(criterion, "one path, header values", count, &one_host(rules(count, on_header)), &samples);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = route_match
}
criterion_main!(benches);

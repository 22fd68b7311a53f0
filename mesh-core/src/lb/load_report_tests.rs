use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    lines.iter().map(header).collect()
}

fn read(value: &str) -> Option<Result<LoadReport, Unusable>> {
    LoadReport::read(&headers(&[("endpoint-load-metrics", value)]))
}

fn rule(penalty: u32, metrics: &[&str]) -> Utilization {
    let seconds = std::time::Duration::from_secs;
    Utilization {
        error_penalty_percent: penalty,
        metrics: metrics.iter().map(|metric| (*metric).into()).collect(),
        stabilization: seconds(10),
        expiration: seconds(180),
        update: seconds(1),
    }
}

fn sample() -> LoadReport {
    LoadReport {
        cpu_utilization: 0.5,
        rps_fractional: 10.0,
        eps: 1.0,
        named_metrics: [("queue".to_owned(), 0.25)].into(),
        ..LoadReport::default()
    }
}

#[test]
fn the_forms_say_the_same() {
    let base64 = base64::engine::general_purpose::STANDARD.encode(sample().encode_to_vec());
    let unpadded = base64.trim_end_matches('=');
    for value in [
        "TEXT cpu_utilization=0.5, rps_fractional=10, eps=1, named_metrics.queue=0.25",
        "cpu_utilization:0.5,rps_fractional:10,,eps:1 , named_metrics.queue:0.25",
        r#"JSON {"cpu_utilization":0.5,"rps_fractional":10,"eps":1,"named_metrics":{"queue":0.25},"new":{"a":[1]}}"#,
        r#"JSON {"cpuUtilization":0.5,"rpsFractional":10.0,"eps":1,"namedMetrics":{"queue":0.25}}"#,
        &format!("BIN {base64}"),
        &format!("BIN {unpadded}"),
    ] {
        assert_eq!(read(value), Some(Ok(sample())), "{value}");
    }
    assert_eq!(LoadReport::read(&headers(&[("endpoint-load-metrics-bin", &base64)])), Some(Ok(sample())));
    let lines = [
        ("endpoint-load-metrics", "cpu_utilization=0.5"),
        ("endpoint-load-metrics", "rps_fractional=10,eps=1,named_metrics.queue=0.25"),
    ];
    assert_eq!(LoadReport::read(&headers(&lines)), Some(Ok(sample())));
    assert_eq!(LoadReport::read(&headers(&[("x-load", "eps=1")])), None);
}

#[test]
fn what_is_not_well_formed_is_no_report() {
    let long = format!("TEXT {}", "named_metrics.a=1,".repeat(500));
    let many = format!("TEXT {}", (0..65).map(|n| format!("named_metrics.m{n}=1,")).collect::<String>());
    for value in [
        "TEXT cpu_utilization",
        "TEXT cpu_utilization=much",
        "TEXT cpu_utilization=inf",
        "TEXT cpu_utilization=NaN",
        "TEXT cpu_utilization=0.1,cpu_utilization=0.9",
        "TEXT named_metrics.=1",
        "TEXT disk=0.1",
        "JSON {",
        r#"JSON {"eps":1,"eps":2}"#,
        "JSON [0.1]",
        "BIN !",
        "BIN CQ==",
        &long,
        &many,
    ] {
        assert_eq!(read(value), Some(Err(Unusable)), "{value}");
    }
}

/// Envoy: `qps / (utilization + penalty * eps / qps)`, utilization of the application, else of what the rule names, else of the
/// processors.
#[test]
fn a_weight_is_requests_by_what_is_in_use() {
    let named = LoadReport { mem_utilization: 0.8, ..sample() };
    let told = LoadReport { application_utilization: 0.1, ..named.clone() };
    for (report, rule, wanted) in [
        (&sample(), rule(0, &[]), Some(20.0)),
        (&sample(), rule(100, &[]), Some(10.0 / 0.6)),
        (&sample(), rule(150, &[]), Some(10.0 / 0.65)),
        (&sample(), rule(0, &["named_metrics.queue"]), Some(40.0)),
        (&sample(), rule(0, &["named_metrics.*"]), Some(40.0)),
        (&sample(), rule(0, &["named_metrics.other", "queue"]), Some(20.0)),
        (&named, rule(0, &["named_metrics.queue", "mem_utilization"]), Some(12.5)),
        (&told, rule(0, &["mem_utilization"]), Some(100.0)),
        (&LoadReport { rps_fractional: 0.0, ..sample() }, rule(0, &[]), None),
        (&LoadReport { cpu_utilization: 0.0, ..sample() }, rule(0, &[]), None),
        (&LoadReport { cpu_utilization: 0.0, ..sample() }, rule(100, &[]), Some(100.0)),
        (&LoadReport { rps_fractional: -1.0, ..sample() }, rule(0, &[]), None),
        (&LoadReport { eps: -1.0, ..sample() }, rule(100, &[]), None),
        (&LoadReport { rps_fractional: f64::NAN, ..sample() }, rule(0, &[]), None),
        (&LoadReport { cpu_utilization: f64::INFINITY, ..sample() }, rule(0, &[]), None),
        (&LoadReport { cpu_utilization: 1e-300, ..sample() }, rule(0, &[]), Some(f64::from(u32::MAX))),
    ] {
        match (report.weight(&rule), wanted) {
            (Some(weight), Some(wanted)) => assert!((weight - wanted).abs() < 1e-6, "{report:?} {rule:?}: {weight}"),
            (weight, wanted) => assert_eq!(weight, wanted, "{report:?} {rule:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an endpoint sends: no panic, and a weight that can be counted with, or none.
    #[test]
    fn hostile_reports_are_read(word in "(TEXT |JSON |BIN |)", value in "[ -~\u{e9}]{0,200}", penalty in any::<u32>()) {
        if let Some(Ok(report)) = read(&format!("{word}{value}")) {
            let weight = report.weight(&rule(penalty, &["named_metrics.*"]));
            prop_assert!(weight.is_none_or(|weight| weight >= 0.0 && weight <= f64::from(u32::MAX)));
        }
    }

    #[test]
    fn hostile_messages_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes);
        if let Some(Ok(report)) = LoadReport::read(&headers(&[("endpoint-load-metrics-bin", &base64)])) {
            let weight = report.weight(&rule(100, &[]));
            prop_assert!(weight.is_none_or(|weight| weight >= 0.0 && weight <= f64::from(u32::MAX)));
        }
    }

    #[test]
    fn what_is_written_is_read(numbers in proptest::collection::vec(0.0_f64..1e9, 9)) {
        let report = LoadReport {
            cpu_utilization: numbers[0],
            mem_utilization: numbers[1],
            application_utilization: numbers[2],
            rps_fractional: numbers[3],
            eps: numbers[4],
            named_metrics: [("a".to_owned(), numbers[5]), ("b.c".to_owned(), numbers[6])].into(),
            request_cost: [("d".to_owned(), numbers[7])].into(),
            utilization: [("e".to_owned(), numbers[8])].into(),
        };
        let base64 = base64::engine::general_purpose::STANDARD.encode(report.encode_to_vec());
        prop_assert_eq!(read(&format!("BIN {base64}")), Some(Ok(report)));
    }
}

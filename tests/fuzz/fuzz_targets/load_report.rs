//! No load report of an endpoint panics what reads it, and the weight it makes can be counted with.
#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use mesh_core::lb::LoadReport;
use mesh_core::model::Utilization;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let name = if choice % 2 == 0 { "endpoint-load-metrics" } else { "endpoint-load-metrics-bin" };
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, line);
    }
    let Some(Ok(report)) = LoadReport::read(&headers) else { return };
    let rule = Utilization {
        error_penalty_percent: u32::from(*choice),
        metrics: vec!["named_metrics.*".into(), "utilization.a".into()],
        stabilization: Duration::ZERO,
        expiration: Duration::MAX,
        update: Duration::ZERO,
    };
    if let Some(weight) = report.weight(&rule) {
        assert!((0.0..=f64::from(u32::MAX)).contains(&weight), "{report:?} weighs {weight}");
    }
});

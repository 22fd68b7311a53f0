//! What an endpoint says of its load in an answer: a report of ORCA (Open Request Cost Aggregation), in headers or trailers. Whoever
//! answers writes it: it is bounded, and one that is not well-formed is none at all.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName};
use serde::Deserialize;

use crate::model::Utilization;

/// `TEXT`, `JSON` or `BIN`, and the report in that form; without such a word it is text.
const REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");
/// The protobuf message in base64.
const BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// Bytes; a longer report is not read.
const LONGEST: usize = 8 * 1024;

/// As gRPC has it: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `xds.data.orca.v3.OrcaLoadReport`. What is not said is zero.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct LoadReport {
    #[prost(double, tag = "1")]
    #[serde(alias = "cpuUtilization")]
    pub cpu_utilization: f64,
    #[prost(double, tag = "2")]
    #[serde(alias = "memUtilization")]
    pub mem_utilization: f64,
    #[prost(map = "string, double", tag = "4")]
    #[serde(alias = "requestCost")]
    pub request_cost: HashMap<String, f64>,
    #[prost(map = "string, double", tag = "5")]
    pub utilization: HashMap<String, f64>,
    /// Requests in a second.
    #[prost(double, tag = "6")]
    #[serde(alias = "rpsFractional")]
    pub rps_fractional: f64,
    /// Errors in a second.
    #[prost(double, tag = "7")]
    pub eps: f64,
    #[prost(map = "string, double", tag = "8")]
    #[serde(alias = "namedMetrics")]
    pub named_metrics: HashMap<String, f64>,
    #[prost(double, tag = "9")]
    #[serde(alias = "applicationUtilization")]
    pub application_utilization: f64,
}

/// There is a report, and it cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

impl LoadReport {
    /// Whether there is one, whatever it says.
    #[must_use]
    pub fn is_in(headers: &HeaderMap) -> bool {
        headers.contains_key(BINARY) || headers.contains_key(REPORT)
    }

    /// None: there is none.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Result<LoadReport, Unusable>> {
        if let Some(value) = headers.get(BINARY) {
            return Some(binary(value.as_bytes()));
        }
        let first = headers.get(REPORT)?.as_bytes();
        let after = |word: &[u8]| first.strip_prefix(word);
        Some(if let Some(base64) = after(b"BIN ") {
            binary(base64)
        } else if let Some(json) = after(b"JSON ") {
            // A list would be taken for the fields in their order.
            let object = bounded(json).ok().filter(|json| json.trim_ascii_start().starts_with(b"{"));
            object.and_then(|json| serde_json::from_slice(json).ok()).ok_or(Unusable)
        } else {
            text(headers)
        })
    }

    /// In which the endpoint gets requests, by requests in a second and by how much of it is in use. None: that cannot be told.
    #[must_use]
    pub fn weight(&self, rule: &Utilization) -> Option<f64> {
        let penalty = f64::from(rule.error_penalty_percent) / 100.0 * self.eps / self.rps_fractional;
        let used = self.used(rule) + penalty;
        let is_known = [self.rps_fractional, self.eps, used].into_iter().all(|value| value.is_finite() && value >= 0.0);
        let weight = self.rps_fractional / used;
        (is_known && self.rps_fractional > 0.0 && used > 0.0).then(|| weight.min(f64::from(u32::MAX)))
    }

    /// What the application says; else the scarcest of what the rule names; else what is used of the processors.
    fn used(&self, rule: &Utilization) -> f64 {
        if self.application_utilization > 0.0 {
            return self.application_utilization;
        }
        let named = rule.metrics.iter().map(|metric| self.metric(metric)).fold(0.0, f64::max);
        if named > 0.0 { named } else { self.cpu_utilization }
    }

    /// By its name in the rule; `named_metrics.*` is the greatest of all.
    fn metric(&self, name: &str) -> f64 {
        let (map, key) = match name.split_once('.') {
            None => {
                return match name {
                    "cpu_utilization" => self.cpu_utilization,
                    "mem_utilization" => self.mem_utilization,
                    "application_utilization" => self.application_utilization,
                    _ => 0.0,
                };
            }
            Some(("named_metrics", key)) => (&self.named_metrics, key),
            Some(("utilization", key)) => (&self.utilization, key),
            Some(("request_cost", key)) => (&self.request_cost, key),
            Some(_) => return 0.0,
        };
        match key {
            "*" => map.values().copied().fold(0.0, f64::max),
            key => map.get(key).copied().unwrap_or(0.0),
        }
    }

    fn set(&mut self, name: &str, value: f64) -> Result<(), Unusable> {
        if let Some(name) = name.strip_prefix("named_metrics.").filter(|name| !name.is_empty()) {
            self.named_metrics.insert(name.to_owned(), value);
            return Ok(());
        }
        let field = match name {
            "cpu_utilization" => &mut self.cpu_utilization,
            "mem_utilization" => &mut self.mem_utilization,
            "application_utilization" => &mut self.application_utilization,
            "rps_fractional" => &mut self.rps_fractional,
            "eps" => &mut self.eps,
            _ => return Err(Unusable),
        };
        *field = value;
        Ok(())
    }
}

fn bounded(report: &[u8]) -> Result<&[u8], Unusable> {
    if report.len() > LONGEST { Err(Unusable) } else { Ok(report) }
}

fn binary(base64: &[u8]) -> Result<LoadReport, Unusable> {
    let message = BASE64.decode(bounded(base64)?.trim_ascii()).map_err(|_| Unusable)?;
    prost::Message::decode(message.as_slice()).map_err(|_| Unusable)
}

/// `cpu_utilization=0.3, rps_fractional=10`, also with `:`, on one line or several.
fn text(headers: &HeaderMap) -> Result<LoadReport, Unusable> {
    let mut report = LoadReport::default();
    let mut seen: smallvec::SmallVec<[&str; 8]> = smallvec::SmallVec::new();
    let mut length = 0_usize;
    for line in headers.get_all(REPORT) {
        length = length.saturating_add(line.len());
        if length > LONGEST {
            return Err(Unusable);
        }
        let line = line.to_str().map_err(|_| Unusable)?;
        let pairs = line.strip_prefix("TEXT ").unwrap_or(line).split(',').map(str::trim);
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once(['=', ':']).ok_or(Unusable)?;
            let name = name.trim();
            let value: f64 = value.trim().parse().map_err(|_| Unusable)?;
            // Said twice, it is not known which counts. Few are said.
            if !value.is_finite() || seen.contains(&name) || seen.len() >= MOST {
                return Err(Unusable);
            }
            seen.push(name);
            report.set(name, value)?;
        }
    }
    Ok(report)
}

/// Metrics of a text, of which each is compared with all others.
const MOST: usize = 64;

#[cfg(test)]
#[path = "load_report_tests.rs"]
mod tests;

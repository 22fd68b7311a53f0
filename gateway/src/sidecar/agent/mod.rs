//! What the sidecar does for its workload beside its traffic: it asks the application what the kubelet wants to know of it,
//! which has no certificate of the mesh; and shows the application's metrics beside its own.
//!
//! Injection writes into the environment what to ask, in Istio's words.

mod call;
mod probe;
mod unverified;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use call::Call;
use probe::{Limit, Prober};

/// What to ask for which path.
const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";
/// What begins so is no question but a hook of the container's life, which takes the time it takes.
const HOOKS: &str = "/app-lifecycle/";
/// Where the application's metrics are.
const METRICS: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
/// The pod's address.
const ADDRESS: &str = "INSTANCE_IP";
/// Metrics of an application take this long at most, so that those of the proxy are there in any case.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);
const MOST_METRICS: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub struct Agent {
    /// Of one that cannot be asked, why: the others are asked all the same.
    probers: HashMap<String, Result<Prober, String>>,
    metrics: Option<Metrics>,
    /// Where the application is.
    pod: IpAddr,
}

/// `prometheus.io/*`
#[derive(Debug, Deserialize)]
struct Metrics {
    #[serde(default)]
    path: String,
    #[serde(default)]
    port: String,
}

impl Default for Agent {
    /// Of a workload of which nothing was said.
    fn default() -> Self {
        Self { probers: HashMap::new(), metrics: None, pod: Ipv4Addr::LOCALHOST.into() }
    }
}

impl Agent {
    /// What cannot be read is an error that names the variable.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<Agent> {
        let wrong = |name: &str, error: &dyn std::fmt::Display| anyhow::anyhow!("{name} of the environment: {error}");
        let read = |name: &'static str| env(name).filter(|text| !text.trim().is_empty());
        let probes: HashMap<String, Value> = match read(PROBERS) {
            None => HashMap::new(),
            Some(text) => serde_json::from_str(&text).map_err(|error| wrong(PROBERS, &error))?,
        };
        let probers = probes.into_iter().map(|(path, probe)| {
            let limit = if path.starts_with(HOOKS) { Limit::None } else { Limit::OfProbe };
            let prober = Prober::read(probe, limit).inspect_err(|error| tracing::warn!(path, "{error}; it fails"));
            (path, prober)
        });
        let metrics = match read(METRICS) {
            None => None,
            Some(text) => Some(serde_json::from_str(&text).map_err(|error| wrong(METRICS, &error))?),
        };
        let pod = match read(ADDRESS) {
            None => Ipv4Addr::LOCALHOST.into(),
            Some(text) => text.parse().map_err(|error| wrong(ADDRESS, &error))?,
        };
        Ok(Agent { probers: probers.collect(), metrics, pod })
    }

    /// The application's answer to what this path stands for, and why it is none. None: the path stands for nothing.
    pub async fn probe(&self, path: &str, headers: &HeaderMap) -> Option<(StatusCode, String)> {
        Some(match self.probers.get(path)? {
            Ok(prober) => prober.ask(self.pod, headers).await,
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.clone()),
        })
    }

    /// The application's metrics, if it has any and shows them.
    pub async fn metrics(&self) -> Option<String> {
        let metrics = self.metrics.as_ref()?;
        let path = if metrics.path.is_empty() { "/metrics" } else { &metrics.path };
        // As Prometheus does without the annotation.
        let port = if metrics.port.is_empty() { 80 } else { metrics.port.parse().ok()? };
        let call = Call { to: (self.pod, port).into(), path, headers: HeaderMap::new(), tls: None };
        match tokio::time::timeout(METRICS_TIMEOUT, call.get(MOST_METRICS)).await {
            Ok(Ok((status, body))) if status.is_success() => Some(String::from_utf8_lossy(&body).into_owned()),
            Ok(Ok((status, _))) => {
                tracing::warn!(%status, port, path, "the application does not show its metrics");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, port, path, "the application does not show its metrics");
                None
            }
            Err(_) => {
                tracing::warn!(port, path, "the application is too slow to show its metrics");
                None
            }
        }
    }
}

/// Both expositions as one: a family is described once, by whoever comes first.
pub fn merge(own: &str, application: &str) -> String {
    let mut merged = own.to_owned();
    if !merged.is_empty() && !merged.ends_with('\n') {
        merged.push('\n');
    }
    let described = |line: &str| -> Option<String> {
        let rest = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP "))?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let known: std::collections::HashSet<String> = own.lines().filter_map(described).collect();
    for line in application.lines() {
        // OpenMetrics ends with a mark, which is not the end here.
        let twice = described(line).is_some_and(|name| known.contains(&name));
        if line != "# EOF" && !twice {
            merged.push_str(line);
            merged.push('\n');
        }
    }
    merged
}

#[cfg(test)]
mod tests;

//! The metrics registry: Istio's request metrics from the workers' counters, and the gateway's own. Everything in here is
//! cold: it runs when somebody reads the metrics, or when the configuration changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use mesh_core::diag::{Diagnostic, Severity};
use mesh_core::model::{ProxyInfo, ResourceSet, Role};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Observer;
use super::parties::{PartyLabels, WorkloadLabels};
use super::series::{BUCKETS, Counts, Histogram as Samples, SeriesLabels, TcpCounts, Totals};

/// Who reports: the labels `source_*` of Istio's metrics, and `destination_*` of what arrives at the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLabels {
    pub workload: String,
    pub namespace: String,
    pub app: String,
    pub version: String,
    pub canonical_service: String,
    pub canonical_revision: String,
    pub cluster: String,
}

impl SourceLabels {
    /// From the labels of the proxy and what the downward API, or injection, usually gives its pod.
    #[must_use]
    pub fn of_proxy(proxy: &ProxyInfo, env: impl Fn(&str) -> Option<String>) -> Self {
        match proxy.role {
            Role::Edge => Self::of_gateway(&proxy.labels, &proxy.namespace, env),
            Role::Sidecar => Self::of_workload(&proxy.labels, &proxy.namespace, env),
        }
    }

    fn of_workload(labels: &BTreeMap<String, String>, namespace: &str, env: impl Fn(&str) -> Option<String>) -> Self {
        let own = Self::of_gateway(labels, namespace, &env);
        // A gateway without these has its service's name for one; a workload has its own.
        let workload = env("ISTIO_META_WORKLOAD_NAME").or_else(|| labels.get("app").cloned()).unwrap_or_default();
        let app = labels.get("app").cloned().unwrap_or_default();
        let named = env("CANONICAL_SERVICE").or_else(|| labels.get("service.istio.io/canonical-name").cloned());
        let canonical = named.or_else(|| labels.get("app").cloned()).unwrap_or_else(|| workload.clone());
        let revision = env("CANONICAL_REVISION").unwrap_or(own.canonical_revision);
        Self { canonical_service: canonical, canonical_revision: revision, workload, app, ..own }
    }

    /// The same of a gateway.
    #[must_use]
    pub fn of_gateway(
        labels: &BTreeMap<String, String>,
        namespace: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let label = |name: &str| labels.get(name).cloned();
        let name = label("istio").unwrap_or_else(|| "meshgate".to_owned());
        let workload = env("ISTIO_META_WORKLOAD_NAME").unwrap_or_else(|| format!("istio-{name}"));
        let app = label("app").unwrap_or_else(|| workload.clone());
        let canonical = label("service.istio.io/canonical-name").or_else(|| label("app.kubernetes.io/name"));
        let revision = label("service.istio.io/canonical-revision").or_else(|| label("version"));
        Self {
            namespace: namespace.to_owned(),
            canonical_service: canonical.unwrap_or_else(|| app.clone()),
            canonical_revision: revision.unwrap_or_else(|| "latest".to_owned()),
            version: label("version").unwrap_or_default(),
            cluster: env("ISTIO_META_CLUSTER_ID").unwrap_or_else(|| "Kubernetes".to_owned()),
            workload,
            app,
        }
    }
}

/// Reads `gather` what the workers counted.
pub(super) struct RequestCollector {
    observers: Vec<Arc<Observer>>,
    totals: Mutex<Totals>,
    own: WorkloadLabels,
    /// `spiffe://…` of this process.
    principal: OnceLock<String>,
    descriptions: Vec<Desc>,
}

const FAMILIES: [(&str, &str, MetricType); 15] = [
    ("istio_requests_total", "Requests.", MetricType::COUNTER),
    ("istio_request_duration_milliseconds", "Duration of requests.", MetricType::HISTOGRAM),
    ("istio_request_bytes", "Bytes of request bodies.", MetricType::HISTOGRAM),
    ("istio_response_bytes", "Bytes of response bodies.", MetricType::HISTOGRAM),
    ("istio_request_messages_total", "gRPC messages from clients.", MetricType::COUNTER),
    ("istio_response_messages_total", "gRPC messages to clients.", MetricType::COUNTER),
    ("meshgate_bad_requests_total", "Requests that violated the protocol, by details.", MetricType::COUNTER),
    ("meshgate_mirrored_requests_total", "Copies of requests (mirror), by outcome.", MetricType::COUNTER),
    ("istio_tcp_sent_bytes_total", "Bytes to clients, of connections that are not HTTP.", MetricType::COUNTER),
    ("istio_tcp_received_bytes_total", "Bytes from clients, of connections that are not HTTP.", MetricType::COUNTER),
    ("istio_tcp_connections_opened_total", "Connections that are not HTTP, opened.", MetricType::COUNTER),
    ("istio_tcp_connections_closed_total", "Connections that are not HTTP, closed.", MetricType::COUNTER),
    ("meshgate_retries_total", "Tries of requests beyond the first.", MetricType::COUNTER),
    (
        "meshgate_retries_used_up_total",
        "Requests that failed although they were tried as often as was allowed.",
        MetricType::COUNTER,
    ),
    (
        "meshgate_route_requests_total",
        "Requests of matches with a `statPrefix`, by it and the class of their answer.",
        MetricType::COUNTER,
    ),
];

impl RequestCollector {
    pub fn new(observers: Vec<Arc<Observer>>, source: &SourceLabels) -> prometheus::Result<RequestCollector> {
        let describe = |(name, help, _): &(&str, &str, MetricType)| {
            Desc::new((*name).to_owned(), (*help).to_owned(), Vec::new(), std::collections::HashMap::new())
        };
        let descriptions = FAMILIES.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { observers, totals: Mutex::default(), own: source.into(), principal: OnceLock::new(), descriptions })
    }

    /// As its certificate says.
    pub fn set_principal(&self, principal: &str) {
        let _ = self.principal.set(principal.to_owned());
    }

    fn principal(&self) -> &str {
        self.principal.get().map(String::as_str).unwrap_or_default()
    }

    /// Adds up what the workers counted since the last time. Also called now and then without a reader, so that the
    /// workers' tables stay small.
    pub fn collect_workers(&self) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for observer in &self.observers {
            totals.add(observer.take(), Instant::now());
        }
    }

    /// See [`Totals::forget_gone`].
    pub fn forget_gone(&self, set: &ResourceSet, now: Instant) {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).forget_gone(set, now);
    }

    fn families(&self) -> Vec<MetricFamily> {
        self.collect_workers();
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let labelled: Vec<(Vec<LabelPair>, bool, &Counts)> =
            totals.series.iter().map(|(labels, series)| (self.pairs(labels), labels.grpc, &series.counts)).collect();
        let family = |index: usize, metrics: Vec<Metric>| {
            let mut family = MetricFamily::default();
            if let Some((name, help, kind)) = FAMILIES.get(index) {
                family.set_name((*name).to_owned());
                family.set_help((*help).to_owned());
                family.set_field_type(*kind);
            }
            family.set_metric(metrics);
            family
        };
        let each = |only_grpc: bool, fill: &dyn Fn(&Counts, &mut Metric)| -> Vec<Metric> {
            let chosen = labelled.iter().filter(|(_, grpc, _)| *grpc || !only_grpc);
            chosen.map(|(pairs, _, counts)| metric(pairs.clone(), |metric| fill(counts, metric))).collect()
        };
        let bad = totals.bad.iter().map(|(details, count)| {
            metric(vec![pair("details", details)], |metric| metric.set_counter(counter(*count)))
        });
        let outcomes = [("answered", totals.mirrored.answered), ("failed", totals.mirrored.failed)];
        let mirrored = outcomes.into_iter().map(|(outcome, count)| {
            metric(vec![pair("outcome", outcome)], |metric| metric.set_counter(counter(count)))
        });
        let prefixed = totals.prefixed.iter().map(|(prefix, class, count)| {
            let class = if class == 0 { "none".to_owned() } else { format!("{class}xx") };
            let pairs = vec![pair("response_code_class", &class), pair("stat_prefix", prefix)];
            metric(pairs, |metric| metric.set_counter(counter(count)))
        });
        let tcp: Vec<(Vec<LabelPair>, TcpCounts)> =
            totals.tcp.iter().map(|(labels, series)| (self.tcp_pairs(labels), series.counts)).collect();
        let connections = |count: &dyn Fn(&TcpCounts) -> u64| -> Vec<Metric> {
            let all = tcp.iter();
            all.map(|(pairs, counts)| metric(pairs.clone(), |metric| metric.set_counter(counter(count(counts)))))
                .collect()
        };
        let single = |count: u64| vec![metric(Vec::new(), |metric| metric.set_counter(counter(count)))];
        vec![
            family(0, each(false, &|counts, metric| metric.set_counter(counter(counts.requests)))),
            family(1, each(false, &|counts, metric| metric.set_histogram(histogram(&counts.duration_ms)))),
            family(2, each(false, &|counts, metric| metric.set_histogram(histogram(&counts.request_bytes)))),
            family(3, each(false, &|counts, metric| metric.set_histogram(histogram(&counts.response_bytes)))),
            family(4, each(true, &|counts, metric| metric.set_counter(counter(counts.request_messages)))),
            family(5, each(true, &|counts, metric| metric.set_counter(counter(counts.response_messages)))),
            family(6, bad.collect()),
            family(7, mirrored.collect()),
            family(8, connections(&|counts| counts.sent)),
            family(9, connections(&|counts| counts.received)),
            family(10, connections(&|counts| counts.opened)),
            family(11, connections(&|counts| counts.closed)),
            family(12, single(totals.retried.tries)),
            family(13, single(totals.retried.used_up)),
            family(14, prefixed.collect()),
        ]
    }

    /// In alphabetical order, as the text format wants them to be stable.
    fn pairs(&self, labels: &SeriesLabels) -> Vec<LabelPair> {
        let mut pairs = self.party_pairs(&labels.parties);
        pairs.extend([
            pair("request_protocol", if labels.grpc { "grpc" } else { "http" }),
            pair("response_code", &labels.status.to_string()),
        ]);
        if let Some(status) = labels.grpc_status.filter(|_| labels.grpc) {
            pairs.push(pair("grpc_response_status", &status.to_string()));
        }
        pairs.sort_by(|a, b| a.name().cmp(b.name()));
        pairs
    }

    /// The same, of connections that are not HTTP.
    fn tcp_pairs(&self, labels: &PartyLabels) -> Vec<LabelPair> {
        let mut pairs = self.party_pairs(labels);
        pairs.push(pair("request_protocol", "tcp"));
        pairs.sort_by(|a, b| a.name().cmp(b.name()));
        pairs
    }

    fn party_pairs(&self, labels: &PartyLabels) -> Vec<LabelPair> {
        let other = labels.workload.clone().unwrap_or_else(|| WorkloadLabels {
            namespace: if labels.inbound { Arc::default() } else { labels.service_namespace.clone() },
            ..WorkloadLabels::default()
        });
        // As the connection had it: in clear nobody shows who he is.
        let principal = labels.principal.as_deref().unwrap_or_default();
        let own_principal = if principal.is_empty() { "" } else { self.principal() };
        let mut pairs = match labels.inbound {
            true => workload_pairs(DESTINATION, &self.own, own_principal),
            false => workload_pairs(SOURCE, &self.own, own_principal),
        };
        pairs.extend(match labels.inbound {
            true => workload_pairs(SOURCE, &other, principal),
            false => workload_pairs(DESTINATION, &other, principal),
        });
        let security = match (labels.inbound, principal) {
            // Istio's word for whoever is not the destination.
            (false, _) => "unknown",
            (true, "") => "none",
            (true, _) => "mutual_tls",
        };
        pairs.extend([
            pair("reporter", if labels.inbound { "destination" } else { "source" }),
            pair("connection_security_policy", security),
            pair("destination_service", &labels.service),
            pair("destination_service_name", &labels.service_name),
            pair("destination_service_namespace", &labels.service_namespace),
            pair("response_flags", &labels.flags.to_string()),
        ]);
        pairs
    }
}

/// Names of a workload's labels.
type LabelNames = [&'static str; 8];

const SOURCE: LabelNames = [
    "source_app",
    "source_canonical_revision",
    "source_canonical_service",
    "source_cluster",
    "source_principal",
    "source_version",
    "source_workload",
    "source_workload_namespace",
];

const DESTINATION: LabelNames = [
    "destination_app",
    "destination_canonical_revision",
    "destination_canonical_service",
    "destination_cluster",
    "destination_principal",
    "destination_version",
    "destination_workload",
    "destination_workload_namespace",
];

fn workload_pairs(names: LabelNames, workload: &WorkloadLabels, principal: &str) -> Vec<LabelPair> {
    let values: [&str; 8] = [
        &workload.app,
        &workload.canonical_revision,
        &workload.canonical_service,
        &workload.cluster,
        principal,
        &workload.version,
        &workload.name,
        &workload.namespace,
    ];
    names.into_iter().zip(values).map(|(name, value)| pair(name, value)).collect()
}

impl Collector for RequestCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families()
    }
}

impl From<&SourceLabels> for WorkloadLabels {
    fn from(own: &SourceLabels) -> Self {
        Self {
            name: own.workload.as_str().into(),
            namespace: own.namespace.as_str().into(),
            app: own.app.as_str().into(),
            version: own.version.as_str().into(),
            canonical_service: own.canonical_service.as_str().into(),
            canonical_revision: own.canonical_revision.as_str().into(),
            cluster: own.cluster.as_str().into(),
        }
    }
}

/// Istio says `unknown` where there is nothing to say.
fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(if value.is_empty() { "unknown".to_owned() } else { value.to_owned() });
    pair
}

fn metric(labels: Vec<LabelPair>, fill: impl FnOnce(&mut Metric)) -> Metric {
    let mut metric = Metric::from_label(labels);
    fill(&mut metric);
    metric
}

#[allow(clippy::cast_precision_loss)]
fn counter(value: u64) -> Counter {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    counter
}

fn histogram(samples: &Samples) -> HistogramProto {
    let mut proto = HistogramProto::default();
    proto.set_sample_count(samples.count);
    proto.set_sample_sum(samples.sum);
    let mut cumulative = 0_u64;
    let buckets = samples.buckets.iter().zip(BUCKETS).map(|(count, bound)| {
        cumulative = cumulative.saturating_add(*count);
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(cumulative);
        bucket.set_upper_bound(bound);
        bucket
    });
    proto.set_bucket(buckets.collect());
    proto
}

/// The gateway's own metrics. Connections and handshakes are counted by the listeners; see `admin` for how they get here.
pub struct OwnMetrics {
    pub generation: IntGauge,
    pub objects: IntGaugeVec,
    pub diagnostics: IntGaugeVec,
    pub publishes: IntCounter,
    pub compile_seconds: Histogram,
    pub listeners: IntGauge,
    pub controller: ControllerMetrics,
    pub workload: WorkloadMetrics,
}

/// The certificate of this workload, where it gets one.
#[derive(Clone, Debug)]
pub struct WorkloadMetrics {
    /// Certificates that came, the first one included.
    pub renewals: IntCounter,
    /// Attempts that failed, by reason.
    pub failures: IntCounterVec,
}

/// How it stands with the controller, where there is one.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    pub connected: IntGauge,
    pub streams: IntCounter,
    pub refused: IntCounter,
    /// Attempts and streams that failed, by reason.
    pub errors: IntCounterVec,
    /// Names that a request needed and that were not here.
    pub asked: IntCounter,
}

impl OwnMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<OwnMetrics> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let gauges = |name: &str, help: &str, label: &str| -> prometheus::Result<IntGaugeVec> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let build = gauges("meshgate_build_info", "Always 1; the label tells the version.", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // The dashboards of Istio ask for it.
        let istio = IntGaugeVec::new(Opts::new("istio_build", "Always 1."), &["component", "tag"])?;
        istio.with_label_values(&["proxy", env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(istio))?;
        let seconds = HistogramOpts::new("meshgate_compile_seconds", "Time from resources to tables.")
            .buckets(vec![0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]);
        let compile_seconds = Histogram::with_opts(seconds)?;
        registry.register(Box::new(compile_seconds.clone()))?;
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let errors =
            Opts::new("meshgate_controller_errors_total", "Streams that failed or could not be opened, by reason.");
        let errors = IntCounterVec::new(errors, &["reason"])?;
        registry.register(Box::new(errors.clone()))?;
        let controller = ControllerMetrics {
            errors,
            connected: gauge("meshgate_controller_connected", "Whether a controller is connected.")?,
            streams: counter("meshgate_controller_streams_total", "Discovery streams opened.")?,
            asked: counter(
                "meshgate_controller_asked_total",
                "Names that a request needed and the controller was asked for.",
            )?,
            refused: counter("meshgate_controller_refused_total", "Resources that were not understood.")?,
        };
        let failures =
            Opts::new("meshgate_certificate_failures_total", "Attempts to get a workload certificate that failed.");
        let failures = IntCounterVec::new(failures, &["reason"])?;
        registry.register(Box::new(failures.clone()))?;
        let workload = WorkloadMetrics {
            failures,
            renewals: counter("meshgate_certificate_renewals_total", "Workload certificates that were issued.")?,
        };
        Ok(OwnMetrics {
            controller,
            workload,
            generation: gauge("meshgate_config_generation", "Generation that is served.")?,
            objects: gauges("meshgate_config_objects", "Objects of the configuration, by kind.", "kind")?,
            diagnostics: gauges("meshgate_config_diagnostics", "Findings about the configuration.", "severity")?,
            publishes: counter("meshgate_publishes_total", "Generations published.")?,
            compile_seconds,
            listeners: gauge("meshgate_listeners", "Addresses that are listened on.")?,
        })
    }

    /// Counts findings by severity.
    pub fn set_diagnostics(&self, diagnostics: &[Diagnostic]) {
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            let count = diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
            self.diagnostics.with_label_values(&[severity.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts objects by kind; kinds that are gone count 0.
    pub fn set_objects<'a>(&self, kinds: impl Iterator<Item = &'a str>) {
        let mut counts = BTreeMap::<&str, i64>::new();
        for kind in kinds {
            let count = counts.entry(kind).or_default();
            *count = count.saturating_add(1);
        }
        self.objects.reset();
        for (kind, count) in counts {
            self.objects.with_label_values(&[kind]).set(count);
        }
    }
}

/// Text exposition of everything that is registered.
pub(super) fn text(registry: &Registry) -> String {
    let mut out = Vec::new();
    // Families without any sample are no valid exposition.
    let families: Vec<MetricFamily> =
        registry.gather().into_iter().filter(|family| !family.get_metric().is_empty()).collect();
    if let Err(error) = TextEncoder::new().encode(&families, &mut out) {
        tracing::error!(%error, "cannot write the metrics");
    }
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

//! Metrics that are looked up when somebody reads them: what listeners and pools counted by themselves, and how long the
//! workload certificate lasts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use mesh_core::lb::Limit;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::PoolList;
use super::clusters::connections;
use crate::http::{Room, rate_limit};
use crate::listen::ListenerManager;
use crate::live::{Cells, Live};
use crate::tls::workload::WorkloadCell;

pub struct SocketCollector {
    listeners: Arc<ListenerManager>,
    pools: Arc<PoolList>,
    cells: Arc<Cells>,
    room: Arc<Room>,
    descriptions: Vec<Desc>,
}

type Row = (Vec<(&'static str, String)>, u64);

const FAMILIES: [(&str, &str, MetricType); 17] = [
    ("meshgate_downstream_connections", "Connections of clients, open now.", MetricType::GAUGE),
    ("meshgate_downstream_connections_total", "Connections of clients, accepted.", MetricType::COUNTER),
    ("meshgate_downstream_refused_total", "Connections of clients that were refused, by reason.", MetricType::COUNTER),
    ("meshgate_downstream_requests", "Requests in flight.", MetricType::GAUGE),
    ("meshgate_downstream_requests_shed_total", "Requests that found no room (503, OM).", MetricType::COUNTER),
    ("meshgate_upstream_connections", "Connections to endpoints, open now.", MetricType::GAUGE),
    ("meshgate_upstream_connections_total", "Connections to endpoints, made.", MetricType::COUNTER),
    ("meshgate_upstream_connect_failures_total", "Connections to endpoints that failed.", MetricType::COUNTER),
    ("meshgate_upstream_ejected_endpoints", "Endpoints that outlier detection leaves out now.", MetricType::GAUGE),
    ("meshgate_upstream_ejections_total", "How often outlier detection left an endpoint out.", MetricType::COUNTER),
    ("meshgate_upstream_overflows_total", "How often a destination had no room, by limit.", MetricType::COUNTER),
    ("meshgate_upstream_load_reports_total", "Reports of endpoints about their load, by use.", MetricType::COUNTER),
    ("meshgate_rate_limited_total", "Requests for which a rate limit had no room (429, RL).", MetricType::COUNTER),
    ("meshgate_rate_limit_buckets", "Buckets of a rate limit that are not full.", MetricType::GAUGE),
    (
        "meshgate_rate_limit_buckets_evicted_total",
        "Buckets that were not full and were forgotten for lack of room.",
        MetricType::COUNTER,
    ),
    (
        "meshgate_rate_limit_leases_total",
        "Shares of a rate limit that the controller lent to this proxy.",
        MetricType::COUNTER,
    ),
    (
        "meshgate_rate_limit_fallback",
        "Whether nobody lends a share of a rate limit, so that what is left of the last one counts.",
        MetricType::GAUGE,
    ),
];

const SHARE: (&str, &str) =
    ("meshgate_rate_limit_share", "This proxy's part of a rate limit that all proxies count together; 1: all of it.");

impl SocketCollector {
    pub fn new(
        listeners: Arc<ListenerManager>,
        pools: Arc<PoolList>,
        cells: Arc<Cells>,
        room: Arc<Room>,
    ) -> prometheus::Result<Self> {
        let describe = |(name, help, _): &(&str, &str, MetricType)| {
            Desc::new((*name).to_owned(), (*help).to_owned(), Vec::new(), std::collections::HashMap::new())
        };
        let share = (SHARE.0, SHARE.1, MetricType::GAUGE);
        let descriptions = FAMILIES.iter().chain([&share]).map(describe).collect::<Result<_, _>>()?;
        Ok(Self { listeners, pools, cells, room, descriptions })
    }

    fn downstream(&self) -> [Vec<Row>; 3] {
        let (mut open, mut total, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = std::collections::HashSet::new();
        for listener in self.listeners.status() {
            // One that was replaced may still drain beside its successor.
            if !seen.insert(listener.key.clone()) {
                continue;
            }
            let labels = vec![("listener", listener.key.to_string())];
            let counts = listener.counts;
            open.push((labels.clone(), counts.open as u64));
            total.push((labels.clone(), counts.accepted));
            let reasons = [
                ("too_many_connections", counts.over_limit),
                ("too_many_of_client", counts.over_client_limit),
                ("accept_error", counts.accept_errors),
                ("not_redirected", counts.not_redirected),
                ("no_proxy_header", counts.no_proxy_header),
                ("tls_handshake_timeout", counts.handshake_timeouts),
                ("tls_not_tls", counts.not_tls),
                ("tls_unknown_name", counts.unknown_names),
                ("tls_no_certificate", counts.no_certificate),
                ("tls_handshake_failed", counts.handshake_failures),
            ];
            for (reason, count) in reasons {
                let mut labels = labels.clone();
                labels.push(("reason", reason.to_owned()));
                refused.push((labels, count));
            }
        }
        [open, total, refused]
    }

    fn requests(&self) -> [Vec<Row>; 2] {
        [vec![(Vec::new(), self.room.taken() as u64)], vec![(Vec::new(), self.room.refused())]]
    }

    fn upstream(&self) -> [Vec<Row>; 3] {
        let connections = connections(&self.pools);
        let (mut open, mut total, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for cluster in &self.cells.live.load().clusters {
            let mut sum = [0_u64; 4];
            let mut used = false;
            for endpoint in cluster.endpoints.load().iter() {
                let Some(found) = connections.get(&(cluster.id, endpoint.address)) else { continue };
                used = true;
                let counts = [found.active as u64, found.idle as u64, found.connects, found.connect_failures];
                for (sum, count) in sum.iter_mut().zip(counts) {
                    *sum = sum.saturating_add(count);
                }
            }
            if used {
                let [active, idle, connects, connect_failures] = sum;
                let label = |state: Option<&str>| {
                    let mut labels = vec![("cluster_name", cluster.destination.key.to_string())];
                    labels.extend(state.map(|state| ("state", state.to_owned())));
                    labels
                };
                open.push((label(Some("active")), active));
                open.push((label(Some("idle")), idle));
                total.push((label(None), connects));
                failures.push((label(None), connect_failures));
            }
        }
        [open, total, failures]
    }
}

/// Endpoints that are out, and how often one was put out.
fn ejections(live: &Live) -> [Vec<Row>; 2] {
    let (mut out, mut total) = (Vec::new(), Vec::new());
    for cluster in &live.clusters {
        let Some(watch) = &cluster.outliers else { continue };
        let labels = vec![("cluster_name", cluster.destination.key.to_string())];
        let count = cluster.endpoints.load().iter().filter(|state| state.is_ejected()).count();
        out.push((labels.clone(), count as u64));
        total.push((labels, watch.ejected.load(Ordering::Relaxed)));
    }
    [out, total]
}

/// How often the limits of destinations were met.
fn overflows(live: &Live) -> [Vec<Row>; 1] {
    let limited = live.clusters.iter().filter_map(|cluster| Some((cluster, cluster.breaker.as_ref()?)));
    let rows = limited.flat_map(|(cluster, breaker)| {
        Limit::ALL.map(|limit| {
            let name = cluster.destination.key.to_string();
            (vec![("cluster_name", name), ("limit", limit.as_str().to_owned())], breaker.overflows(limit))
        })
    });
    [rows.collect()]
}

/// What endpoints say of their load.
fn load_reports(live: &Live) -> [Vec<Row>; 1] {
    let heard = live.clusters.iter().filter_map(|cluster| Some((cluster, cluster.balancer.load_reports()?)));
    let rows = heard.flat_map(|(cluster, counts)| {
        ["used", "unusable"].into_iter().zip(counts).map(|(use_of, count)| {
            (vec![("cluster_name", cluster.destination.key.to_string()), ("use", use_of.to_owned())], count)
        })
    });
    [rows.collect()]
}

/// What the rate limits counted.
fn rate_limits(live: &Live) -> [Vec<Row>; 5] {
    let (mut refused, mut in_use, mut evicted) = (Vec::new(), Vec::new(), Vec::new());
    let (mut leases, mut fallback) = (Vec::new(), Vec::new());
    for count in &live.limits {
        let labels = vec![("limit", count.name.to_string())];
        if let Some(buckets) = count.buckets() {
            in_use.push((labels.clone(), count.in_use(rate_limit::now()) as u64));
            evicted.push((labels.clone(), buckets.evicted()));
        }
        if let Some(share) = count.share() {
            leases.push((labels.clone(), share.lent()));
            fallback.push((labels.clone(), u64::from(share.is_alone(rate_limit::now()))));
        }
        refused.push((labels, count.refused()));
    }
    [refused, in_use, evicted, leases, fallback]
}

/// What is ours now of limits that others count, too.
fn shares(live: &Live) -> MetricFamily {
    let shared = live.limits.iter().filter_map(|count| Some((&count.name, count.share()?)));
    let rows = shared.map(|(name, share)| {
        let part = share.lease().now(rate_limit::now());
        (vec![("limit", name.to_string())], part.ratio())
    });
    family_of(SHARE.0, SHARE.1, MetricType::GAUGE, rows)
}

impl Collector for SocketCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let live = self.cells.live.load();
        let clients = self.downstream().into_iter().chain(self.requests());
        let rows = clients.chain(self.upstream()).chain(ejections(&live)).chain(overflows(&live));
        let rows = rows.chain(load_reports(&live)).chain(rate_limits(&live));
        let families = FAMILIES.iter().zip(rows).map(|((name, help, kind), rows)| family(name, help, *kind, rows));
        families.chain([shares(&live)]).collect()
    }
}

/// The name of Istio's agent.
const EXPIRY: (&str, &str) = ("istio_agent_cert_expiry_seconds", "Seconds until the workload certificate ends.");

pub struct WorkloadCollector {
    workload: Arc<WorkloadCell>,
    description: Desc,
}

impl WorkloadCollector {
    pub fn new(workload: Arc<WorkloadCell>) -> prometheus::Result<Self> {
        let (name, help) = (EXPIRY.0.to_owned(), EXPIRY.1.to_owned());
        let description = Desc::new(name, help, vec!["resource_name".to_owned()], std::collections::HashMap::new())?;
        Ok(Self { workload, description })
    }
}

impl Collector for WorkloadCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let workload = self.workload.load();
        let rows = workload.last_certificate().map(|certificate| {
            let left = u64::try_from(certificate.seconds_left(SystemTime::now())).unwrap_or(0);
            (vec![("resource_name", "default".to_owned())], left)
        });
        vec![family(EXPIRY.0, EXPIRY.1, MetricType::GAUGE, rows.into_iter().collect())]
    }
}

#[allow(clippy::cast_precision_loss)]
fn family(name: &str, help: &str, kind: MetricType, rows: Vec<Row>) -> MetricFamily {
    family_of(name, help, kind, rows.into_iter().map(|(labels, value)| (labels, value as f64)))
}

fn family_of(
    name: &str,
    help: &str,
    kind: MetricType,
    rows: impl Iterator<Item = (Vec<(&'static str, String)>, f64)>,
) -> MetricFamily {
    let metrics = rows.map(|(labels, value)| {
        let pairs = labels.into_iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        if kind == MetricType::GAUGE {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        } else {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.collect());
    family
}

//! The controller's metrics, read off when somebody asks.

use std::sync::{Mutex, PoisonError};

use mesh_core::diag::Severity;
use mesh_core::wire::Kind;
use prometheus::{Encoder as _, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::acme::Board;
use crate::ca::Counters;
use crate::inject::Injections;
use crate::kube::{Reviews, View};
use crate::push::{Lender, Proxies, ProxyStatus};
use crate::status::Writes;

pub struct Metrics {
    registry: Registry,
    generation: IntGauge,
    leader: IntGauge,
    proxies: IntGauge,
    behind: IntGauge,
    refused: IntGauge,
    objects: IntGauge,
    diagnostics: IntGaugeVec,
    unavailable: IntGauge,
    endings: IntCounterVec,
    responses: IntCounterVec,
    resources: IntCounterVec,
    lent: GaugeVec,
    borrowers: IntGaugeVec,
    /// One page at a time: what others count is read off here.
    rendering: Mutex<()>,
}

impl Metrics {
    pub fn new(
        certificates: &Counters,
        statuses: &Writes,
        injections: &Injections,
        orders: &Board,
        reviews: &Reviews,
    ) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        certificates.register(&registry)?;
        statuses.register(&registry)?;
        injections.register(&registry)?;
        orders.register(&registry)?;
        reviews.register(&registry)?;
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let diagnostics = IntGaugeVec::new(
            Opts::new("meshgate_config_diagnostics", "Findings about the configuration."),
            &["severity"],
        )?;
        registry.register(Box::new(diagnostics.clone()))?;
        let counters = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let lent = Opts::new(
            "meshgate_controller_rate_limit_lent",
            "How much of a rate limit that all proxies count together is lent; 1: all of it. The leader knows.",
        );
        let lent = GaugeVec::new(lent, &["limit"])?;
        registry.register(Box::new(lent.clone()))?;
        let borrowers =
            Opts::new("meshgate_controller_rate_limit_proxies", "Proxies that a part of a rate limit is lent to.");
        let borrowers = IntGaugeVec::new(borrowers, &["limit"])?;
        registry.register(Box::new(borrowers.clone()))?;
        let build = IntGaugeVec::new(Opts::new("istio_build", "Always 1."), &["component", "tag"])?;
        build.with_label_values(&["pilot", env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        let metrics = Metrics {
            generation: gauge("meshgate_controller_generation", "Generation of the world.")?,
            leader: gauge("meshgate_controller_leader", "Whether this replica leads.")?,
            // Istio's name.
            proxies: gauge("pilot_xds", "Proxies connected to this replica.")?,
            behind: gauge("meshgate_controller_proxies_behind", "Proxies that have not acknowledged the last push.")?,
            refused: gauge(
                "meshgate_controller_proxies_refusing",
                "Proxies that lack something because they refused it.",
            )?,
            objects: gauge("meshgate_controller_objects", "Objects whose generation is observed.")?,
            unavailable: gauge("meshgate_controller_kinds_unavailable", "Kinds that cannot be watched.")?,
            endings: counters(
                "meshgate_controller_streams_ended_total",
                "Streams of proxies that ended, by reason.",
                "reason",
            )?,
            responses: counters("meshgate_controller_responses_total", "Responses to proxies, by kind.", "kind")?,
            resources: counters(
                "meshgate_controller_resources_sent_total",
                "Resources in responses to proxies, by kind.",
                "kind",
            )?,
            lent,
            borrowers,
            diagnostics,
            rendering: Mutex::default(),
            registry: registry.clone(),
        };
        registry.register(Box::new(process))?;
        Ok(metrics)
    }

    pub fn render(&self, view: &View, proxies: &Proxies, lender: &Lender, leads: bool, generation: u64) -> Vec<u8> {
        let _one = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        let read_off = |counters: &IntCounterVec, label: &str, count: u64| {
            let counter = counters.with_label_values(&[label]);
            counter.inc_by(count.saturating_sub(counter.get()));
        };
        for (ending, count) in proxies.endings().all() {
            read_off(&self.endings, ending.as_str(), count);
        }
        for (kind, responses, resources) in proxies.sent().all() {
            read_off(&self.responses, kind.as_str(), responses);
            read_off(&self.resources, kind.as_str(), resources);
        }
        self.note_limits(lender);
        let proxies = proxies.all();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.leader.set(i64::from(leads));
        self.proxies.set(count(proxies.len()));
        let config = |proxy: &ProxyStatus| proxy.kinds.get(&Kind::Config).cloned().unwrap_or_default();
        self.behind.set(count(proxies.iter().filter(|proxy| config(proxy).acknowledged < config(proxy).sent).count()));
        let refusing = |proxy: &&ProxyStatus| proxy.kinds.values().any(|kind| !kind.refused.is_empty());
        self.refused.set(count(proxies.iter().filter(refusing).count()));
        self.objects.set(count(view.observed.len()));
        self.unavailable.set(count(view.unavailable.len()));
        let of_classes = view.classes.iter().flat_map(|(_, state)| state.diagnostics.iter());
        let all: std::collections::BTreeSet<_> = view.diagnostics.iter().chain(of_classes).collect();
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            let found = all.iter().filter(|diagnostic| diagnostic.severity == severity).count();
            self.diagnostics.with_label_values(&[severity.as_str()]).set(count(found));
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics");
        }
        text
    }

    /// Limits that are not there any more are forgotten.
    fn note_limits(&self, lender: &Lender) {
        self.lent.reset();
        self.borrowers.reset();
        for (limit, standing) in lender.standings() {
            self.lent.with_label_values(&[&limit]).set(standing.lent.ratio());
            self.borrowers.with_label_values(&[&limit]).set(i64::try_from(standing.holders).unwrap_or(i64::MAX));
        }
    }
}

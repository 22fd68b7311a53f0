//! The controller's metrics, read off when somebody asks.

use std::sync::{Mutex, PoisonError};

use mesh_core::diag::Severity;
use mesh_core::wire::Kind;
use prometheus::{Encoder as _, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::ca::Counters;
use crate::kube::View;
use crate::push::{Proxies, ProxyStatus};

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
    /// One page at a time: what others count is read off here.
    rendering: Mutex<()>,
}

impl Metrics {
    pub fn new(certificates: &Counters) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        certificates.register(&registry)?;
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
        let endings = IntCounterVec::new(
            Opts::new("meshgate_controller_streams_ended_total", "Streams of proxies that ended, by reason."),
            &["reason"],
        )?;
        registry.register(Box::new(endings.clone()))?;
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
            refused: gauge("meshgate_controller_proxies_refusing", "Proxies that refused some of the last push.")?,
            objects: gauge("meshgate_controller_objects", "Objects whose generation is observed.")?,
            unavailable: gauge("meshgate_controller_kinds_unavailable", "Kinds that cannot be watched.")?,
            diagnostics,
            endings,
            rendering: Mutex::default(),
            registry: registry.clone(),
        };
        registry.register(Box::new(process))?;
        Ok(metrics)
    }

    pub fn render(&self, view: &View, proxies: &Proxies, leads: bool, generation: u64) -> Vec<u8> {
        let _one = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        for (ending, count) in proxies.endings().all() {
            let counter = self.endings.with_label_values(&[ending.as_str()]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let proxies = proxies.all();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.leader.set(i64::from(leads));
        self.proxies.set(count(proxies.len()));
        let config = |proxy: &ProxyStatus| proxy.kinds.get(&Kind::Config).cloned().unwrap_or_default();
        self.behind.set(count(proxies.iter().filter(|proxy| config(proxy).acknowledged < config(proxy).sent).count()));
        let refusing = |proxy: &&ProxyStatus| proxy.kinds.values().any(|kind| kind.refused.is_some());
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
}

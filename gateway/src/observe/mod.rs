//! What the gateway tells about requests: response flags, metrics, access log. The engine hands over one
//! [`RequestRecord`] per request; nothing in here decides anything about traffic.

mod access_log;
mod flags;
mod log_format;
mod log_peer;
mod log_value;
mod metrics;
mod observer;
mod parties;
mod record;
#[cfg(test)]
mod record_samples;
mod series;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use mesh_core::model::ResourceSet;
use prometheus::core::Collector;
use prometheus::{IntCounter, Registry};

pub use access_log::{AccessLog, LogSettings, LogTarget};
pub use flags::ResponseFlags;
pub use metrics::{ControllerMetrics, OwnMetrics, SourceLabels, WorkloadMetrics};
pub use observer::Observer;
pub use record::{RecordHeaders, RequestRecord};
pub use series::TcpCounts;

/// The access log of the moment; none: it is off.
pub(crate) type AccessLogCell = ArcSwapOption<AccessLog>;

/// The process's end of the observation: what the workers counted, the registry, the access log.
pub struct Observe {
    observers: Vec<Arc<Observer>>,
    requests: Arc<metrics::RequestCollector>,
    registry: Registry,
    pub own: OwnMetrics,
    access_log: Arc<AccessLogCell>,
    access_log_dropped: Arc<AtomicU64>,
    dropped: IntCounter,
}

impl Observe {
    /// With one [`Observer`] per worker.
    pub fn new(workers: usize, source: &SourceLabels) -> prometheus::Result<Arc<Observe>> {
        let access_log = Arc::new(AccessLogCell::empty());
        let observers: Vec<_> = (0..workers).map(|_| Arc::new(Observer::new(access_log.clone()))).collect();
        let registry = Registry::new();
        let requests = Arc::new(metrics::RequestCollector::new(observers.clone(), source)?);
        registry.register(Box::new(Shared(requests.clone())))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let own = OwnMetrics::register(&registry)?;
        let dropped = IntCounter::new("meshgate_access_log_dropped_total", "Lines lost because the writer was stuck.")?;
        registry.register(Box::new(dropped.clone()))?;
        let access_log_dropped = Arc::default();
        Ok(Arc::new(Observe { observers, requests, registry, own, access_log, access_log_dropped, dropped }))
    }

    /// The observer of a worker; none if there is no such worker.
    #[must_use]
    pub fn observer(&self, worker: usize) -> Option<&Arc<Observer>> {
        self.observers.get(worker)
    }

    /// `spiffe://…` of this process, once it has a certificate: what its connections in the mesh show.
    pub fn set_principal(&self, principal: &str) {
        self.requests.set_principal(principal);
    }

    /// For those who count by themselves: they are asked whenever the metrics are read.
    pub fn register(&self, collector: impl Collector + 'static) -> prometheus::Result<()> {
        self.registry.register(Box::new(collector))
    }

    /// The text exposition.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let lost = self.access_log_dropped.load(Ordering::Relaxed);
        self.dropped.inc_by(lost.saturating_sub(self.dropped.get()));
        metrics::text(&self.registry)
    }

    /// Keeps the tables small: those of the workers where nobody reads the metrics, and the sums by forgetting what is not
    /// in the set any more.
    pub fn tidy(&self, set: &ResourceSet) {
        self.requests.collect_workers();
        self.requests.forget_gone(set, Instant::now());
    }

    /// Opens, changes or closes the access log. An access log that cannot be opened leaves the old one in place.
    pub fn set_access_log(&self, settings: Option<LogSettings>) -> Vec<String> {
        let current = self.access_log.load_full();
        if current.as_ref().map(|log| &log.settings) == settings.as_ref() {
            return Vec::new();
        }
        let Some(settings) = settings else {
            self.access_log.store(None);
            return Vec::new();
        };
        let target = settings.target.clone();
        match AccessLog::open(settings, self.access_log_dropped.clone()) {
            Ok((log, problems)) => {
                self.access_log.store(Some(Arc::new(log)));
                problems
            }
            Err(error) => vec![format!("cannot open the access log {target:?}: {error}")],
        }
    }

    pub fn reopen_access_log(&self) {
        if let Some(log) = &*self.access_log.load() {
            log.reopen();
        }
    }

    pub fn flush_access_log(&self, limit: Duration) {
        if let Some(log) = self.access_log.load_full() {
            log.flush(limit);
        }
    }
}

/// A collector that is also used by others.
struct Shared<C>(Arc<C>);

impl<C: Collector> Collector for Shared<C> {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.0.collect()
    }
}

/// Name of this machine, empty if unknown.
#[must_use]
pub fn hostname() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
        name.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
            .map(|name| name.trim().to_owned())
            .unwrap_or_default()
    })
}

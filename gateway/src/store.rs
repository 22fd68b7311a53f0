//! From updates to what is served. Updates are gathered for a moment, compiled away from the workers, and published whole;
//! endpoints alone need no compile. Make before break: endpoints, certificates and sockets are there before the tables
//! that name them.

mod cell;
mod clusters;
mod originations;
mod status;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;

use std::collections::HashSet;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_core::acme::{self, Wants};
use mesh_core::certificate;
use mesh_core::compile::{Compiled, compile};
use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::{DiffItem, Endpoints, Key, Place, ResourceSet};
use mesh_core::snapshot::Snapshot;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant as TokioInstant, timeout_at};

pub use status::{Status, StatusCell};

use crate::http::rate_limit;
use crate::listen::ListenerManager;
use crate::live::{Cells, Live};
use crate::observe::{LogSettings, Observe};
use crate::resident;
use crate::source::{Configuration, Ordered, Update};
use crate::tls::certs::CertificateTable;
use crate::upstream::{KeyStore, Resolver};
use clusters::Clusters;
use originations::Originations;
use status::Changed;

/// When things happen.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// After an update the next one waits for more of them, for as long as that one took, so that a storm takes no more than
    /// half of a processor; but never longer than this. One that comes alone does not wait.
    pub patience: Duration,
    /// How long an update waits that names something that is not there, for it may be on its way.
    pub dangling_wait: Duration,
    /// How long a new destination without endpoints holds a publication up. Zero where endpoints come with the rest.
    pub endpoint_wait: Duration,
    /// How long names are resolved before a publication goes on without them.
    pub resolve_wait: Duration,
    /// Overrides what the configuration says of the access log, even with none.
    pub access_log: Option<Option<LogSettings>>,
    /// Where this proxy is, until a controller says otherwise.
    pub place: Place,
    /// A controller lends shares of limits that all proxies count together.
    pub shares: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(100),
            dangling_wait: Duration::from_millis(250),
            endpoint_wait: Duration::ZERO,
            resolve_wait: Duration::from_secs(1),
            access_log: None,
            place: Place::default(),
            shares: false,
        }
    }
}

/// How often the store looks after things that no update announces: sockets that could not be opened, certificate files,
/// old tables that nobody uses any more.
const TICK: Duration = Duration::from_secs(1);
/// Certificate files are read again, and names resolved again, every so many ticks.
const SLOW_TICKS: u64 = 5;
/// Tables that were made as quickly the last time, and of which no more than so many parts are different, are made where it is.
const SHORT: Duration = Duration::from_millis(5);
const FEW: usize = 64;
/// So long after the last new tables the memory that only their making needed is given back.
const QUIET: Duration = Duration::from_secs(5);
/// And that often what only a burst of requests or changes needed; what the present ones need comes back within a millisecond.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// The only writer of the cells.
pub struct Store {
    cells: Arc<Cells>,
    listeners: Arc<ListenerManager>,
    observe: Arc<Observe>,
    status: Arc<StatusCell>,
    options: StoreOptions,
    clusters: Clusters,
    originations: Originations,
    keys: KeyStore,
    configuration: Configuration,
    set: Arc<ResourceSet>,
    generation: u64,
    /// How long the last tables took to make.
    took: Duration,
    /// By whom it was found, since each is found anew at another time.
    compile_diagnostics: Vec<Diagnostic>,
    certificate_diagnostics: Vec<Diagnostic>,
    origination_diagnostics: Vec<Diagnostic>,
    listen_diagnostics: Vec<Diagnostic>,
    other_diagnostics: Vec<Diagnostic>,
    key_diagnostics: Vec<Diagnostic>,
    ordered: Ordered,
    /// What is to be ordered for the tables that are served.
    wants: watch::Sender<Arc<Wants>>,
    retired: Vec<Arc<Live>>,
    /// Those of the tables that are served, until they replace those of the tables before, too.
    certificates: Option<Arc<CertificateTable>>,
    /// When updates were taken over the last time.
    applied: TokioInstant,
    /// When pages of the program were given back the last time.
    given_back: TokioInstant,
    /// Until then updates are gathered.
    next: TokioInstant,
}

impl Store {
    pub fn new(
        cells: Arc<Cells>,
        listeners: Arc<ListenerManager>,
        observe: Arc<Observe>,
        resolver: Arc<Resolver>,
        options: StoreOptions,
    ) -> Store {
        Store {
            clusters: Clusters::new(resolver, options.resolve_wait, options.place.clone()),
            originations: Originations::default(),
            keys: KeyStore::default(),
            cells,
            listeners,
            observe,
            status: Arc::new(StatusCell::from_pointee(Status::default())),
            options,
            configuration: Configuration::default(),
            set: Arc::default(),
            generation: 0,
            took: Duration::MAX,
            compile_diagnostics: Vec::new(),
            certificate_diagnostics: Vec::new(),
            origination_diagnostics: Vec::new(),
            listen_diagnostics: Vec::new(),
            other_diagnostics: Vec::new(),
            key_diagnostics: Vec::new(),
            ordered: Ordered::default(),
            wants: watch::Sender::default(),
            retired: Vec::new(),
            certificates: None,
            applied: TokioInstant::now(),
            given_back: TokioInstant::now(),
            next: TokioInstant::now(),
        }
    }

    /// What others may know of it.
    #[must_use]
    pub fn status(&self) -> Arc<StatusCell> {
        self.status.clone()
    }

    /// Serves until the sources are gone.
    pub async fn run(mut self, mut updates: UnboundedReceiver<Update>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0_u64;
        loop {
            let returned = self.clusters.somebody_may_return();
            tokio::select! {
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    let batch = self.gather(update, &mut updates).await;
                    self.apply(batch).await;
                }
                Some(resolved) = self.clusters.resolved.recv() => self.clusters.refreshed(&self.set, resolved),
                Some(report) = self.clusters.reports.recv() => self.clusters.decide(&report),
                () = returned => self.clusters.look(),
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    self.tick(count.is_multiple_of(SLOW_TICKS)).await;
                }
            }
        }
    }

    /// What is to be ordered for the tables that are served.
    pub fn wants(&self) -> watch::Receiver<Arc<Wants>> {
        self.wants.subscribe()
    }

    /// Waits for what comes with it.
    async fn gather(&self, first: Update, updates: &mut UnboundedReceiver<Update>) -> Batch {
        let begun = TokioInstant::now();
        let mut batch = Batch::default();
        batch.add(first);
        while let Ok(update) = updates.try_recv() {
            batch.add(update);
        }
        while let Ok(Some(update)) = timeout_at(self.next, updates.recv()).await {
            batch.add(update);
        }
        loop {
            let wait = if batch.is_dangling(&self.configuration.diagnostics) {
                self.options.dangling_wait
            } else if batch.waits_for_endpoints(&self.set) {
                self.options.endpoint_wait
            } else {
                return batch;
            };
            match timeout_at(begun + wait, updates.recv()).await {
                Ok(Some(update)) => batch.add(update),
                _ => return batch,
            }
        }
    }

    /// Takes the updates over, and publishes if anything but endpoints changed.
    pub async fn apply(&mut self, mut batch: Batch) {
        let begun = TokioInstant::now();
        let barriers = std::mem::take(&mut batch.barriers);
        self.take_over(batch).await;
        self.next = TokioInstant::now() + begun.elapsed().min(self.options.patience);
        for barrier in barriers {
            // Who does not wait any more need not know.
            let _ = barrier.send(());
        }
    }

    async fn take_over(&mut self, batch: Batch) {
        let begun = Instant::now();
        if let Some(ordered) = batch.ordered {
            self.take_ordered(begun, ordered).await;
            if batch.configuration.is_none() && batch.endpoints.is_empty() && batch.place.is_none() {
                return;
            }
        }
        let moved = batch.place.is_some();
        if let Some(place) = batch.place.map(|told| self.clusters.place().updated(told))
            && place != *self.clusters.place()
        {
            tracing::info!(locality = %place.locality, node = %place.node, "this proxy is here");
            self.clusters.move_to(place);
        }
        let mut set = match batch.configuration {
            Some(configuration) => {
                self.configuration = *configuration;
                self.cells.topology.store(Arc::new(self.configuration.topology));
                self.cells.workload.set_trust_domains(&self.configuration.trust_domains);
                std::mem::take(&mut self.configuration.set)
            }
            // It told where the proxy is, and nothing else.
            None if moved && batch.endpoints.is_empty() => return,
            None if self.generation > 0 => return self.take_endpoints(begun, batch.endpoints).await,
            None => (*self.set).clone(),
        };
        for endpoints in batch.endpoints {
            set.endpoints.insert(endpoints.key.clone(), endpoints);
        }
        let set = Arc::new(set);
        let changes = Changed::between(&self.set, &set);
        if changes.challenges.any() {
            self.cells.challenges.replace(&set.challenges);
        }
        self.other_diagnostics = self.set_access_log();
        let tables_stay = changes.only_endpoints() && self.generation > 0;
        self.clusters.fill_endpoints(&self.set, &set, !tables_stay).await;
        if tables_stay {
            self.set = set;
            self.note(begun, None, &changes);
            return;
        }
        self.publish(set, begun, &changes).await;
        self.applied = TokioInstant::now();
    }

    /// New certificates change no table.
    async fn take_ordered(&mut self, begun: Instant, ordered: Ordered) {
        self.ordered = ordered;
        // The first tables bring them along.
        if self.generation > 0 {
            let set = self.set.clone();
            self.build_certificates(&set, false).await;
            self.applied = TokioInstant::now();
            self.note(begun, None, &Changed::default());
        }
    }

    /// Endpoints alone: nothing else is looked at.
    async fn take_endpoints(&mut self, begun: Instant, endpoints: Vec<Arc<Endpoints>>) {
        // Of two changes of a destination the later one counts.
        let before = self.set.clone();
        let set = Arc::make_mut(&mut self.set);
        set.endpoints.extend(endpoints.into_iter().map(|endpoints| (endpoints.key.clone(), endpoints)));
        let changed = Changed::between(&before, set);
        if !changed.endpoints.any() {
            return;
        }
        self.clusters.fill_endpoints(&before, &self.set, false).await;
        tracing::info!(generation = self.generation, ms = millis(begun.elapsed()), %changed, "endpoints changed");
        let status =
            Status { published: SystemTime::now(), set: self.set.clone(), ..Status::clone(&self.status.load()) };
        self.status.store(Arc::new(status));
    }

    async fn publish(&mut self, set: Arc<ResourceSet>, begun: Instant, changes: &Changed) {
        let previous = self.cells.live.load().snapshot.clone();
        let Some((Compiled { snapshot, diagnostics }, took)) = self.compiled(&set, previous, changes).await else {
            self.clusters.take_back();
            return;
        };
        self.took = took;
        self.generation = self.generation.saturating_add(1);
        self.compile_diagnostics = diagnostics;
        if changes.listeners.any() || changes.secrets.any() {
            self.build_certificates(&set, changes.listeners.any()).await;
        }
        if changes.destinations.any() || changes.secrets.any() {
            self.origination_diagnostics = self.originations.update(&set, SystemTime::now()).await;
        }
        let clusters = self.clusters.of(&snapshot.clusters, &self.originations);
        let tokens = tokens::rules(&set, &mut self.keys);
        self.key_diagnostics = tokens::diagnostics(&set, &self.keys);
        let limits = {
            let before = self.cells.live.load();
            let stays = Arc::ptr_eq(&before.snapshot.rate_limiter, &snapshot.rate_limiter);
            let shared_from = self.options.shares.then(rate_limit::now);
            let made = || snapshot.rate_limiter.counts(&before.limits, RandomState::new, shared_from);
            if stays { before.limits.clone() } else { made() }
        };
        let live = Arc::new(Live { snapshot: Arc::new(snapshot), clusters, tokens, limits });
        self.open_listeners(&live);
        let old = self.cells.live.swap(live.clone());
        self.cells.demand.published();
        let wanted = live.limits.iter().any(|count| count.share().is_some());
        self.cells.shares_wanted.send_if_modified(|known| std::mem::replace(known, wanted) != wanted);
        self.listeners.close_removed(&live);
        self.retired.push(old);
        self.drop_retired();
        self.set = set;
        if changes.listeners.any() {
            let wants = acme::wants(&self.set);
            self.wants.send_if_modified(|known| {
                let is_new = **known != wants;
                if is_new {
                    *known = Arc::new(wants);
                }
                is_new
            });
        }
        self.observe.own.compile_seconds.observe(took.as_secs_f64());
        self.observe.own.publishes.inc();
        self.note(begun, Some(took), changes);
    }

    /// Off this thread, unless it is quickly done: to wait for another thread takes longer then. None: the other thread failed.
    async fn compiled(
        &self,
        set: &Arc<ResourceSet>,
        previous: Arc<Snapshot>,
        changes: &Changed,
    ) -> Option<(Compiled, Duration)> {
        let generation = self.generation.saturating_add(1);
        let set = Arc::clone(set);
        let work = move || {
            let begun = Instant::now();
            (compile(&set, Some(&previous), generation), begun.elapsed())
        };
        if self.took < SHORT && changes.count() <= FEW {
            return Some(work());
        }
        let compiled = tokio::task::spawn_blocking(work).await;
        compiled
            .inspect_err(|error| {
                tracing::error!(%error, "the configuration could not be compiled; the last one stays in force");
            })
            .ok()
    }

    /// `linger`: other listeners name other certificates.
    async fn build_certificates(&mut self, set: &ResourceSet, linger: bool) {
        let previous = self.certificates.take().unwrap_or_else(|| self.cells.certificates.load_full());
        let (table, diagnostics) =
            CertificateTable::build(set, &self.ordered.certificates, &previous, SystemTime::now()).await;
        self.certificate_diagnostics = diagnostics;
        if linger {
            // A handshake that looked at the old tables may ask for what is in the old table only.
            self.cells.certificates.store(Arc::new(table.joined_with(&previous)));
            self.certificates = Some(Arc::new(table));
        } else {
            self.cells.certificates.store(Arc::new(table));
        }
    }

    fn open_listeners(&mut self, live: &Live) {
        let errors = self.listeners.open(live);
        self.listen_diagnostics = errors.iter().map(crate::listen::ListenError::diagnostic).collect();
    }

    fn set_access_log(&self) -> Vec<Diagnostic> {
        let wanted = self.options.access_log.clone().unwrap_or_else(|| self.configuration.access_log.clone());
        let problems = self.observe.set_access_log(wanted);
        problems.into_iter().map(|problem| Diagnostic::new(diag::ACCESS_LOG, problem)).collect()
    }

    /// Makes what happened known: to the log, the admin pages and the metrics.
    fn note(&self, begun: Instant, compiled: Option<Duration>, changes: &Changed) {
        let diagnostics = self.diagnostics();
        self.observe.own.generation.set(i64::try_from(self.generation).unwrap_or(i64::MAX));
        self.observe.own.set_diagnostics(&diagnostics);
        self.observe.own.listeners.set(i64::try_from(self.listeners.status().len()).unwrap_or(i64::MAX));
        let before = self.status.load();
        let known: HashSet<&Diagnostic> = before.diagnostics.iter().collect();
        for diagnostic in diagnostics.iter().filter(|diagnostic| !known.contains(diagnostic)) {
            log_diagnostic(diagnostic);
        }
        match compiled {
            Some(took) => tracing::info!(
                generation = self.generation,
                ms = millis(begun.elapsed()),
                compile_ms = millis(took),
                changed = %changes,
                "published"
            ),
            None if changes.endpoints.any() => {
                tracing::info!(generation = self.generation, ms = millis(begun.elapsed()), changed = %changes, "endpoints changed");
            }
            None => tracing::debug!(generation = self.generation, "nothing changed"),
        }
        self.status.store(Arc::new(Status {
            generation: self.generation,
            published: SystemTime::now(),
            set: self.set.clone(),
            objects: self.configuration.objects.clone(),
            diagnostics,
        }));
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        let parts = [
            &self.configuration.diagnostics,
            &self.compile_diagnostics,
            &self.certificate_diagnostics,
            &self.origination_diagnostics,
            &self.listen_diagnostics,
            &self.other_diagnostics,
            &self.key_diagnostics,
            &self.ordered.diagnostics,
        ];
        let mut all: Vec<Diagnostic> = parts.into_iter().flatten().cloned().collect();
        self.configuration.locate(&mut all);
        diag::arrange(&mut all);
        all
    }

    async fn tick(&mut self, slow: bool) {
        if let Some(certificates) = self.certificates.take_if(|_| self.applied.elapsed() >= TICK) {
            self.cells.certificates.store(certificates);
        }
        self.drop_retired();
        let is_quiet = self.given_back < self.applied && self.applied.elapsed() >= QUIET;
        if is_quiet || self.given_back.elapsed() >= GIVE_BACK {
            self.given_back = TokioInstant::now();
            resident::give_back_code();
        }
        self.clusters.refresh_names(&self.set, slow);
        let mut different = false;
        if !self.listen_diagnostics.is_empty() {
            let before = self.listen_diagnostics.clone();
            let live = self.cells.live.load_full();
            self.open_listeners(&live);
            self.listeners.close_removed(&live);
            different |= before != self.listen_diagnostics;
        }
        let troubles = tokens::diagnostics(&self.set, &self.keys);
        different |= troubles != self.key_diagnostics;
        self.key_diagnostics = troubles;
        if slow {
            self.keys.tidy();
            self.observe.tidy(&self.set);
            if self.originations.names_files() {
                let found = self.originations.update(&self.set, SystemTime::now()).await;
                different |= found != self.origination_diagnostics;
                self.origination_diagnostics = found;
            }
            if names_files(&self.set) {
                let before = self.certificate_diagnostics.clone();
                let set = self.set.clone();
                self.build_certificates(&set, false).await;
                different |= before != self.certificate_diagnostics;
            }
        }
        if different {
            self.note(Instant::now(), None, &Changed::default());
        }
    }

    /// Tables are large: dropping them is not for workers, so they are kept until nobody else has them.
    fn drop_retired(&mut self) {
        let unused: Vec<Arc<Live>> = self.retired.extract_if(.., |live| Arc::strong_count(live) == 1).collect();
        if !unused.is_empty() {
            tokio::task::spawn_blocking(move || drop(unused));
        }
    }
}

/// Findings that may be over when the next file, or the next event, is read.
const DANGLING: [diag::Code; 6] = [
    diag::GATEWAY_UNKNOWN,
    diag::DESTINATION_HOST_UNKNOWN,
    diag::DESTINATION_SUBSET_UNKNOWN,
    diag::DESTINATION_PORT_UNKNOWN,
    diag::SECRET_MISSING,
    diag::DELEGATE_UNKNOWN,
];

/// Updates that are taken over together.
#[derive(Debug, Default)]
pub struct Batch {
    configuration: Option<Box<Configuration>>,
    endpoints: Vec<Arc<Endpoints>>,
    place: Option<Place>,
    ordered: Option<Ordered>,
    /// Told when it is in force.
    barriers: Vec<oneshot::Sender<()>>,
}

impl Batch {
    pub fn add(&mut self, update: Update) {
        match update {
            Update::Configuration(configuration) => {
                self.configuration = Some(configuration);
                self.endpoints.clear();
            }
            Update::Endpoints(endpoints) => self.endpoints.extend(endpoints),
            Update::Place(place) => self.place = Some(place),
            Update::Ordered(ordered) => self.ordered = Some(ordered),
            Update::Barrier(barrier) => self.barriers.push(barrier),
        }
    }

    /// Whether it names something that is not there, and did not do so before.
    fn is_dangling(&self, before: &[Diagnostic]) -> bool {
        let same = |a: &Diagnostic, b: &Diagnostic| a.code == b.code && a.object == b.object && a.message == b.message;
        let is_new = |found: &&Diagnostic| !before.iter().any(|known| same(found, known));
        let dangling = |found: &&Diagnostic| DANGLING.iter().any(|code| code.id == found.code);
        let found = self.configuration.iter().flat_map(|configuration| &configuration.diagnostics);
        found.filter(dangling).any(|found| is_new(&found))
    }

    /// Whether it has a destination that is new and of whose endpoints nothing is known.
    fn waits_for_endpoints(&self, before: &ResourceSet) -> bool {
        let Some(configuration) = &self.configuration else { return false };
        let known = |key: &Key| {
            configuration.set.endpoints.contains_key(key)
                || self.endpoints.iter().any(|endpoints| endpoints.key == *key)
        };
        let mut differences = before.destinations.diff(&configuration.set.destinations);
        differences.any(|difference| matches!(difference, DiffItem::Add(key, _) if !known(key)))
    }
}

impl From<Configuration> for Batch {
    fn from(configuration: Configuration) -> Self {
        Batch { configuration: Some(Box::new(configuration)), ..Batch::default() }
    }
}

/// With two digits, for the log.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}

fn names_files(set: &ResourceSet) -> bool {
    certificate::servers(set).any(|server| server.tls.names_files())
}

fn log_diagnostic(diagnostic: &Diagnostic) {
    use diag::Severity;
    match diagnostic.severity {
        Severity::Error => tracing::error!("{diagnostic}"),
        Severity::Warning => tracing::warn!("{diagnostic}"),
        Severity::Info => tracing::info!("{diagnostic}"),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

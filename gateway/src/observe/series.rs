//! Counters of requests, per worker and summed up. A worker finds its counters by numbers that it has at hand; names and
//! labels are looked at only when somebody reads the metrics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::model::ResourceSet;

use super::parties::{Parties, PartiesKey, PartyLabels, WorkloadLabels};
use super::{RequestRecord, ResponseFlags};

/// Upper bounds of all histograms: Envoy's defaults, in milliseconds or bytes.
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Not cumulative; what is above the last bound counts only in `count`.
    pub buckets: [u64; BUCKETS.len()],
    pub count: u64,
    pub sum: f64,
}

impl Histogram {
    pub fn observe(&mut self, value: f64) {
        let bucket = self.buckets.iter_mut().zip(BUCKETS).find(|(_, bound)| value <= *bound);
        if let Some((bucket, _)) = bucket {
            *bucket = bucket.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.sum += value;
    }

    fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.saturating_add(theirs);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
    }
}

/// What is counted for one combination of labels.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub requests: u64,
    pub duration_ms: Histogram,
    pub request_bytes: Histogram,
    pub response_bytes: Histogram,
    pub request_messages: u64,
    pub response_messages: u64,
}

impl Counts {
    #[allow(clippy::cast_precision_loss)]
    fn count(&mut self, record: &RequestRecord<'_>) {
        self.requests = self.requests.saturating_add(1);
        self.duration_ms.observe(record.duration.as_secs_f64() * 1e3);
        self.request_bytes.observe(record.bytes_received as f64);
        self.response_bytes.observe(record.bytes_sent as f64);
        self.request_messages = self.request_messages.saturating_add(record.request_messages);
        self.response_messages = self.response_messages.saturating_add(record.response_messages);
    }

    fn add(&mut self, other: &Counts) {
        self.requests = self.requests.saturating_add(other.requests);
        self.duration_ms.add(&other.duration_ms);
        self.request_bytes.add(&other.request_bytes);
        self.response_bytes.add(&other.response_bytes);
        self.request_messages = self.request_messages.saturating_add(other.request_messages);
        self.response_messages = self.response_messages.saturating_add(other.response_messages);
    }
}

/// How a worker finds its counters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct WorkerKey {
    parties: PartiesKey,
    status: u16,
    grpc: bool,
    grpc_status: Option<u16>,
}

struct WorkerSeries<C> {
    parties: Parties,
    counts: C,
}

/// Of connections that are not HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpCounts {
    pub opened: u64,
    pub closed: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
}

impl TcpCounts {
    fn add(&mut self, other: TcpCounts) {
        self.opened = self.opened.saturating_add(other.opened);
        self.closed = self.closed.saturating_add(other.closed);
        self.received = self.received.saturating_add(other.received);
        self.sent = self.sent.saturating_add(other.sent);
    }
}

/// What one worker counted since the last reading.
#[derive(Default)]
pub struct WorkerCounts {
    series: HashMap<WorkerKey, WorkerSeries<Counts>, foldhash::fast::RandomState>,
    tcp: HashMap<PartiesKey, WorkerSeries<TcpCounts>, foldhash::fast::RandomState>,
    /// Requests that never became one, by details.
    bad: HashMap<Box<str>, u64>,
    pub(super) mirrored: Mirrored,
    retried: Retried,
    prefixed: Prefixed,
}

/// Requests that were sent more than once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retried {
    /// Tries beyond the first.
    pub tries: u64,
    /// Requests that failed although they were tried as often as was allowed.
    pub used_up: u64,
}

impl Retried {
    fn count(&mut self, record: &RequestRecord<'_>) {
        self.tries = self.tries.saturating_add(u64::from(record.attempts.saturating_sub(1)));
        self.used_up = self.used_up.saturating_add(u64::from(record.flags.contains(ResponseFlags::URX)));
    }

    fn add(&mut self, other: Retried) {
        self.tries = self.tries.saturating_add(other.tries);
        self.used_up = self.used_up.saturating_add(other.used_up);
    }
}

/// Requests by what their rule counts them by (`statPrefix`), and the first digit of their status. 0: no answer was begun.
#[derive(Debug, Default)]
pub struct Prefixed(HashMap<(Arc<str>, u16), u64, foldhash::fast::RandomState>);

impl Prefixed {
    fn count(&mut self, record: &RequestRecord<'_>) {
        if let Some(prefix) = record.stat_prefix {
            self.add_to(prefix, record.status / 100, 1);
        }
    }

    fn add_to(&mut self, prefix: &Arc<str>, class: u16, count: u64) {
        let mut key = (Arc::clone(prefix), class);
        if self.0.len() >= MOST_PREFIXED && !self.0.contains_key(&key) {
            key.0 = Arc::from("other");
        }
        let total = self.0.entry(key).or_default();
        *total = total.saturating_add(count);
    }

    fn add(&mut self, other: Prefixed) {
        other.0.into_iter().for_each(|((prefix, class), count)| self.add_to(&prefix, class, count));
    }

    /// Prefix, class and count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16, u64)> {
        self.0.iter().map(|((prefix, class), count)| (&**prefix, *class, *count))
    }
}

/// Copies of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mirrored {
    pub answered: u64,
    /// No endpoint, no connection, no answer in time, or too many or too much at once.
    pub failed: u64,
}

impl Mirrored {
    pub(super) fn count(&mut self, answered: bool) {
        let count = if answered { &mut self.answered } else { &mut self.failed };
        *count = count.saturating_add(1);
    }

    fn add(&mut self, other: Mirrored) {
        self.answered = self.answered.saturating_add(other.answered);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

/// More than there are kinds of bad requests; what is beyond counts as `other`.
const BAD_KINDS: usize = 64;

/// Prefixes come from rules, which come and go; with their classes of answers. What is beyond counts as `other`.
const MOST_PREFIXED: usize = 4096;

/// Clients, and servers that nobody else knows, say themselves which workload they are: beyond so many series of a worker, or of
/// all, nobody listens to that any more.
const MOST_OF_WORKER: usize = 4096;
const MOST: usize = 16_384;

impl WorkerCounts {
    pub fn count(&mut self, record: &RequestRecord<'_>) {
        let mut key = WorkerKey {
            parties: PartiesKey::of(record),
            status: record.status,
            grpc: record.grpc,
            grpc_status: record.grpc_status,
        };
        let mut parties = None;
        if self.series.len() >= MOST_OF_WORKER && !self.series.contains_key(&key) {
            parties = Some(Parties::of(record).without_said(&key.parties));
            key.parties = key.parties.without_said();
        }
        let parties = || parties.unwrap_or_else(|| Parties::of(record));
        let series =
            self.series.entry(key).or_insert_with(|| WorkerSeries { parties: parties(), counts: Counts::default() });
        series.counts.count(record);
        self.retried.count(record);
        self.prefixed.count(record);
        if record.flags.contains(ResponseFlags::DPE) {
            self.count_bad(record.details);
        }
    }

    /// Of a connection, between those that the record names.
    pub fn count_tcp(&mut self, record: &RequestRecord<'_>, counts: TcpCounts) {
        let mut key = PartiesKey::of(record);
        let mut parties = None;
        if self.tcp.len() >= MOST_OF_WORKER && !self.tcp.contains_key(&key) {
            parties = Some(Parties::of(record).without_said(&key));
            key = key.without_said();
        }
        let parties = || parties.unwrap_or_else(|| Parties::of(record));
        let new = || WorkerSeries { parties: parties(), counts: TcpCounts::default() };
        self.tcp.entry(key).or_insert_with(new).counts.add(counts);
    }

    fn count_bad(&mut self, details: &str) {
        let details = if self.bad.len() < BAD_KINDS || self.bad.contains_key(details) { details } else { "other" };
        match self.bad.get_mut(details) {
            Some(count) => *count = count.saturating_add(1),
            None => drop(self.bad.insert(details.into(), 1)),
        }
    }
}

/// Labels of one series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesLabels {
    pub parties: PartyLabels,
    pub status: u16,
    pub grpc: bool,
    pub grpc_status: Option<u16>,
}

/// Series of services and workloads that do not exist any more are kept this long after their last request, so that every
/// reader has seen their last state.
pub(super) const KEEP_GONE: Duration = Duration::from_secs(600);

/// What one combination of labels came to.
pub struct Series<C> {
    pub counts: C,
    /// Last counted, or last found to exist.
    used: Instant,
}

impl<C: Default> Series<C> {
    fn new(now: Instant) -> Self {
        Self { counts: C::default(), used: now }
    }
}

/// Sums over all workers since the start of the process.
#[derive(Default)]
pub struct Totals {
    pub series: HashMap<SeriesLabels, Series<Counts>>,
    pub tcp: HashMap<PartyLabels, Series<TcpCounts>>,
    pub bad: HashMap<Box<str>, u64>,
    pub mirrored: Mirrored,
    pub retried: Retried,
    pub prefixed: Prefixed,
}

impl Totals {
    pub fn add(&mut self, worker: WorkerCounts, now: Instant) {
        for (key, series) in worker.series {
            let mut labels = SeriesLabels {
                parties: series.parties.labels(&key.parties),
                status: key.status,
                grpc: key.grpc,
                grpc_status: key.grpc_status,
            };
            if self.series.len() >= MOST && !self.series.contains_key(&labels) {
                labels.parties = labels.parties.without_said(&key.parties);
            }
            let total = self.series.entry(labels).or_insert_with(|| Series::new(now));
            total.counts.add(&series.counts);
            total.used = now;
        }
        for (key, series) in worker.tcp {
            let mut labels = series.parties.labels(&key);
            if self.tcp.len() >= MOST && !self.tcp.contains_key(&labels) {
                labels = labels.without_said(&key);
            }
            let total = self.tcp.entry(labels).or_insert_with(|| Series::new(now));
            total.counts.add(series.counts);
            total.used = now;
        }
        self.mirrored.add(worker.mirrored);
        self.retried.add(worker.retried);
        self.prefixed.add(worker.prefixed);
        for (details, count) in worker.bad {
            let total = self.bad.entry(details).or_default();
            *total = total.saturating_add(count);
        }
    }

    /// Forgets the series of what is not in the set any more; without it a cluster whose services come and go would make
    /// the metrics grow for ever. The set is only looked through when a series was quiet for long.
    pub fn forget_gone(&mut self, set: &ResourceSet, now: Instant) {
        let (requests, connections) = (self.series.values().map(|s| s.used), self.tcp.values().map(|s| s.used));
        if !requests.chain(connections).any(|used| is_quiet(used, now)) {
            return;
        }
        let existing = Existing::of(set);
        self.series.retain(|labels, series| existing.keeps(&labels.parties, &mut series.used, now));
        self.tcp.retain(|labels, series| existing.keeps(labels, &mut series.used, now));
    }
}

fn is_quiet(used: Instant, now: Instant) -> bool {
    now.saturating_duration_since(used) >= KEEP_GONE
}

/// Services of a set, and their workloads.
struct Existing(HashMap<Arc<str>, HashSet<WorkloadLabels>>);

impl Existing {
    fn of(set: &ResourceSet) -> Self {
        let mut services = HashMap::<Arc<str>, HashSet<WorkloadLabels>>::new();
        for (key, destination) in &set.destinations {
            let workloads = services.entry(destination.host.clone()).or_default();
            let endpoints = set.endpoints.get(key).map(|endpoints| endpoints.endpoints.as_slice()).unwrap_or_default();
            workloads.extend(endpoints.iter().filter_map(|endpoint| endpoint.workload.as_deref()).map(Into::into));
        }
        Self(services)
    }

    /// Whether a series stays that was last used then.
    fn keeps(&self, labels: &PartyLabels, used: &mut Instant, now: Instant) -> bool {
        if !is_quiet(*used, now) {
            return true;
        }
        *used = now;
        self.has(labels)
    }

    /// Also what belongs to no service: requests that were not forwarded. The set does not say who the clients are of what
    /// arrives at the workload: those that are quiet are forgotten.
    fn has(&self, labels: &PartyLabels) -> bool {
        if labels.inbound {
            return labels.workload.is_none() && labels.principal.is_none();
        }
        let workloads = self.0.get(&labels.service);
        labels.service.is_empty()
            || workloads.is_some_and(|all| labels.workload.as_ref().is_none_or(|workload| all.contains(workload)))
    }
}

//! Writes statuses while this replica leads: what is different, no faster than the API server should have to bear it, and
//! never against another writer for long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher::{self, Event, watcher};
use mesh_core::object::ObjectRef;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::tally::rest;
use super::write::{Outcome, Write, tell};
use super::{Desired, Known, Ours, Peers, Tally, Writes, desired, merge};
use crate::kube::{KINDS as WATCHED, Leadership, Watched, reference};

/// Kinds whose status is written.
pub const KINDS: &[&str] = &[
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "Sidecar",
    "AuthorizationPolicy",
    "RequestAuthentication",
    "PeerAuthentication",
    "RateLimit",
];

const TICK: Duration = Duration::from_millis(100);
/// Between a change and its write: mostly the proxies have answered by then, and one write says all.
const SETTLE: Duration = Duration::from_millis(300);
/// What gets worse without anybody having changed the object, or is only another number of proxies, is written after this:
/// proxies that restart or find another replica are no news.
const HOLD: Duration = Duration::from_secs(10);
/// How often other replicas are asked.
const ASK: Duration = Duration::from_secs(1);
/// Between two writes: 100 a second, as Istio has it, and evenly, for each takes the API server as long as a change that a user
/// makes: a bundle of them would hold that up.
const PACE: Duration = Duration::from_millis(10);
/// The same while objects are changed: what they do is more urgent than what is said of them.
const PACE_MEANWHILE: Duration = Duration::from_millis(50);
/// So long after the last change there is nobody to hold up.
const QUIET: Duration = Duration::from_millis(500);
/// More than are written until the line is looked at again.
const LINE: usize = 32;
/// Writes under way, where the API server takes longer for one than that.
const AT_A_TIME: usize = 4;
/// Pause after a write that another writer undid: doubled each time, up to the second value.
const CONTEST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Pause after a write that failed.
const AGAIN: Duration = Duration::from_secs(2);

/// What it needs.
pub struct Writer {
    pub client: Client,
    pub leadership: Leadership,
    /// Of this replica.
    pub tally: watch::Receiver<Arc<Tally>>,
    pub namespace: String,
    pub service: String,
    pub replica: String,
    pub writes: Writes,
}

impl Writer {
    /// Until the process ends.
    pub async fn run(mut self) {
        loop {
            let Some(_term) = self.leadership.lead().await else { return };
            self.lead().await;
        }
    }

    /// Until this replica leads no more, and nothing is under way.
    async fn lead(&self) {
        let mut leadership = self.leadership.clone();
        let (seen, mut sightings) = mpsc::channel(256);
        // They end when the receiver is gone.
        let mut watches = JoinSet::new();
        for kind in WATCHED.iter().filter(|kind| KINDS.contains(&kind.kind)) {
            watches.spawn(look(self.client.clone(), *kind, seen.clone()));
        }
        let (send, mut others) = watch::channel(None);
        let mut peers = Peers::new(self.client.clone(), &self.namespace, &self.service, &self.replica);
        watches.spawn(async move {
            loop {
                let tallies = peers.ask().await;
                send.send_if_modified(|last| {
                    let changed = last.as_ref() != Some(&tallies);
                    *last = Some(tallies);
                    changed
                });
                tokio::time::sleep(ASK).await;
            }
        });
        let reporter = Reporter { controller: "meshgate-controller".to_owned(), instance: Some(self.replica.clone()) };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let mut desk = Desk::default();
        let mut writes = JoinSet::new();
        let mut tally = self.tally.clone();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_write = Instant::now();
        let mut changed = true;
        // A comparison of many objects is work, too.
        let mut rested = Instant::now();
        loop {
            tokio::select! {
                () = leadership.lost() => break,
                Some(sighting) = sightings.recv() => {
                    desk.see(sighting, Instant::now());
                    changed = true;
                }
                Ok(()) = tally.changed() => changed = true,
                Ok(()) = others.changed() => changed = true,
                Some(done) = writes.join_next() => {
                    if let Ok((write, outcome)) = done {
                        self.writes.count(&outcome);
                        desk.done(&write, outcome, Instant::now());
                        changed = true;
                    }
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    // Without the others' word nothing is known to be programmed.
                    let Some(others) = others.borrow().clone() else { continue };
                    if changed && now >= rested {
                        changed = false;
                        let own = tally.borrow().clone();
                        desk.compare(std::iter::once(&*own).chain(others.iter().map(|tally| &**tally)), now);
                        rested = Instant::now() + rest(now.elapsed());
                    }
                    desk.line_up(now);
                }
                () = tokio::time::sleep_until(next_write), if desk.has_line() && writes.len() < AT_A_TIME => {
                    let now = Instant::now();
                    let Some(errand) = desk.next(now) else { continue };
                    next_write = now + desk.pace(now);
                    writes.spawn(errand.run(self.client.clone(), recorder.clone()));
                }
            }
        }
        // Whoever leads next must not be overtaken by these.
        while writes.join_next().await.is_some() {}
    }
}

/// Something that a watch saw.
pub(super) enum Sighting {
    There {
        kind: Watched,
        object: ObjectRef,
        seen: Box<Seen>,
    },
    Gone(ObjectRef),
    /// All of a kind that is there was seen since its list began: the rest is gone.
    Listed {
        kind: Watched,
        versions: Vec<ObjectRef>,
    },
}

pub(super) struct Seen {
    pub uid: String,
    pub resource_version: String,
    pub generation: i64,
    pub known: Known,
}

async fn look(client: Client, kind: Watched, send: mpsc::Sender<Sighting>) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    let events = watcher(api, watcher::Config::default());
    futures::pin_mut!(events);
    let mut listing = Vec::new();
    while let Some(event) = events.next().await {
        let sighting = match event {
            Ok(Event::Init) => {
                listing.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                let there = there(kind, object);
                if let Sighting::There { object, .. } = &there {
                    listing.push(object.clone());
                }
                there
            }
            Ok(Event::InitDone) => Sighting::Listed { kind, versions: std::mem::take(&mut listing) },
            Ok(Event::Apply(object)) => there(kind, object),
            Ok(Event::Delete(object)) => Sighting::Gone(reference(&kind, &object)),
            Err(error) => {
                tracing::debug!(kind = kind.plural, %error, "watch of statuses");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if send.send(sighting).await.is_err() {
            return;
        }
    }
}

fn there(kind: Watched, object: DynamicObject) -> Sighting {
    let name = reference(&kind, &object);
    let seen = Seen {
        uid: object.metadata.uid.unwrap_or_default(),
        resource_version: object.metadata.resource_version.unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        known: Known::read(object.data.get("status").unwrap_or(&Value::Null)),
    };
    Sighting::There { kind, object: name, seen: Box::new(seen) }
}

/// All objects, and what is to be written. Does nothing itself, so that it can be tested.
#[derive(Default)]
pub(super) struct Desk {
    objects: HashMap<ObjectRef, Record>,
    /// Kinds whose lists merge by key.
    keyed: HashMap<&'static str, bool>,
    /// Whose writes are due, the newest first.
    line: Vec<ObjectRef>,
    /// When an object came or was changed the last time.
    changed: Option<Instant>,
}

struct Record {
    kind: Watched,
    seen: Box<Seen>,
    /// What is to be said, and since when that is so.
    wanted: Option<(Desired, Instant)>,
    /// What was written last, and what the API server made of it.
    written: Option<(Desired, Ours)>,
    under_way: bool,
    not_before: Option<Instant>,
    /// How often others undid what was written.
    contested: u32,
    contested_at: Option<Instant>,
}

/// A write, and what to tell in an event of the object that has this uid.
pub(super) struct Errand {
    pub write: Write,
    pub trouble: Option<(String, String)>,
    pub uid: String,
}

impl Errand {
    async fn run(self, client: Client, recorder: Recorder) -> (Write, Outcome) {
        let Errand { write, trouble, uid } = self;
        let outcome = write.run(&client).await;
        if let (Outcome::Written { .. }, Some(trouble)) = (&outcome, trouble) {
            tell(&recorder, &write, &uid, trouble).await;
        }
        (write, outcome)
    }
}

impl Desk {
    pub fn see(&mut self, sighting: Sighting, now: Instant) {
        match sighting {
            Sighting::There { kind, object, seen } => match self.objects.get_mut(&object) {
                Some(record) if record.seen.uid == seen.uid => {
                    if record.seen.generation != seen.generation {
                        self.changed = Some(now);
                    }
                    record.see(seen, &object, now);
                }
                _ => {
                    self.changed = Some(now);
                    self.objects.insert(object, Record::new(kind, seen));
                }
            },
            Sighting::Gone(object) => drop(self.objects.remove(&object)),
            Sighting::Listed { kind, versions } => {
                let there: std::collections::HashSet<ObjectRef> = versions.into_iter().collect();
                self.objects.retain(|object, _| *object.kind != *kind.kind || there.contains(object));
            }
        }
    }

    /// What every status should say, and whether it does.
    pub fn compare<'t>(&mut self, tallies: impl Iterator<Item = &'t Tally>, now: Instant) {
        let merged = merge(tallies);
        for (object, record) in &mut self.objects {
            let Some(merged) = merged.get(object) else {
                // Not looked at any more, or not seen yet.
                record.wanted = None;
                continue;
            };
            if merged.generation != record.seen.generation {
                // One of the two watches is behind.
                continue;
            }
            let desired = desired(merged);
            if record.says(&desired) {
                record.wanted = None;
            } else {
                let since = record.wanted.as_ref().map_or(now, |(_, since)| *since);
                record.wanted = Some((desired, since));
            }
        }
    }

    /// Those whose writes are due: what is news first, of that the oldest.
    pub fn line_up(&mut self, now: Instant) {
        let due = self.objects.iter().filter_map(|(object, record)| Some((record.patience()?, object)));
        let mut due: Vec<_> = due.filter(|((_, at), _)| *at <= now).collect();
        if due.len() > LINE {
            due.select_nth_unstable(LINE);
            due.truncate(LINE);
        }
        due.sort_unstable_by(|a, b| b.cmp(a));
        self.line = due.into_iter().map(|(_, object)| object.clone()).collect();
    }

    pub fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// Between a write now and the next one.
    pub fn pace(&self, now: Instant) -> Duration {
        let is_quiet = self.changed.is_none_or(|changed| now - changed >= QUIET);
        if is_quiet { PACE } else { PACE_MEANWHILE }
    }

    /// The write whose turn it is.
    pub fn next(&mut self, now: Instant) -> Option<Errand> {
        while let Some(object) = self.line.pop() {
            let Some(record) = self.objects.get_mut(&object) else { continue };
            // It may be what is wanted no more.
            if record.patience().is_none_or(|(_, at)| at > now) {
                continue;
            }
            let Some((desired, _)) = record.wanted.clone() else { continue };
            if desired.generation != record.seen.generation {
                // It was changed since, and what is to be said of it will be, too.
                continue;
            }
            let trouble = desired.trouble.clone().filter(|_| record.is_news(&desired));
            record.under_way = true;
            let write = Write {
                kind: record.kind,
                resource_version: record.seen.resource_version.clone(),
                known: record.seen.known.clone(),
                desired,
                whole: !self.keyed.get(record.kind.kind).copied().unwrap_or(false),
                // Once: a status that was never ours, or one that somebody else took.
                force: record.contested > 0,
                object,
            };
            return Some(Errand { write, trouble, uid: record.seen.uid.clone() });
        }
        None
    }

    pub fn done(&mut self, write: &Write, outcome: Outcome, now: Instant) {
        if let Outcome::Written { keyed, .. } = &outcome {
            self.keyed.insert(write.kind.kind, *keyed);
        }
        let Some(record) = self.objects.get_mut(&write.object) else { return };
        record.under_way = false;
        match outcome {
            Outcome::Written { stored, resource_version, generation, .. } => {
                record.written = Some((write.desired.clone(), stored.ours.clone()));
                record.wanted = None;
                // Its watch may have been faster, and have seen more. Or slower: then what it tells of the change before the
                // write is old news by the time it comes, so the generation is known from here.
                if newer(&resource_version, &record.seen.resource_version) {
                    record.seen.known = *stored;
                    record.seen.resource_version = resource_version;
                    if record.seen.generation != generation {
                        record.seen.generation = generation;
                        self.changed = Some(now);
                    }
                }
            }
            Outcome::Contested(message) => {
                tracing::info!(object = %write.object, "status: {message}");
                record.contest(now);
            }
            Outcome::Outdated => record.not_before = Some(now + TICK),
            Outcome::Gone => record.not_before = Some(now + CONTEST.1),
            Outcome::Failed(error) => {
                tracing::warn!(object = %write.object, %error, "cannot write the status; trying again");
                record.not_before = Some(now + AGAIN);
            }
        }
    }
}

impl Record {
    fn new(kind: Watched, seen: Box<Seen>) -> Record {
        Record {
            kind,
            seen,
            wanted: None,
            written: None,
            under_way: false,
            not_before: None,
            contested: 0,
            contested_at: None,
        }
    }

    fn see(&mut self, seen: Box<Seen>, object: &ObjectRef, now: Instant) {
        if !newer(&seen.resource_version, &self.seen.resource_version) {
            // What we wrote ourselves is known already.
            return;
        }
        let ours = &seen.known.ours;
        let undone = self.written.as_ref().is_some_and(|(_, stored)| *stored == self.seen.known.ours && stored != ours);
        if undone && !self.under_way {
            tracing::info!(%object, "another writer changed our part of the status");
            self.contest(now);
        }
        self.seen = seen;
    }

    fn contest(&mut self, now: Instant) {
        if self.contested_at.is_some_and(|last| now - last > 2 * CONTEST.1) {
            self.contested = 0;
        }
        self.contested_at = Some(now);
        let pause = CONTEST.0.saturating_mul(2_u32.saturating_pow(self.contested)).min(CONTEST.1);
        // The first time it is taken back at once.
        self.not_before = Some(if self.contested == 0 { now } else { now + pause });
        self.contested = self.contested.saturating_add(1);
    }

    /// A status that cannot be made to say it (a CRD that drops a field) is not written again and again.
    fn says(&self, desired: &Desired) -> bool {
        self.seen.known.says(desired)
            || self
                .written
                .as_ref()
                .is_some_and(|(written, stored)| written == desired && *stored == self.seen.known.ours)
    }

    /// Whether what is to be said is no news, and when it is due.
    fn patience(&self) -> Option<(bool, Instant)> {
        let (desired, since) = self.wanted.as_ref().filter(|_| !self.under_way)?;
        let ours = &self.seen.known.ours;
        let same_words = ours.accepted.as_ref().is_some_and(|(accepted, _)| *accepted == desired.accepted);
        let was_programmed = ours.programmed.as_ref().is_some_and(|(programmed, _)| programmed.status);
        let patient = ours.generation == Some(desired.generation)
            && same_words
            && was_programmed
            && desired.programmed.reason != "Refused";
        let due = *since + if patient { HOLD } else { SETTLE };
        Some((patient, self.not_before.map_or(due, |not_before| due.max(not_before))))
    }

    /// Whether the trouble is not what the status told before.
    fn is_news(&self, desired: &Desired) -> bool {
        let ours = &self.seen.known.ours;
        let accepted = ours.accepted.as_ref().is_some_and(|(accepted, _)| *accepted == desired.accepted);
        let refused = desired.programmed.reason == "Refused"
            && ours.programmed.as_ref().is_none_or(|(programmed, _)| programmed.reason != "Refused");
        !accepted || refused
    }
}

/// Of two resource versions; the API server allows to compare them as numbers.
fn newer(version: &str, than: &str) -> bool {
    match (version.parse::<u128>(), than.parse::<u128>()) {
        (Ok(version), Ok(than)) => version > than,
        _ => true,
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

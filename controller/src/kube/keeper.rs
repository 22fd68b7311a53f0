//! The one task that owns the world. It takes in what the watches see, and translates once for each class of proxies.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use mesh_core::diag::Diagnostic;
use mesh_core::model::{ProxyInfo, Role, SecretAccess};
use mesh_core::object::ObjectRef;
use mesh_core::translate::unconcerned;
use mesh_core::world::World;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::class::{Class, ClassKey, Unread};
use super::handle::{Command, Joined, KeeperHandle, NotYet, Observed, Survey, Versions, View};
use super::incomplete::{Incomplete, Trials};
use super::members::Members;
use super::objects::{read, reference};
use super::rights::{Answer, Questions, Reviews, Rights};
use super::{Feed, Scope, Source, Watched};
use crate::push::{Account, Authorize, Identity};

/// Longest that changes are gathered. How long really follows from what the last turn cost: a change that comes alone is
/// not held up, a storm does not take more than half of a processor.
const PATIENCE: Duration = Duration::from_millis(100);
/// A turn of few objects, after one as short as this, is done where it is: to leave the thread to others means to wait for another one.
const SHORT: Duration = Duration::from_millis(5);
const FEW: usize = 64;
/// A class that nobody belongs to any more is kept for so long: its proxies may only be restarting.
const LINGER: Duration = Duration::from_secs(60);
/// How often such classes are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// See the module.
pub struct Keeper {
    feed: mpsc::Receiver<Feed>,
    commands: mpsc::Receiver<Command>,
    generation: watch::Sender<u64>,
    world: World,
    watches: Vec<Watch>,
    observed: Observed,
    found_of: BTreeMap<ObjectRef, Vec<Diagnostic>>,
    /// All of them.
    found: Arc<[Diagnostic]>,
    faulty: HashSet<ObjectRef>,
    incomplete: Incomplete,
    /// See [`Survey::stale`].
    stale: HashSet<ObjectRef>,
    next_class: u64,
    classes: HashMap<ClassKey, Class>,
    /// While there are sidecars: they know what they ask for, and what is wrong with the rest is told all the same.
    nobody: Option<Class>,
    /// Classes that are asked for something else since they were published.
    asked: BTreeSet<u64>,
    members: Members,
    rights: Rights,
    questions: Option<Questions>,
    /// How long the last publication took.
    took: Duration,
}

struct Watch {
    source: Source,
    /// Names and versions of the objects that are there.
    versions: HashMap<ObjectRef, String>,
    /// Seen since the list began.
    listing: Option<HashSet<ObjectRef>>,
    /// Everything was seen once, or it cannot be.
    known: bool,
    unavailable: Option<String>,
}

impl Watch {
    fn new(source: Source) -> Watch {
        Watch { source, versions: HashMap::new(), listing: None, known: false, unavailable: None }
    }

    /// Nobody is told anything without it.
    fn is_missed(&self) -> bool {
        !self.known && !self.source.is_theirs
    }
}

/// What is to be done to the world.
#[derive(Default)]
struct Changes {
    apply: BTreeMap<ObjectRef, mesh_core::api::ApiObject>,
    /// First these, then what is applied; no name is in both.
    remove: BTreeSet<ObjectRef>,
    /// What was found while objects were read is different.
    found: bool,
    /// Something else that matters: a generation, a kind.
    other: bool,
    /// Endpoints came or went: requests depend on that now.
    urgent: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.apply.is_empty() && self.remove.is_empty() && !self.found && !self.other
    }
}

fn is_urgent(name: &ObjectRef) -> bool {
    &*name.kind == "EndpointSlice"
}

impl Keeper {
    /// Of what comes from these sources.
    pub fn new(sources: Vec<Source>, feed: mpsc::Receiver<Feed>) -> (Keeper, KeeperHandle) {
        let (send, commands) = mpsc::channel(64);
        let (generation, watched) = watch::channel(0);
        let mut world = World::default();
        let of_gateways = sources.iter().filter(|source| source.kind.scope == Scope::Gateways);
        world.always_look_at(of_gateways.filter_map(|source| source.namespace.as_deref()));
        let (rights, questions) = Rights::new();
        let keeper = Keeper {
            feed,
            commands,
            generation,
            world,
            watches: sources.into_iter().map(Watch::new).collect(),
            observed: Observed::new(),
            found_of: BTreeMap::new(),
            found: Arc::default(),
            faulty: HashSet::new(),
            incomplete: Incomplete::default(),
            stale: HashSet::new(),
            next_class: 0,
            classes: HashMap::new(),
            nobody: None,
            asked: BTreeSet::new(),
            members: Members::default(),
            rights,
            questions: Some(questions),
            took: Duration::MAX,
        };
        (keeper, KeeperHandle::new(send, watched))
    }

    /// Has it asked whose workloads may read secrets. Without that no sidecar is given any.
    #[must_use]
    pub fn asking(mut self, authorize: Arc<dyn Authorize>, reviews: Reviews) -> Keeper {
        if let Some(questions) = self.questions.take() {
            tokio::spawn(questions.ask(authorize, reviews));
        }
        self
    }

    /// Until nobody feeds it any more.
    pub async fn run(mut self) {
        let mut sweep = tokio::time::interval(SWEEP);
        let mut next = Instant::now();
        loop {
            let due = self.incomplete.due();
            tokio::select! {
                Some(command) = self.commands.recv() => {
                    self.obey(command);
                    while let Ok(command) = self.commands.try_recv() {
                        self.obey(command);
                    }
                    self.answer();
                }
                feed = self.feed.recv() => {
                    let Some(feed) = feed else { return };
                    let mut changes = Changes::default();
                    self.take(feed, &mut changes);
                    self.gather(&mut changes, next).await;
                    let begun = Instant::now();
                    self.apply(changes);
                    next = Instant::now() + begun.elapsed().min(PATIENCE);
                }
                answer = self.rights.answer() => self.hear(answer),
                () = until(due) => self.apply(Changes { other: true, ..Changes::default() }),
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    /// What comes with it: all that is there already, and what comes until the next turn is due. Endpoints do not wait for that.
    async fn gather(&mut self, changes: &mut Changes, next: Instant) {
        loop {
            while let Ok(feed) = self.feed.try_recv() {
                self.take(feed, changes);
            }
            if changes.urgent {
                return;
            }
            match timeout_at(next, self.feed.recv()).await {
                Ok(Some(feed)) => self.take(feed, changes),
                _ => return,
            }
        }
    }

    fn take(&mut self, feed: Feed, changes: &mut Changes) {
        match feed {
            Feed::Unavailable { source: number, reason, absent } => {
                let Some(state) = self.watches.get_mut(number) else { return };
                changes.other = true;
                state.known |= absent || !state.source.kind.is_essential();
                state.unavailable = Some(reason);
            }
            Feed::Event { source: number, event } => {
                let Some(state) = self.watches.get_mut(number) else { return };
                let kind = state.source.kind;
                match *event {
                    Event::Apply(object) => self.seen(number, kind, &object, changes),
                    Event::InitApply(object) => self.seen(number, kind, &object, changes),
                    Event::Delete(object) => self.gone(number, &reference(kind, &object), changes),
                    Event::Init => state.listing = Some(HashSet::new()),
                    Event::InitDone => {
                        let listed = state.listing.take().unwrap_or_default();
                        let gone: Vec<ObjectRef> =
                            state.versions.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                        changes.other |= !state.known;
                        state.known = true;
                        state.unavailable = None;
                        gone.iter().for_each(|name| self.gone(number, name, changes));
                    }
                }
            }
        }
    }

    fn seen(&mut self, number: usize, kind: &Watched, object: &DynamicObject, changes: &mut Changes) {
        let name = reference(kind, object);
        let Some(state) = self.watches.get_mut(number) else { return };
        match &mut state.listing {
            Some(listing) => drop(listing.insert(name.clone())),
            None => changes.urgent |= is_urgent(&name),
        }
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        let had = state.versions.insert(name.clone(), version.clone());
        if had.as_ref() == Some(&version) {
            return;
        }
        let generation = object.metadata.generation;
        let read = read(kind, &name, object);
        // What the world has is not the last word if this turn is going to change it.
        let changes_yet = changes.apply.contains_key(&name) || changes.remove.contains(&name);
        let news = changes_yet || read.object.as_ref().is_none_or(|object| !self.world.has(object));
        if !news && read.diagnostics.is_empty() && generation == self.observed.get(&name).copied() {
            // Only its status is different, or something else that has no meaning here.
            return;
        }
        let is_faulty = read.is_faulty();
        let keeps_old = is_faulty && had.is_some() && !self.faulty.contains(&name);
        if is_faulty && !keeps_old {
            self.faulty.insert(name.clone());
        } else if !is_faulty {
            self.faulty.remove(&name);
        }
        if keeps_old || read.object.is_none() {
            self.stale.insert(name.clone());
        } else {
            self.stale.remove(&name);
        }
        if let Some(generation) = generation {
            self.observed.insert(name.clone(), generation);
        }
        let notes =
            read.diagnostics.into_iter().map(|diagnostic| if keeps_old { kept(diagnostic) } else { diagnostic });
        let notes: Vec<Diagnostic> = notes.collect();
        if notes.is_empty() {
            changes.found |= self.found_of.remove(&name).is_some();
        } else {
            changes.found = true;
            self.found_of.insert(name.clone(), notes);
        }
        changes.other = true;
        match read.object {
            Some(object) if !keeps_old => {
                changes.remove.remove(&name);
                changes.apply.insert(name, object);
            }
            None if !keeps_old => {
                changes.apply.remove(&name);
                changes.remove.insert(name);
            }
            _ => {}
        }
    }

    fn gone(&mut self, number: usize, name: &ObjectRef, changes: &mut Changes) {
        let Some(state) = self.watches.get_mut(number) else { return };
        if state.versions.remove(name).is_none() {
            return;
        }
        self.faulty.remove(name);
        self.stale.remove(name);
        changes.found |= self.found_of.remove(name).is_some();
        if self.observed.contains_key(name) {
            self.observed.remove(name);
        }
        changes.apply.remove(name);
        changes.remove.insert(name.clone());
        changes.urgent |= is_urgent(name);
    }

    fn apply(&mut self, mut changes: Changes) {
        if changes.is_empty() {
            return;
        }
        if changes.found {
            self.found = self.found_of.values().flatten().cloned().collect();
        }
        for name in &changes.remove {
            self.incomplete.forget(name);
        }
        let few = changes.remove.len() + changes.apply.len() <= FEW;
        let touched = changes.remove.iter().chain(changes.apply.keys());
        let members: Vec<ObjectRef> = touched.filter(|name| self.members.has(name)).cloned().collect();
        let now = Instant::now();
        let trials = self.incomplete.try_again(&mut changes.apply, &self.world, now);
        if !changes.remove.is_empty() {
            self.world.remove(&Vec::from_iter(changes.remove));
        }
        if !changes.apply.is_empty() {
            self.world.apply(changes.apply.into_values().collect());
        }
        // A pod is found whether its namespace is looked at or not: `discoverySelectors` say whose objects count, and end no stream.
        for name in &members {
            self.members.look(name, self.world.pod(&name.namespace, &name.name).map(|pod| &**pod));
        }
        if self.watches.iter().any(Watch::is_missed) {
            return;
        }
        let generation = *self.generation.borrow() + 1;
        if few && self.took < SHORT {
            self.publish(generation, trials, now);
        } else {
            tokio::task::block_in_place(|| self.publish(generation, trials, now));
        }
        self.took = now.elapsed();
        self.generation.send_replace(generation);
        self.review();
        self.answer();
    }

    /// Everybody's answer, from the world as it is now, but for VirtualServices that had better wait.
    fn publish(&mut self, generation: u64, trials: Trials, now: Instant) {
        self.all_classes().for_each(|(class, world)| class.translate(world));
        if !trials.is_empty() {
            let failed = self.classes.values().chain(&self.nobody).flat_map(Class::newly_missing).collect();
            if self.incomplete.take_back(&failed, trials, &mut self.world, now) {
                self.all_classes().for_each(|(class, world)| class.translate(world));
            }
        }
        let settings = self.world.mesh().proxy_settings();
        let observed = self.incomplete.in_force(&self.observed);
        for class in self.classes.values_mut().chain(&mut self.nobody) {
            class.publish(&settings, generation, &observed, &self.found);
        }
        self.asked.clear();
    }

    fn all_classes(&mut self) -> impl Iterator<Item = (&mut Class, &World)> {
        let world = &self.world;
        self.classes.values_mut().chain(&mut self.nobody).map(move |class| (class, world))
    }

    /// Those who asked for something get it at once; to the others it is another name for what they have.
    fn answer(&mut self) {
        while !self.asked.is_empty() && !self.watches.iter().any(Watch::is_missed) {
            let asked = std::mem::take(&mut self.asked);
            let generation = *self.generation.borrow() + 1;
            let settings = self.world.mesh().proxy_settings();
            let observed = self.incomplete.in_force(&self.observed);
            tokio::task::block_in_place(|| {
                for class in self.classes.values_mut().chain(&mut self.nobody) {
                    if asked.contains(&class.number()) {
                        class.translate(&self.world);
                    }
                    class.publish(&settings, generation, &observed, &self.found);
                }
            });
            self.generation.send_replace(generation);
            // What they got may name secrets, and be made anew with them.
            self.review();
        }
    }

    /// What came of the question whether an account may read secrets.
    fn hear(&mut self, answer: Answer) {
        self.rights.take(answer);
        self.review();
        self.answer();
    }

    /// Whose rights have to be known, and who is told something else for what is known of them.
    fn review(&mut self) {
        let wanting = self.classes.values().filter(|class| class.wants_secrets());
        let wanting: BTreeSet<Account> = wanting.filter_map(Class::account).collect();
        self.rights.want(wanting);
        let unlisted = self.unlisted();
        for class in self.classes.values_mut() {
            let Some(account) = class.account() else { continue };
            if class.give_secrets(self.rights.of(&account), unlisted.contains(&account.namespace)) {
                self.asked.insert(class.number());
            }
        }
    }

    /// Namespaces of proxies whose secrets are watched and were not listed yet.
    fn unlisted(&self) -> BTreeSet<String> {
        let unknown = self.watches.iter().filter(|watch| watch.source.kind.kind == "Secret" && !watch.known);
        unknown.filter_map(|watch| watch.source.namespace.clone()).collect()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join(identity, reply) => {
                let _ = reply.send(self.join(&identity));
            }
            Command::Ask { class: number, stream, names } => {
                if let Some(class) = self.classes.values_mut().find(|class| class.number() == number)
                    && class.ask(&stream, names)
                {
                    self.asked.insert(number);
                }
            }
            Command::Survey(reply) => {
                let _ = reply.send(Survey {
                    generation: *self.generation.borrow(),
                    found: self.found.clone(),
                    observed: self.observed.clone(),
                    stale: self.stale.clone(),
                    hidden: self.world.hidden_namespaces(),
                    classes: self.classes.values().chain(&self.nobody).map(Class::state).collect(),
                });
            }
            Command::Unconcerned(classes, objects, reply) => {
                let classes = self.classes.values().filter(|class| classes.contains(&class.number()));
                let proxies: Vec<&ProxyInfo> = classes.map(Class::proxy).collect();
                let why = objects.iter().map(|object| unconcerned(&self.world, &proxies, object));
                let _ = reply.send(why.collect());
            }
            Command::TrustDomain(reply) => drop(reply.send(self.world.mesh().trust_domain.clone())),
            Command::ProxyDefaults(reply) => {
                drop(reply.send(self.world.mesh().config.default_config.clone().unwrap_or_default()));
            }
            Command::Versions(reply) => {
                let kinds = self.watches.iter().flat_map(|watch| &watch.versions);
                let _ = reply.send(Versions {
                    generation: *self.generation.borrow(),
                    waiting: self.incomplete.waiting().cloned().collect(),
                    objects: kinds.map(|(name, version)| (name.clone(), version.clone())).collect(),
                });
            }
            Command::Look(reply) => {
                let unavailable = self.watches.iter();
                let classes = self.classes.values().chain(&self.nobody);
                let _ = reply.send(View {
                    world: self.world.clone(),
                    diagnostics: self.found.to_vec(),
                    observed: self.observed.clone(),
                    unavailable: unavailable
                        .filter_map(|watch| Some((watch.source.to_string(), watch.unavailable.clone()?)))
                        .collect(),
                    classes: classes.map(|class| (class.proxy().clone(), class.state())).collect(),
                });
            }
        }
    }

    fn join(&mut self, identity: &Identity) -> Result<Joined, NotYet> {
        let unknown = || NotYet::UnknownPod { namespace: identity.namespace.clone(), name: identity.pod.clone() };
        if self.watches.iter().any(Watch::is_missed) {
            return Err(NotYet::Unlisted);
        }
        let pod = self.world.pod(&identity.namespace, &identity.pod);
        // Another one of that name may be on its way here, or the token be that of one that is gone.
        let pod = pod.filter(|pod| pod.spec.uid.as_ref().is_none_or(|uid| *uid == identity.uid)).ok_or_else(unknown)?;
        // It runs, so it has addresses: they will be seen in a moment.
        if pod.spec.node_name.is_some() && pod.spec.addresses().next().is_none() {
            return Err(unknown());
        }
        let account = Account::from(identity);
        let key = ClassKey::of_member(pod, &account);
        let unread = match self.wanting(&identity.namespace) {
            Ok(wanting) => wanting.map(Unread::Unwatched),
            // A sidecar can do without: few have any.
            Err(_) if key.role == Role::Sidecar => Some(Unread::Unlisted),
            Err(error) => return Err(error),
        };
        let proxy = ProxyInfo {
            role: key.role,
            service_account: identity.service_account.clone(),
            locality: self.world.locality_of_pod(pod).to_string(),
            node: pod.spec.node_name.clone().unwrap_or_default(),
            families: key.families,
            dns_capture: key.dns_capture,
            secrets: match (key.role, &unread) {
                (Role::Edge, _) => SecretAccess::Allowed,
                (Role::Sidecar, Some(_)) => SecretAccess::Unread,
                (Role::Sidecar, None) => self.rights.of(&account),
            },
            ..ProxyInfo::edge(&identity.pod, &identity.namespace, pod.meta.labels.clone())
        };
        let leaving = self.members.add(pod);
        if key.role == Role::Sidecar && self.nobody.is_none() {
            self.next_class += 1;
            let nobody = Class::of_nobody(self.next_class, &self.world.mesh().root_namespace);
            self.nobody = Some(self.first(nobody));
        }
        if let Some(class) = self.classes.get_mut(&key) {
            return Ok(Joined { proxy, states: class.subscribe(), leaving });
        }
        self.next_class += 1;
        let all =
            ProxyInfo { labels: key.labels.clone(), locality: String::new(), node: String::new(), ..proxy.clone() };
        let class = Class::new(self.next_class, all, unread).configured(&pod.reference, key.config.as_deref());
        let mut class = self.first(class);
        let states = class.subscribe();
        self.classes.insert(key, class);
        self.review();
        Ok(Joined { proxy, states, leaving })
    }

    /// With its first publication.
    fn first(&self, mut class: Class) -> Class {
        let generation = *self.generation.borrow();
        let settings = self.world.mesh().proxy_settings();
        let observed = self.incomplete.in_force(&self.observed);
        tokio::task::block_in_place(|| {
            class.translate(&self.world);
            class.publish(&settings, generation, &observed, &self.found);
        });
        class
    }

    /// None: the secrets of the namespace are watched. Otherwise the value of `gateway.namespaces` with which they are: it
    /// keeps those that are there.
    fn wanting(&self, namespace: &str) -> Result<Option<String>, NotYet> {
        let mut secrets = self.watches.iter().filter(|watch| watch.source.kind.kind == "Secret");
        let is_there = |watch: &&Watch| watch.source.namespace.as_deref().is_none_or(|of| of == namespace);
        let Some(watch) = secrets.clone().find(is_there) else {
            let gateways = secrets.by_ref().filter(|watch| watch.source.is_theirs);
            let gateways = gateways.filter_map(|watch| watch.source.namespace.as_deref());
            return Ok(Some(gateways.chain([namespace]).collect::<Vec<_>>().join(",")));
        };
        if watch.known {
            return Ok(None);
        }
        let reason = watch.unavailable.clone().unwrap_or_else(|| "not listed yet".to_owned());
        Err(NotYet::NoSecrets { namespace: namespace.to_owned(), reason })
    }

    fn sweep(&mut self) {
        self.classes.retain(|_, class| class.is_wanted(LINGER));
        if !self.classes.keys().any(|key| key.role == Role::Sidecar)
            && let Some(nobody) = self.nobody.take()
        {
            // What was found out for it is not told any more.
            self.asked.insert(nobody.number());
        }
        for class in self.classes.values_mut() {
            if class.sum_up() {
                self.asked.insert(class.number());
            }
        }
        self.review();
        self.answer();
        self.members.sweep();
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn kept(mut diagnostic: Diagnostic) -> Diagnostic {
    let note = "until then its previous version stays in force";
    diagnostic.help = Some(diagnostic.help.map_or_else(|| note.to_owned(), |help| format!("{help}; {note}")));
    diagnostic
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;

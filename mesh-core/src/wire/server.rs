//! The controller's end of one stream: what the proxy asked for, what it was sent, what it acknowledged. At most one
//! response of a kind, perhaps in parts, is under way: for a slow proxy, later publications fall together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use prost::Message as _;

use super::proto::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Refusal, Resource, Status};
use super::publication::{Encoded, Published, Table};
use super::{ASKED, IN_PARTS, Kind, MAX_ASKED, PART, Violation, clip};
use crate::model::{DiffItem, Key, asked_name};

/// Most names that one proxy may subscribe to in a kind.
const MAX_NAMES: usize = 1_000_000;
/// In the place of a name: the refusal does not say what it is about.
const UNNAMED: &str = "";

/// What a request meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Subscribed(Kind),
    Acknowledged {
        kind: Kind,
        generation: u64,
    },
    /// Some of what was sent is not in force at the proxy.
    Refused {
        kind: Kind,
        generation: u64,
        message: String,
    },
    /// The proxy asked for a type that this version does not have. It is of a later version, and does without.
    Unknown(String),
}

/// How far a proxy is, in one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    pub subscribed: bool,
    /// Generation of the last response.
    pub sent: u64,
    /// Generation up to which it has everything. Refused resources count as had; `refused` names them.
    pub acknowledged: u64,
    /// Responses on this stream, and the resources in them.
    pub responses: u64,
    pub resources: u64,
    /// What the proxy refused and was not sent in another version since, and why. It has the version before, or none.
    pub refused: Arc<BTreeMap<String, String>>,
}

/// See the module.
#[derive(Debug)]
pub struct ServerStream {
    /// Size of a response, in bytes, after which the next one goes on.
    part: usize,
    node: Option<Node>,
    kinds: [State; 3],
    nonce: u64,
    /// Endpoints of the publication whose configuration the proxy was sent last. What that names may be gone by now, and the
    /// proxy still has to serve it before it goes on.
    behind: Table,
    /// What it asks for, and whether that is different since somebody looked.
    asked: BTreeSet<Key>,
    asks_anew: bool,
}

#[derive(Debug, Default)]
struct State {
    sync: Sync,
    all: bool,
    names: BTreeSet<Arc<str>>,
    /// Subscribed to, not answered yet.
    fresh: BTreeSet<Arc<str>>,
    /// What the proxy brought along, until it was compared with a table. A long list comes in several requests.
    brought: HashMap<String, String>,
    /// What the proxy has, restricted to what it subscribed to; and what it was not told yet to drop.
    had: Option<Table>,
    owed: BTreeSet<String>,
    /// What the proxy has and nobody could read: it is told to drop it when it is known that there is none.
    kept: BTreeSet<String>,
    /// Something was sent, if only that there is nothing.
    answered: bool,
    /// Nonce and generation of a response that was not answered yet.
    under_way: Option<(String, u64)>,
}

impl Default for ServerStream {
    fn default() -> ServerStream {
        ServerStream::with_part(PART)
    }
}

impl ServerStream {
    /// One whose responses are ended after so many bytes.
    pub fn with_part(part: usize) -> ServerStream {
        ServerStream {
            part,
            node: None,
            kinds: Default::default(),
            nonce: 0,
            behind: Table::new(),
            asked: BTreeSet::new(),
            asks_anew: false,
        }
    }

    /// What the proxy asks for, if that is different from what it was the last time. Configuration waits until it is answered.
    pub fn take_asked(&mut self) -> Option<&BTreeSet<Key>> {
        std::mem::take(&mut self.asks_anew).then_some(&self.asked)
    }

    /// Who the proxy says it is, once it said so.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    pub fn sync(&self, kind: Kind) -> &Sync {
        let [config, endpoints, secrets] = &self.kinds;
        match kind {
            Kind::Config => &config.sync,
            Kind::Endpoints => &endpoints.sync,
            Kind::Secret => &secrets.sync,
        }
    }

    fn state(&mut self, kind: Kind) -> &mut State {
        let [config, endpoints, secrets] = &mut self.kinds;
        match kind {
            Kind::Config => config,
            Kind::Endpoints => endpoints,
            Kind::Secret => secrets,
        }
    }

    /// Takes a request in; afterwards [`ServerStream::poll`] may have something to send.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<Event, Violation> {
        let Some(kind) = Kind::from_type_url(&request.type_url) else { return Ok(Event::Unknown(request.type_url)) };
        if let Some(node) = request.node {
            self.node.get_or_insert(node);
        }
        if kind == Kind::Config {
            self.ask(&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        }
        let state = self.state(kind);
        state.sync.subscribed = true;
        state.brought.extend(request.initial_resource_versions);
        state.subscribe(kind, request.resource_names_subscribe, &request.resource_names_unsubscribe)?;
        if request.response_nonce.is_empty() {
            return Ok(Event::Subscribed(kind));
        }
        let Some((_, generation)) = state.under_way.take_if(|(nonce, _)| *nonce == request.response_nonce) else {
            return Err(Violation::UnknownNonce { given: request.response_nonce });
        };
        state.sync.acknowledged = generation;
        Ok(match request.error_detail {
            None => Event::Acknowledged { kind, generation },
            Some(status) => {
                state.refuse(&status);
                Event::Refused { kind, generation, message: status.message }
            }
        })
    }

    /// A proxy of another version may take something for a name that is none, or ask for more than this one answers: it gets no answer
    /// to that.
    fn ask(&mut self, subscribe: &[String], unsubscribe: &[String]) {
        for name in unsubscribe.iter().filter_map(|name| name.strip_prefix(ASKED)) {
            self.asks_anew |= self.asked.remove(name);
        }
        let names = subscribe.iter().filter_map(|name| name.strip_prefix(ASKED));
        for asked in names.filter_map(|name| asked_name(name).filter(|asked| **asked == *name)) {
            if self.asked.len() < MAX_ASKED {
                self.asks_anew |= self.asked.insert(asked);
            }
        }
    }

    /// What is to be sent now that `published` is to be had; nothing of one that does not answer what was asked. Endpoints and secrets come before the configuration that names
    /// them; they go when the proxy has acknowledged the configuration that does without them.
    pub fn poll(&mut self, published: &Published) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        if !published.answers(&self.asked) {
            // What it asked for is in a later one. A proxy that comes back would lose what it has by this one.
            return responses;
        }
        let settled = self.state(Kind::Config).is_settled(published);
        for kind in [Kind::Endpoints, Kind::Secret, Kind::Config] {
            responses.extend(self.respond(kind, published, settled));
        }
        if self.state(Kind::Config).was_sent(published) {
            self.behind = published.table(Kind::Endpoints).clone();
        }
        // It may have turned out that the proxy has the configuration already.
        if !settled && self.state(Kind::Config).is_settled(published) {
            responses.extend(self.respond(Kind::Endpoints, published, true));
            responses.extend(self.respond(Kind::Secret, published, true));
        }
        responses
    }

    fn respond(&mut self, kind: Kind, published: &Published, settled: bool) -> Vec<DeltaDiscoveryResponse> {
        let nonce = self.nonce + 1;
        let behind = (kind == Kind::Endpoints).then(|| self.behind.clone());
        let Some(response) = self.state(kind).respond(kind, published, nonce, settled, behind.as_ref()) else {
            return Vec::new();
        };
        self.nonce = nonce;
        let takes_parts = |node: &Node| node.client_features.iter().any(|feature| feature == IN_PARTS);
        if self.node.as_ref().is_some_and(takes_parts) { in_parts(response, self.part) } else { vec![response] }
    }
}

/// What a proxy lacks, and what it has too much.
#[derive(Default)]
struct Difference<'t> {
    send: Vec<(&'t str, &'t Encoded)>,
    /// What the proxy has and nobody else.
    gone: Vec<String>,
    /// What it asked for and is not there.
    missing: Vec<String>,
}

impl State {
    fn subscribe(&mut self, kind: Kind, subscribe: Vec<String>, unsubscribe: &[String]) -> Result<(), Violation> {
        self.all |= kind == Kind::Config;
        for name in subscribe.into_iter().filter(|_| kind != Kind::Config) {
            let name: Arc<str> = name.into();
            self.fresh.insert(Arc::clone(&name));
            self.names.insert(name);
        }
        for name in unsubscribe {
            self.names.remove(name.as_str());
            self.fresh.remove(name.as_str());
            self.brought.remove(name.as_str());
            self.clear_refusals(std::iter::once(name.as_str()));
        }
        match self.names.len().max(self.brought.len()) {
            count if count > MAX_NAMES => Err(Violation::TooManyNames(count, MAX_NAMES)),
            _ => Ok(()),
        }
    }

    /// Takes in what of the last response is not in force. Only what the proxy was sent can be refused, or it could make the
    /// list as long as it likes.
    fn refuse(&mut self, status: &Status) {
        let details = status.details.iter().find(|detail| detail.type_url == Refusal::TYPE_URL);
        let named = details.and_then(|detail| Refusal::decode(detail.value.clone()).ok()).unwrap_or_default();
        let was_sent = |name: &str| self.had.as_ref().is_some_and(|had| had.contains_key(name));
        let named = named.resources.into_iter().filter(|(name, _)| was_sent(name));
        let reason = |why: &str| if why.is_empty() { "its log says why" } else { clip(why) }.to_owned();
        let mut refused: Vec<(String, String)> = named.map(|(name, why)| (name, reason(&why))).collect();
        if refused.is_empty() {
            // A proxy of the version before names them in its message alone.
            let told = status.message.split("; ").filter_map(|part| part.split_once(": "));
            let told = told.filter(|(name, _)| was_sent(name));
            refused.extend(told.map(|(name, why)| (name.to_owned(), reason(why))));
        }
        if refused.is_empty() {
            refused.push((UNNAMED.to_owned(), clip(&status.message).to_owned()));
        }
        Arc::make_mut(&mut self.sync.refused).extend(refused);
    }

    /// These are not what was refused any more.
    fn clear_refusals<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        if self.sync.refused.is_empty() {
            return;
        }
        let refused = Arc::make_mut(&mut self.sync.refused);
        names.for_each(|name| drop(refused.remove(name)));
    }

    /// Whether the proxy has acknowledged all of its configuration.
    fn is_settled(&self, published: &Published) -> bool {
        self.under_way.is_none() && self.was_sent(published)
    }

    /// Whether the last that the proxy was sent is the configuration of this publication.
    fn was_sent(&self, published: &Published) -> bool {
        self.had.as_ref().is_some_and(|had| had.ptr_eq(published.table(Kind::Config)))
    }

    fn respond(
        &mut self,
        kind: Kind,
        published: &Published,
        nonce: u64,
        settled: bool,
        behind: Option<&Table>,
    ) -> Option<DeltaDiscoveryResponse> {
        if !self.sync.subscribed || self.under_way.is_some() {
            return None;
        }
        let table = published.table(kind);
        let Difference { mut send, mut gone, mut missing } = self.difference(table);
        let mut later = BTreeSet::new();
        if kind == Kind::Secret && published.secrets_unread {
            // What cannot be read is not taken for empty. What is missing the proxy does not have, and waits for an answer.
            self.kept.extend(std::mem::take(&mut gone));
            if published.secrets_pending {
                later = std::mem::take(&mut missing).into_iter().map(Arc::from).collect();
            }
        } else {
            gone.extend(std::mem::take(&mut self.kept));
        }
        let mut removed = Vec::new();
        for name in missing {
            match behind.and_then(|behind| behind.get_key_value(name.as_str())) {
                // It goes when the proxy does without it.
                Some((name, body)) => {
                    self.owed.insert((**name).to_owned());
                    send.push((name, body));
                }
                None => removed.push(name),
            }
        }
        if kind == Kind::Config {
            removed.extend(gone);
        } else {
            self.owed.extend(gone);
            if settled {
                let owed = std::mem::take(&mut self.owed).into_iter();
                removed.extend(
                    owed.filter(|name| self.names.contains(name.as_str()) && !table.contains_key(name.as_str())),
                );
            }
        }
        removed.sort();
        removed.dedup();
        self.had = Some(table.clone());
        self.brought = HashMap::new();
        self.fresh = later;
        // A proxy that has nothing yet is told so: it waits for that.
        let first = kind == Kind::Config && !std::mem::replace(&mut self.answered, true);
        self.sync.sent = published.generation;
        if send.is_empty() && removed.is_empty() && !first {
            self.sync.acknowledged = published.generation;
            return None;
        }
        let names = send.iter().map(|(name, _)| *name).chain(removed.iter().map(String::as_str));
        self.clear_refusals(names.chain([UNNAMED]));
        self.sync.responses += 1;
        self.sync.resources += send.len() as u64;
        let nonce = nonce.to_string();
        self.under_way = Some((nonce.clone(), published.generation));
        Some(DeltaDiscoveryResponse {
            system_version_info: published.generation.to_string(),
            resources: send.into_iter().map(|(name, body)| resource(kind, name, body)).collect(),
            type_url: kind.type_url().to_owned(),
            nonce,
            removed_resources: removed,
            continues: false,
        })
    }

    fn difference<'t>(&self, table: &'t Table) -> Difference<'t> {
        let wanted = |name: &str| self.all || self.names.contains(name);
        let mut difference = Difference::default();
        let same = |name: &str, body: &Encoded| self.brought.get(name).is_some_and(|had| **had == *body.version);
        let Some(had) = &self.had else {
            let news = table.iter().filter(|(name, body)| wanted(name) && !same(name, body));
            difference.send = news.map(|(name, body)| (&**name, body)).collect();
            difference.gone = self.brought.keys().filter(|name| !table.contains_key(name.as_str())).cloned().collect();
            let missing = self.fresh.iter().filter(|name| !table.contains_key(*name));
            let unknown = missing.filter(|name| !self.brought.contains_key(&***name));
            difference.missing = unknown.map(|name| (**name).to_owned()).collect();
            return difference;
        };
        if !had.ptr_eq(table) {
            let (news, gone) = compare(had, table);
            difference.send = news.into_iter().filter(|(name, _)| wanted(name)).collect();
            difference.gone = gone.into_iter().filter(|name| wanted(name)).map(str::to_owned).collect();
        }
        let sent: BTreeSet<&str> = difference.send.iter().map(|(name, _)| *name).collect();
        for name in self.fresh.iter().filter(|name| !sent.contains(&***name)) {
            match table.get_key_value(name) {
                Some((name, body)) if same(name, body) => {}
                Some((name, body)) => difference.send.push((name, body)),
                None if self.brought.contains_key(&**name) => difference.gone.push((**name).to_owned()),
                None => difference.missing.push((**name).to_owned()),
            }
        }
        difference
    }
}

/// The same in responses of so many bytes at most; what is larger by itself comes alone.
fn in_parts(response: DeltaDiscoveryResponse, part: usize) -> Vec<DeltaDiscoveryResponse> {
    let DeltaDiscoveryResponse { system_version_info, resources, type_url, nonce, removed_resources, .. } = response;
    let new = || DeltaDiscoveryResponse {
        system_version_info: system_version_info.clone(),
        type_url: type_url.clone(),
        continues: true,
        ..DeltaDiscoveryResponse::default()
    };
    let mut parts = Vec::new();
    let (mut last, mut size) = (new(), 0);
    let mut room_for = |more: usize, last: &mut DeltaDiscoveryResponse| {
        if size > 0 && size + more > part {
            parts.push(std::mem::replace(last, new()));
            size = 0;
        }
        size += more;
    };
    for resource in resources {
        let body = resource.resource.as_ref().map_or(0, |any| any.value.len() + any.type_url.len());
        room_for(body + resource.name.len() + resource.version.len(), &mut last);
        last.resources.push(resource);
    }
    for name in removed_resources {
        room_for(name.len(), &mut last);
        last.removed_resources.push(name);
    }
    parts.push(DeltaDiscoveryResponse { nonce, continues: false, ..last });
    parts
}

fn resource(kind: Kind, name: &str, encoded: &Encoded) -> Resource {
    Resource {
        version: (*encoded.version).to_owned(),
        resource: Some(Any { type_url: kind.type_url().to_owned(), value: encoded.body.clone() }),
        name: name.to_owned(),
    }
}

/// What is new or different, and names that are gone.
fn compare<'o, 'n>(old: &'o Table, new: &'n Table) -> (Vec<(&'n str, &'n Encoded)>, Vec<&'o str>) {
    let (mut news, mut gone) = (Vec::new(), Vec::new());
    for difference in old.diff(new) {
        match difference {
            DiffItem::Add(name, body) | DiffItem::Update { new: (name, body), .. } => news.push((&**name, body)),
            DiffItem::Remove(name, _) => gone.push(&**name),
        }
    }
    (news, gone)
}

//! The proxy's end: what it has, what it asks for, and what it makes of a response. What it has outlives a stream, so that
//! after a break it is sent only what changed meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use imbl::OrdMap;
use prost::Message as _;

use super::codec::{
    Config, DecodeError, authentication_name, authorization_name, challenge_name, decode, destination_name, dns_name,
    listener_name, rate_limits_name, routes_name,
};
use super::proto::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Refusal, Resource, Status};
use super::request::{REQUEST_PART, Wanted, ask, requests_for, shorten, string_len};
use super::{ASKED, IN_PARTS, Kind, MAX_ASKED, REFUSED, clip};
use crate::model::{
    Authentication, Authorization, Destination, DiffItem, Endpoints, HostPattern, Key, Listener, ListenerProtocol,
    Names, ProxySettings, ResourceSet, Resources, RouteSet, Secret, TcpRoute, VirtualHost,
};
use crate::object::ObjectRef;

/// Most refused resources that the message of a refusal names; its details name all.
const NAMED: usize = 20;

/// What the proxy has.
#[derive(Clone, Debug, Default)]
pub struct ClientState {
    /// Its routes are put together when somebody wants to see them.
    set: ResourceSet,
    routes: BTreeMap<Key, Routes>,
    settings: ProxySettings,
    names: Names,
    /// Name to version, of what is here.
    versions: [HashMap<String, String>; 3],
    /// A response of the kind `Config` came at some time: there is something to serve, even if it is nothing.
    configured: bool,
    /// A transaction of the kind `Config` is here in part: what there is must not be served.
    torn: bool,
    /// What is asked for, the newest last.
    asked: VecDeque<Key>,
}

#[derive(Clone, Debug, Default)]
struct Routes {
    origin: Option<ObjectRef>,
    hosts: OrdMap<HostPattern, Arc<VirtualHost>>,
    tcp: Vec<TcpRoute>,
    /// The set has another state of it.
    changed: bool,
}

/// What a response changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// More than endpoints.
    Configuration,
    Endpoints(Vec<Arc<Endpoints>>),
}

/// What became of a response. Of a configuration that comes in parts, only the last changes anything; endpoints and secrets are no
/// transaction, and each part of them counts.
#[derive(Clone, Debug)]
pub struct Applied {
    /// None: of a type that this version does not know, and nobody asked for. All of it is refused.
    pub kind: Option<Kind>,
    /// Generation at the controller, as it says.
    pub generation: String,
    pub change: Change,
    /// Names of resources that stay as they were, and why.
    pub refused: Vec<(String, String)>,
    /// To be sent at once: names that the new configuration needs.
    pub subscriptions: Vec<DeltaDiscoveryRequest>,
    /// To be sent when the change is in force. Of a response in parts, the last is acknowledged.
    pub acknowledgement: Option<DeltaDiscoveryRequest>,
}

impl Applied {
    /// A controller of a later version may have more types; that is no reason to do without the others. Of what comes in parts, the
    /// last part is named.
    fn unknown(response: DeltaDiscoveryResponse) -> Applied {
        let why = format!("this version does not know the type `{}`", response.type_url);
        let refused: Vec<(String, String)> =
            response.resources.into_iter().map(|resource| (resource.name, why.clone())).collect();
        Applied {
            kind: None,
            generation: response.system_version_info,
            change: Change::Nothing,
            subscriptions: Vec::new(),
            acknowledgement: (!response.continues).then(|| DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                error_detail: refusal(&refused),
                ..DeltaDiscoveryRequest::default()
            }),
            refused,
        }
    }
}

/// One stream.
#[derive(Debug)]
pub struct Client {
    state: ClientState,
    /// What was asked for by name: the endpoints of these destinations, the secrets of these listeners.
    destinations: Resources<Destination>,
    listeners: Resources<Listener>,
    secrets: BTreeSet<Key>,
    /// Names subscribed to on this stream that were neither sent nor said to be missing.
    unanswered: [BTreeSet<Key>; 2],
    /// What is had was too much to be named: the first configuration is all of it, and the rest is gone. Its names so far.
    anew: Option<HashSet<String>>,
    /// What was refused in the parts so far, by kind.
    refused: [Vec<(String, String)>; 3],
}

impl ClientState {
    pub fn settings(&self) -> &ProxySettings {
        &self.settings
    }

    /// Whether a controller ever said what to serve.
    pub fn configured(&self) -> bool {
        self.configured
    }

    /// Everything, as the store takes it.
    pub fn set(&mut self) -> ResourceSet {
        for (key, routes) in self.routes.iter_mut().filter(|(_, routes)| routes.changed) {
            routes.changed = false;
            match &routes.origin {
                Some(origin) => {
                    let virtual_hosts = routes.hosts.values().cloned().collect();
                    let built =
                        RouteSet { key: key.clone(), virtual_hosts, tcp: routes.tcp.clone(), origin: origin.clone() };
                    self.set.routes.insert(key.clone(), Arc::new(built));
                }
                // The controller never said that there is such a set.
                None => drop(self.set.routes.remove(key)),
            }
        }
        self.routes.retain(|_, routes| routes.origin.is_some() || !routes.hosts.is_empty());
        self.set.clone()
    }

    /// Asks for what a name means ([`crate::model::asked_name`]); between two streams, the next one will. None: it is asked for already.
    /// Of too many the oldest is given up: who still needs it asks again.
    pub fn ask(&mut self, name: Key) -> Option<DeltaDiscoveryRequest> {
        if self.asked.contains(&name) {
            return None;
        }
        let given_up = if self.asked.len() < MAX_ASKED { None } else { self.asked.pop_front() };
        let request = ask(&name, given_up.as_ref());
        self.asked.push_back(name);
        Some(request)
    }

    /// Whether what was asked for last is not answered yet. Answers come in the order of the questions.
    pub fn is_asking(&self) -> bool {
        let answered = self.set.on_demand().map(|terms| &terms.answered);
        self.asked.back().is_some_and(|last| answered.is_none_or(|answered| !answered.contains(last)))
    }

    fn versions(&mut self, kind: Kind) -> Option<&mut HashMap<String, String>> {
        self.versions.get_mut(kind.index())
    }

    fn put(&mut self, kind: Kind, resource: &Resource) -> Result<(), DecodeError> {
        let body = resource.resource.as_ref().map(|any| &any.value[..]).unwrap_or_default();
        match kind {
            Kind::Config => {
                let config: Config = decode(body)?;
                right_name(&config.name(), &resource.name)?;
                self.put_config(config);
            }
            Kind::Endpoints => {
                let mut endpoints: Endpoints = decode(body)?;
                right_name(&endpoints.key, &resource.name)?;
                self.names.share_endpoints(&mut endpoints);
                self.set.endpoints.insert(endpoints.key.clone(), Arc::new(endpoints));
            }
            Kind::Secret => {
                let secret: Secret = decode(body)?;
                right_name(&secret.key, &resource.name)?;
                self.set.secrets.insert(secret.key.clone(), Arc::new(secret));
            }
        }
        Ok(())
    }

    fn put_config(&mut self, config: Config) {
        match config {
            Config::Listener(listener) => drop(self.set.listeners.insert(listener.key.clone(), Arc::new(listener))),
            Config::Destination(mut destination) => {
                self.names.share_destination(&mut destination);
                drop(self.set.destinations.insert(destination.key.clone(), Arc::new(destination)));
            }
            Config::Settings(settings) => self.settings = settings,
            Config::Authorization(policy) => {
                drop(self.set.authorization.insert(policy.key.clone(), Arc::new(policy)));
            }
            Config::Authentication(policy) => {
                drop(self.set.authentication.insert(policy.key.clone(), Arc::new(policy)));
            }
            Config::RateLimits(limits) => drop(self.set.rate_limits.insert(limits.key.clone(), Arc::new(limits))),
            Config::DnsName(name) => drop(self.set.dns.insert(name.key.clone(), Arc::new(name))),
            Config::Challenge(challenge) => {
                drop(self.set.challenges.insert(challenge.key.clone(), Arc::new(challenge)));
            }
            Config::Routes { key, tcp, origin } => {
                let routes = self.routes.entry(key).or_default();
                (routes.tcp, routes.origin) = (tcp, Some(origin));
                routes.changed = true;
            }
            Config::Host { mut routes, mut host } => {
                self.names.share(&mut routes);
                self.names.share_host(&mut host);
                let routes = self.routes.entry(routes).or_default();
                routes.hosts.insert(host.host.clone(), Arc::new(host));
                routes.changed = true;
            }
        }
    }

    /// A policy that is not understood, and of which no older version is there, denies: what it lets through is not known. Rate limits
    /// that are not understood count nothing.
    fn close(&mut self, name: &str) {
        if let Some(key) =
            name.strip_prefix(&authorization_name("")).filter(|key| !self.set.authorization.contains_key(*key))
        {
            let policy = Authorization::closed(key);
            self.set.authorization.insert(policy.key.clone(), Arc::new(policy));
        } else if let Some(key) =
            name.strip_prefix(&authentication_name("")).filter(|key| !self.set.authentication.contains_key(*key))
        {
            let policy = Authentication::closed(key);
            self.set.authentication.insert(policy.key.clone(), Arc::new(policy));
        }
    }

    fn forget(&mut self, kind: Kind, name: &str) {
        if let Some(versions) = self.versions(kind) {
            versions.remove(name);
        }
        match kind {
            Kind::Endpoints => drop(self.set.endpoints.remove(name)),
            Kind::Secret => drop(self.set.secrets.remove(name)),
            Kind::Config => self.remove_config(name),
        }
    }

    fn remove_config(&mut self, name: &str) {
        if let Some(key) = name.strip_prefix(&listener_name("")) {
            self.set.listeners.remove(key);
        } else if let Some(key) = name.strip_prefix(&destination_name("")) {
            self.set.destinations.remove(key);
        } else if let Some(key) = name.strip_prefix(&authorization_name("")) {
            self.set.authorization.remove(key);
        } else if let Some(key) = name.strip_prefix(&authentication_name("")) {
            self.set.authentication.remove(key);
        } else if let Some(key) = name.strip_prefix(&rate_limits_name("")) {
            self.set.rate_limits.remove(key);
        } else if let Some(key) = name.strip_prefix(&dns_name("")) {
            self.set.dns.remove(key);
        } else if let Some(key) = name.strip_prefix(&challenge_name("")) {
            self.set.challenges.remove(key);
        } else if let Some(key) = name.strip_prefix(&routes_name("")) {
            if let Some(routes) = self.routes.get_mut(key) {
                routes.origin = None;
                routes.changed = true;
            }
        } else if let Some((key, host)) = name.strip_prefix("host/").and_then(|rest| rest.rsplit_once('/'))
            && let Some(routes) = self.routes.get_mut(key)
        {
            routes.hosts.remove(&pattern(host));
            routes.changed = true;
        }
    }
}

impl Client {
    /// A stream that goes on with what another one left.
    pub fn new(state: ClientState) -> Client {
        Client {
            state,
            destinations: Resources::new(),
            listeners: Resources::new(),
            secrets: BTreeSet::new(),
            unanswered: [BTreeSet::new(), BTreeSet::new()],
            anew: None,
            refused: Default::default(),
        }
    }

    pub fn state(&mut self) -> &mut ClientState {
        &mut self.state
    }

    /// For the next stream.
    pub fn into_state(self) -> ClientState {
        self.state
    }

    /// The first requests of a stream.
    pub fn start(&mut self, mut node: Node) -> Vec<DeltaDiscoveryRequest> {
        node.client_features.push(IN_PARTS.to_owned());
        let asked: Vec<String> = self.state.asked.iter().map(|name| format!("{ASKED}{name}")).collect();
        let mut first = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: Kind::Config.type_url().to_owned(),
            resource_names_subscribe: std::iter::once("*".to_owned()).chain(asked).collect(),
            initial_resource_versions: self.state.versions(Kind::Config).cloned().unwrap_or_default(),
            ..DeltaDiscoveryRequest::default()
        };
        self.anew = shorten(&mut first).then(HashSet::new);
        let mut requests = vec![first];
        requests.extend(self.subscriptions());
        requests
    }

    /// A configuration that was torn is whole: what the one before it had is not needed any more, and this stream may never have heard of it.
    fn forget_unwanted(&mut self) {
        let endpoints = self.state.set.endpoints.keys().filter(|key| !self.destinations.contains_key(*key));
        let secrets = self.state.set.secrets.keys().filter(|key| !self.secrets.contains(*key));
        let endpoints: Vec<Key> = endpoints.cloned().collect();
        let secrets: Vec<Key> = secrets.cloned().collect();
        for (kind, names) in [(Kind::Endpoints, endpoints), (Kind::Secret, secrets)] {
            for name in names {
                self.state.forget(kind, &name);
            }
        }
    }

    /// Whether only a part of a configuration is here: it must not be served.
    pub fn is_torn(&self) -> bool {
        self.state.torn
    }

    /// Whether the configuration names something that was asked for and not answered: better not to serve it yet.
    pub fn is_incomplete(&self) -> bool {
        self.unanswered.iter().any(|names| !names.is_empty())
    }

    /// Takes a response in. What cannot be read stays as it was and is refused by name; the rest is taken.
    pub fn on_response(&mut self, mut response: DeltaDiscoveryResponse) -> Applied {
        let Some(kind) = Kind::from_type_url(&response.type_url) else { return Applied::unknown(response) };
        let last = !response.continues;
        let mut changed: Vec<String> = Vec::new();
        let removed = self.removed(kind, &mut response);
        self.state.names.went(removed.len());
        for name in removed {
            self.answered(kind, &name);
            self.state.forget(kind, &name);
            changed.push(name);
        }
        for resource in response.resources {
            self.answered(kind, &resource.name);
            if !self.is_subscribed(kind, &resource.name) {
                // It crossed with our word that it is not needed any more.
                continue;
            }
            match self.state.put(kind, &resource) {
                Ok(()) => {
                    if let Some(versions) = self.state.versions(kind) {
                        versions.insert(resource.name.clone(), resource.version);
                    }
                    changed.push(resource.name);
                }
                Err(error) => {
                    if kind == Kind::Config {
                        self.state.close(&resource.name);
                    }
                    self.refuse(kind, resource.name, error.to_string());
                }
            }
        }
        let mut applied = Applied {
            kind: Some(kind),
            generation: response.system_version_info,
            change: Change::Nothing,
            refused: Vec::new(),
            subscriptions: Vec::new(),
            acknowledgement: None,
        };
        if last {
            applied.refused = self.refused.get_mut(kind.index()).map(std::mem::take).unwrap_or_default();
            applied.acknowledgement = Some(DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                error_detail: refusal(&applied.refused),
                ..DeltaDiscoveryRequest::default()
            });
        }
        if kind == Kind::Config {
            let begun = std::mem::replace(&mut self.state.torn, !last);
            if last {
                let first = !std::mem::replace(&mut self.state.configured, true);
                applied.subscriptions = self.subscriptions();
                if begun {
                    self.forget_unwanted();
                }
                if first || begun || !changed.is_empty() {
                    applied.change = Change::Configuration;
                }
            }
        } else if !changed.is_empty() {
            applied.change = self.change(kind, changed);
        }
        applied
    }

    /// What goes with this response.
    fn removed(&mut self, kind: Kind, response: &mut DeltaDiscoveryResponse) -> Vec<String> {
        let mut removed = std::mem::take(&mut response.removed_resources);
        if kind != Kind::Config {
            return removed;
        }
        let Some(mut sent) = self.anew.take() else { return removed };
        sent.extend(response.resources.iter().map(|resource| resource.name.clone()));
        if response.continues {
            self.anew = Some(sent);
        } else {
            let had = self.state.versions(kind).into_iter().flat_map(|versions| versions.keys());
            removed.extend(had.filter(|name| !sent.contains(*name)).cloned());
        }
        removed
    }

    fn refuse(&mut self, kind: Kind, name: String, why: String) {
        if let Some(refused) = self.refused.get_mut(kind.index()) {
            refused.push((name, why));
        }
    }

    fn change(&self, kind: Kind, changed: Vec<String>) -> Change {
        if kind != Kind::Endpoints {
            return Change::Configuration;
        }
        let endpoints = changed.into_iter().map(|name| {
            let key: Key = name.into();
            self.state.set.endpoints.get(&key).cloned().unwrap_or_else(|| {
                let origin = self.state.set.destinations.get(&key).map(|destination| destination.origin.clone());
                let origin = origin.unwrap_or_else(|| ObjectRef::new("Service", "", &key));
                Arc::new(Endpoints { key, endpoints: Vec::new(), origin })
            })
        });
        Change::Endpoints(endpoints.collect())
    }

    fn answered(&mut self, kind: Kind, name: &str) {
        if let Some(unanswered) = names(&mut self.unanswered, kind) {
            unanswered.remove(name);
        }
    }

    fn is_subscribed(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Config => true,
            Kind::Endpoints => self.destinations.contains_key(name),
            Kind::Secret => self.secrets.contains(name),
        }
    }

    /// What must be asked for, or need not be any more, since the last time.
    fn subscriptions(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let set = &self.state.set;
        let same = self.listeners.ptr_eq(&set.listeners) && self.destinations.ptr_eq(&set.destinations);
        let endpoints = self.wanted_endpoints();
        let secrets = if same { Wanted::default() } else { self.wanted_secrets() };
        let mut requests = self.subscription(Kind::Endpoints, &endpoints);
        requests.extend(self.subscription(Kind::Secret, &secrets));
        requests
    }

    fn wanted_endpoints(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        for difference in self.destinations.diff(&self.state.set.destinations) {
            match difference {
                DiffItem::Add(key, _) => wanted.news.push(key.clone()),
                DiffItem::Remove(key, _) => wanted.gone.push(key.clone()),
                DiffItem::Update { .. } => {}
            }
        }
        self.destinations = self.state.set.destinations.clone();
        wanted
    }

    fn wanted_secrets(&mut self) -> Wanted {
        self.listeners = self.state.set.listeners.clone();
        let of_servers = self.listeners.values().flat_map(|listener| secrets_of(listener));
        let of_destinations = self.destinations.values().filter_map(|destination| destination.tls.secret().cloned());
        let wanted: BTreeSet<Key> = of_servers.chain(of_destinations).collect();
        let had = std::mem::replace(&mut self.secrets, wanted);
        Wanted {
            news: self.secrets.difference(&had).cloned().collect(),
            gone: had.difference(&self.secrets).cloned().collect(),
        }
    }

    fn subscription(&mut self, kind: Kind, wanted: &Wanted) -> Vec<DeltaDiscoveryRequest> {
        let Wanted { news, gone } = wanted;
        for name in gone {
            self.state.forget(kind, name);
        }
        let had = self.state.versions.get(kind.index());
        if let Some(unanswered) = names(&mut self.unanswered, kind) {
            for name in gone {
                unanswered.remove(name);
            }
            // What is had already, from the stream before, is not waited for.
            let is_had = |name: &Key| had.is_some_and(|had| had.contains_key(&**name));
            unanswered.extend(news.iter().filter(|name| !is_had(name)).cloned());
        }
        requests_for(kind, wanted, had)
    }
}

/// Those of a kind that is subscribed to by name.
fn names(all: &mut [BTreeSet<Key>; 2], kind: Kind) -> Option<&mut BTreeSet<Key>> {
    let [endpoints, secrets] = all;
    match kind {
        Kind::Config => None,
        Kind::Endpoints => Some(endpoints),
        Kind::Secret => Some(secrets),
    }
}

fn right_name(is: &str, called: &str) -> Result<(), DecodeError> {
    if is == called { Ok(()) } else { Err(DecodeError::Misnamed(is.to_owned())) }
}

fn secrets_of(listener: &Listener) -> Vec<Key> {
    let ListenerProtocol::Tls { servers } = &listener.protocol else { return Vec::new() };
    servers.iter().flat_map(|server| server.tls.secrets()).cloned().collect()
}

/// As [`HostPattern`] is displayed.
fn pattern(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(text.into()),
    }
}

fn refusal(refused: &[(String, String)]) -> Option<Status> {
    if refused.is_empty() {
        return None;
    }
    let mut message: Vec<String> = refused.iter().take(NAMED).map(|(name, why)| format!("{name}: {why}")).collect();
    if refused.len() > NAMED {
        message.push(format!("and {} more", refused.len() - NAMED));
    }
    let details = Any { type_url: Refusal::TYPE_URL.to_owned(), value: named(refused).encode_to_vec().into() };
    Some(Status { code: REFUSED, message: message.join("; "), details: vec![details] })
}

/// As many as fit into a request, which are about a hundred thousand; and why, if that fits too.
fn named(refused: &[(String, String)]) -> Refusal {
    let with_why: usize = refused.iter().map(|(name, why)| string_len(name) + string_len(clip(why))).sum();
    let why = |why: &str| if with_why <= REQUEST_PART { clip(why).to_owned() } else { String::new() };
    let mut length = 0;
    let fits = |(name, _): &&(String, String)| {
        length += string_len(name);
        length <= REQUEST_PART
    };
    let resources = refused.iter().take_while(fits).map(|(name, reason)| (name.clone(), why(reason)));
    Refusal { resources: resources.collect() }
}

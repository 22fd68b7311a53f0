use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;

use super::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use super::*;
use crate::model::*;
use crate::object::ObjectRef;

#[path = "large_tests.rs"]
mod large;
#[path = "skew_tests.rs"]
mod skew;

fn origin(name: &str) -> ObjectRef {
    ObjectRef::new("VirtualService", "default", name)
}

fn host(name: &str, path: &str) -> Arc<VirtualHost> {
    let action = Action::Respond(DirectResponse { status: 200, body: None });
    let rule = Rule {
        source: RuleSource { object: origin(name), http: 0, r#match: Some(0) },
        name: None,
        stat_prefix: None,
        predicate: Predicate {
            path: PathMatch::Prefix { value: path.to_owned(), ignore_case: false },
            ..Predicate::default()
        },
        action: Arc::new(action),
        headers: Arc::default(),
    };
    let pattern = match name.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(name.into()),
    };
    Arc::new(VirtualHost {
        host: pattern,
        aliases: Vec::new(),
        https_redirect: false,
        rules: vec![rule],
        origin: origin(name),
    })
}

fn destination(key: &str) -> Arc<Destination> {
    Arc::new(Destination {
        key: key.into(),
        host: key.into(),
        service_name: key.into(),
        service_namespace: "default".into(),
        port: 80,
        subset: None,
        protocol: UpstreamProtocol::Http1,
        balancing: Balancing::LeastRequest,
        locality: None,
        warmup: None,
        outlier: None,
        tls: UpstreamTls::Auto,
        limits: Default::default(),
        connections: Default::default(),
        connect_timeout: std::time::Duration::from_secs(10),
        idle_timeout: std::time::Duration::from_secs(60),
        reach: Reach::Discovered,
        origin: origin(key),
        rule: None,
    })
}

fn endpoints(key: &str, ports: &[u16]) -> Arc<Endpoints> {
    let endpoint = |port: &u16| Endpoint {
        address: EndpointAddress::Socket(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))),
        weight: 1,
        locality: "".into(),
        workload: None,
        mtls: false,
        priority_labels: None,
    };
    Arc::new(Endpoints { key: key.into(), endpoints: ports.iter().map(endpoint).collect(), origin: origin(key) })
}

fn secret(key: &str, text: &str) -> Arc<Secret> {
    let secret = Secret::new(key.into(), origin(key));
    Arc::new(Secret { certificate_pem: text.to_owned(), private_key_pem: "k".to_owned(), ..secret })
}

/// A world in numbers: which hosts, with which paths; which destinations with how many endpoints; which secrets.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plan {
    hosts: BTreeMap<u8, u8>,
    destinations: BTreeMap<u8, u8>,
    secrets: BTreeMap<u8, u8>,
}

fn set(plan: &Plan) -> ResourceSet {
    const HOSTS: [&str; 4] = ["a.example", "b.example", "*.example", "*"];
    let mut set = ResourceSet::default();
    let hosts = plan.hosts.iter().filter_map(|(host_number, path)| {
        HOSTS.get(usize::from(*host_number) % HOSTS.len()).map(|name| host(name, &format!("/{path}")))
    });
    let by_pattern: BTreeMap<HostPattern, Arc<VirtualHost>> = hosts.map(|host| (host.host.clone(), host)).collect();
    let virtual_hosts: Vec<Arc<VirtualHost>> = by_pattern.into_values().collect();
    if !virtual_hosts.is_empty() {
        let key: Key = "http.80".into();
        let routes = RouteSet { key: key.clone(), virtual_hosts, tcp: Vec::new(), origin: origin("gateway") };
        set.routes.insert(key.clone(), Arc::new(routes));
        let servers = plan.secrets.keys().map(|number| TlsServer {
            hosts: vec![HostPattern::Any],
            serves: Serves::Http,
            tls: TlsTermination {
                certificates: vec![CertificateSource::Secret(format!("ns/s{number}").into())],
                ..TlsTermination::default()
            },
            routes: key.clone(),
            origin: origin("gateway"),
            server_index: 0,
        });
        let listener = Listener {
            key: "0.0.0.0:443".into(),
            address: "0.0.0.0:443".parse().unwrap(),
            port: 443,
            protocol: ListenerProtocol::Tls { servers: servers.collect() },
            path_normalization: PathNormalization::Base,
            origin: origin("gateway"),
            server: None,
        };
        set.listeners.insert(listener.key.clone(), Arc::new(listener));
        for (number, text) in &plan.secrets {
            let secret = secret(&format!("ns/s{number}"), &text.to_string());
            set.secrets.insert(secret.key.clone(), secret);
        }
        // Some of them are being ordered.
        for (number, text) in plan.secrets.iter().filter(|(_, text)| **text % 2 == 1) {
            let (key, proof): (Key, _) = (format!("ns/s{number}").into(), Proof::Handshake { digest: vec![*text; 32] });
            let challenge = Challenge { key: key.clone(), host: "a.example".into(), proof, origin: origin("s") };
            set.challenges.insert(key, Arc::new(challenge));
        }
    }
    for (number, count) in &plan.destinations {
        let key = format!("outbound|80||d{number}");
        set.destinations.insert(key.as_str().into(), destination(&key));
        let ports: Vec<u16> = (1..=u16::from(*count)).collect();
        set.endpoints.insert(key.as_str().into(), endpoints(&key, &ports));
    }
    set
}

/// Both ends and what is on the wire between them.
struct Pair {
    publication: Publication,
    published: Arc<Published>,
    old: ResourceSet,
    server: ServerStream,
    client: Client,
    up: std::collections::VecDeque<DeltaDiscoveryRequest>,
    down: std::collections::VecDeque<DeltaDiscoveryResponse>,
    sent: usize,
    part: usize,
}

impl Pair {
    fn new() -> Pair {
        Pair::with_part(PART)
    }

    fn with_part(part: usize) -> Pair {
        let mut pair = Pair {
            part,
            publication: Publication::default(),
            published: Arc::default(),
            old: ResourceSet::default(),
            server: ServerStream::default(),
            client: Client::new(ClientState::default()),
            up: Default::default(),
            down: Default::default(),
            sent: 0,
        };
        pair.connect();
        pair
    }

    /// What was under way is lost; the controller forgets everything.
    fn connect(&mut self) {
        let state = std::mem::replace(&mut self.client, Client::new(ClientState::default())).into_state();
        self.client = Client::new(state);
        self.server = ServerStream::with_part(self.part);
        self.down.clear();
        self.up = self.client.start(Node { id: "router~a".to_owned(), ..Node::default() }).into();
    }

    fn publish(&mut self, plan: &Plan) {
        let mut set = set(plan);
        set.reuse(&self.old);
        self.old = set.clone();
        let generation = self.published.generation + 1;
        self.published = self.publication.update(Arc::new(set), &ProxySettings::default(), generation).unwrap();
    }

    fn server_turn(&mut self) -> Option<Event> {
        let event = self.up.pop_front().map(|request| self.server.on_request(request).unwrap());
        let responses = self.server.poll(&self.published);
        self.sent += responses.iter().map(|response| response.resources.len()).sum::<usize>();
        self.down.extend(responses);
        event
    }

    fn client_turn(&mut self) -> Option<Applied> {
        let applied = self.client.on_response(self.down.pop_front()?);
        self.up.extend(applied.subscriptions.clone());
        self.up.extend(applied.acknowledgement.clone());
        Some(applied)
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            self.server_turn();
            while self.client_turn().is_some() {}
            if self.up.is_empty() && self.down.is_empty() {
                return;
            }
        }
        panic!("the two ends never come to rest");
    }
}

fn plan(hosts: &[(u8, u8)], destinations: &[(u8, u8)], secrets: &[(u8, u8)]) -> Plan {
    Plan {
        hosts: hosts.iter().copied().collect(),
        destinations: destinations.iter().copied().collect(),
        secrets: secrets.iter().copied().collect(),
    }
}

#[test]
fn a_proxy_gets_everything_and_then_only_what_changed() {
    let mut pair = Pair::new();
    let mut now = plan(&[(0, 1), (1, 1), (2, 1), (3, 1)], &[(1, 2), (2, 1)], &[(1, 1)]);
    pair.publish(&now);
    pair.settle();
    assert_eq!(pair.client.state().set(), set(&now));
    assert!(!pair.client.is_incomplete());
    let before = pair.sent;
    now.hosts.insert(0, 9);
    pair.publish(&now);
    pair.settle();
    assert_eq!(pair.sent - before, 1, "one virtual host");
    assert_eq!(pair.client.state().set(), set(&now));
    assert_eq!(pair.server.sync(Kind::Config).acknowledged, 2);
}

#[test]
fn an_empty_configuration_is_told_too() {
    let mut pair = Pair::new();
    pair.publish(&Plan::default());
    pair.settle();
    assert!(pair.client.state().configured());
}

#[test]
fn a_proxy_that_comes_back_is_sent_only_what_it_missed() {
    let mut pair = Pair::new();
    let mut now = plan(&[(0, 1), (1, 1)], &[(1, 2), (2, 1)], &[(1, 1)]);
    pair.publish(&now);
    pair.settle();
    let before = pair.sent;
    pair.connect();
    pair.settle();
    assert_eq!(pair.sent, before, "nothing changed");
    now.hosts.remove(&1);
    now.destinations.insert(2, 3);
    pair.publish(&now);
    pair.connect();
    pair.settle();
    assert_eq!(pair.sent - before, 1, "endpoints of one destination");
    assert_eq!(pair.client.state().set(), set(&now));
}

#[test]
fn a_slow_proxy_has_one_response_under_way() {
    let mut pair = Pair::new();
    pair.publish(&plan(&[(0, 1)], &[], &[]));
    pair.server_turn();
    for path in 2..50 {
        pair.publish(&plan(&[(0, path)], &[], &[]));
        pair.server_turn();
    }
    assert_eq!(pair.down.len(), 1);
    pair.settle();
    assert_eq!(pair.client.state().set(), set(&plan(&[(0, 49)], &[], &[])));
    assert_eq!(pair.sent, 3 + 2, "settings, listener and routes; the host twice");
}

#[test]
fn a_proxy_that_is_behind_gets_the_endpoints_of_the_configuration_it_is_at() {
    let key = |number: u8| format!("outbound|80||d{number}");
    let mut pair = Pair::new();
    pair.publish(&plan(&[(0, 1)], &[(1, 1)], &[]));
    pair.server_turn();
    pair.client_turn().unwrap();
    // By the time it asks for the endpoints, the destination is gone.
    pair.publish(&plan(&[(0, 2)], &[(2, 1)], &[]));
    while pair.down.is_empty() {
        pair.server_turn();
    }
    let response = pair.down.front().unwrap();
    let names: Vec<&str> = response.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!((names, response.removed_resources.as_slice()), (vec![key(1).as_str()], [].as_slice()));
    pair.settle();
    assert_eq!(pair.client.state().set(), set(&plan(&[(0, 2)], &[(2, 1)], &[])));
}

#[test]
fn endpoints_that_a_proxy_got_late_are_taken_away_once_it_is_up_to_date() {
    let mut pair = Pair::new();
    pair.publish(&plan(&[(0, 1)], &[(1, 1)], &[]));
    pair.server_turn();
    pair.client_turn().unwrap();
    let mut stays = set(&plan(&[(0, 1)], &[(1, 1)], &[]));
    stays.endpoints.clear();
    // The destination stays, its endpoints go.
    pair.published = pair.publication.update(Arc::new(stays.clone()), &ProxySettings::default(), 2).unwrap();
    pair.settle();
    assert_eq!(pair.client.state().set(), stays);
}

#[test]
fn new_configuration_is_incomplete_until_its_endpoints_and_secrets_are_there() {
    let mut pair = Pair::new();
    pair.publish(&plan(&[(0, 1)], &[(1, 1)], &[(1, 1)]));
    pair.server_turn();
    let applied = pair.client_turn().unwrap();
    assert_eq!((applied.kind, applied.subscriptions.len()), (Some(Kind::Config), 2));
    assert!(pair.client.is_incomplete());
    pair.settle();
    assert!(!pair.client.is_incomplete());
}

#[test]
fn what_the_configuration_in_force_names_is_not_taken_away_before_it() {
    let mut pair = Pair::new();
    pair.publish(&plan(&[(0, 1)], &[(1, 1)], &[(1, 1)]));
    pair.settle();
    pair.publish(&plan(&[(0, 2)], &[(2, 1)], &[(2, 1)]));
    pair.server_turn();
    let applied = pair.client_turn().unwrap();
    assert_eq!((applied.kind, pair.down.len()), (Some(Kind::Config), 0), "nothing is taken away before it");
    // Not acknowledged yet: what it was sent may not be in force, and what was before is in use.
    pair.up.retain(|request| request.response_nonce.is_empty());
    while !pair.up.is_empty() {
        pair.server_turn();
    }
    assert!(pair.down.iter().all(|response| response.removed_resources.is_empty()), "{:?}", pair.down);
    pair.up.extend(applied.acknowledgement);
    pair.settle();
    assert_eq!(pair.client.state().set(), set(&plan(&[(0, 2)], &[(2, 1)], &[(2, 1)])));
}

#[test]
fn what_is_gone_for_good_is_taken_away_though_it_is_named() {
    let mut pair = Pair::new();
    let there = plan(&[(0, 1)], &[(1, 1)], &[(1, 1)]);
    pair.publish(&there);
    pair.settle();
    // Its Secret is deleted: a key that was revoked must not be used on.
    let mut gone = set(&there);
    gone.secrets.clear();
    gone.reuse(&pair.old);
    pair.old = gone.clone();
    pair.published = pair.publication.update(Arc::new(gone.clone()), &ProxySettings::default(), 2).unwrap();
    pair.server_turn();
    let applied = pair.client_turn().unwrap();
    assert_eq!((applied.kind, applied.change), (Some(Kind::Secret), Change::Configuration));
    assert_eq!(pair.client.state().set(), gone);
    // Also for a proxy that was away meanwhile.
    let mut away = Pair::new();
    away.publish(&there);
    away.settle();
    away.published = pair.published.clone();
    away.connect();
    away.settle();
    assert_eq!(away.client.state().set(), gone);
}

#[test]
fn a_name_that_does_not_exist_is_answered() {
    let mut server = ServerStream::default();
    let request = DeltaDiscoveryRequest {
        type_url: Kind::Secret.type_url().to_owned(),
        resource_names_subscribe: vec!["other/secret".to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(server.on_request(request).unwrap(), Event::Subscribed(Kind::Secret));
    let responses = server.poll(&Published::default());
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].removed_resources, ["other/secret"]);
}

#[test]
fn a_nonce_that_was_never_sent_ends_the_stream() {
    let mut server = ServerStream::default();
    let request = DeltaDiscoveryRequest {
        type_url: Kind::Config.type_url().to_owned(),
        response_nonce: "7".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(server.on_request(request), Err(Violation::UnknownNonce { given: "7".to_owned() }));
}

/// What may happen.
#[derive(Clone, Debug)]
enum Happening {
    Publish(Plan),
    Server,
    Client,
    Break,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let numbers = || proptest::collection::btree_map(0_u8..4, 0_u8..4, 0..4);
    let plans = (numbers(), numbers(), numbers()).prop_map(|(hosts, destinations, secrets)| Plan {
        hosts,
        destinations,
        secrets,
    });
    let one = prop_oneof![
        3 => plans.prop_map(Happening::Publish),
        6 => Just(Happening::Server),
        6 => Just(Happening::Client),
        1 => Just(Happening::Break),
    ];
    proptest::collection::vec(one, 0..60)
}

proptest! {
    #[test]
    fn both_ends_agree_whatever_happened(happenings in happenings(), part in prop_oneof![Just(1), Just(300), Just(PART)]) {
        let mut pair = Pair::with_part(part);
        let mut plans = vec![Plan::default()];
        for happening in happenings {
            match happening {
                Happening::Publish(plan) => {
                    pair.publish(&plan);
                    plans.push(plan);
                }
                Happening::Server => drop(pair.server_turn()),
                Happening::Client => {
                    if let Some(applied) = pair.client_turn()
                        && applied.kind == Some(Kind::Config)
                        && !pair.client.is_torn()
                    {
                        let has = pair.client.state().set();
                        let was = set(&plans[applied.generation.parse::<usize>().unwrap()]);
                        prop_assert_eq!(
                            (has.listeners, has.routes, has.destinations),
                            (was.listeners, was.routes, was.destinations)
                        );
                    }
                }
                Happening::Break => pair.connect(),
            }
            let transactions = pair.down.iter().filter(|response| !response.continues).count();
            prop_assert!(transactions <= 3, "one of each kind");
        }
        let last = plans.last().unwrap();
        pair.settle();
        let mut set = set(last);
        // What nothing names is not asked for.
        if last.hosts.is_empty() {
            set.secrets.clear();
        }
        prop_assert_eq!(pair.client.state().set(), set);
        prop_assert!(!pair.client.is_incomplete());
    }
}

#[test]
fn half_of_a_transaction_is_served_when_the_other_half_is_there() {
    let mut pair = Pair::with_part(1);
    let first = plan(&[(0, 1), (1, 1)], &[(1, 1)], &[]);
    pair.publish(&first);
    pair.settle();
    let second = plan(&[(0, 2), (1, 2)], &[(1, 1)], &[]);
    pair.publish(&second);
    pair.server_turn();
    let applied = pair.client_turn().unwrap();
    assert_eq!((applied.change, applied.acknowledgement), (Change::Nothing, None));
    assert!(pair.client.is_torn());
    // The stream breaks, and what comes with the next one is nothing but the rest; or nothing at all, if that was withdrawn.
    let (mut back, state) = (first.clone(), pair.client.into_state());
    back.hosts.insert(0, 2);
    for (plan, news) in [(&second, 1), (&back, 0)] {
        let mut other = Pair::with_part(1);
        other.client = Client::new(state.clone());
        other.published = published(set(plan), 3);
        other.connect();
        assert!(other.client.is_torn());
        let before = other.sent;
        other.server_turn();
        let mut last = None;
        while let Some(applied) = other.client_turn() {
            last = Some(applied).filter(|applied| applied.kind == Some(Kind::Config)).or(last);
        }
        assert_eq!(other.sent - before, news);
        assert_eq!(last.unwrap().change, Change::Configuration);
        assert!(!other.client.is_torn());
        assert_eq!(other.client.state().set(), set(plan));
    }
}

#[test]
fn who_knows_no_parts_is_sent_the_whole() {
    let published = published(set(&plan(&[(0, 1), (1, 1)], &[(1, 1)], &[])), 1);
    for (features, transactions) in [(vec![], 1), (vec![IN_PARTS.to_owned()], 6)] {
        let mut server = ServerStream::with_part(1);
        let request = DeltaDiscoveryRequest {
            node: Some(Node { client_features: features, ..Node::default() }),
            type_url: Kind::Config.type_url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        server.on_request(request).unwrap();
        let responses = server.poll(&published);
        assert_eq!(responses.len(), transactions);
        let [parts @ .., last] = responses.as_slice() else { panic!() };
        assert!(parts.iter().all(|part| part.continues && part.nonce.is_empty()));
        assert!(!last.continues && last.nonce == "1");
    }
}

fn published(set: ResourceSet, generation: u64) -> Arc<Published> {
    Publication::default().update(Arc::new(set), &ProxySettings::default(), generation).unwrap()
}

/// What a policy lets through that is not understood is not known.
#[test]
fn a_policy_that_is_not_understood_denies() {
    let policy = |action: PolicyAction| {
        let key: Key = "default/p".into();
        let origin = ObjectRef::new("AuthorizationPolicy", "default", "p");
        Authorization { key, action, dry_run: false, rules: Vec::new(), origin }
    };
    let mut pair = Pair::new();
    let mut wanted = set(&plan(&[(0, 1)], &[], &[]));
    let allow = policy(PolicyAction::Allow);
    wanted.authorization.insert(allow.key.clone(), Arc::new(allow));
    pair.published = pair.publication.update(Arc::new(wanted.clone()), &ProxySettings::default(), 1).unwrap();
    pair.server_turn();
    let response = pair.down.front_mut().unwrap();
    let resource = response.resources.iter_mut().find(|resource| resource.name == "authorization/default/p").unwrap();
    let any = resource.resource.as_mut().unwrap();
    let text = String::from_utf8(any.value.to_vec()).unwrap();
    any.value = text.replacen("Allow", "Ponder", 1).into();
    let applied = pair.client_turn().unwrap();
    assert_eq!(applied.refused.len(), 1, "{:?}", applied.refused);
    let closed = Authorization::closed("default/p");
    assert_eq!(**pair.client.state().set().authorization.values().next().unwrap(), closed);
    // When it goes, what stood in its place goes, too.
    wanted.authorization.clear();
    pair.published = pair.publication.update(Arc::new(wanted.clone()), &ProxySettings::default(), 2).unwrap();
    pair.settle();
    assert_eq!(pair.client.state().set(), wanted);
}

#[path = "secrets_tests.rs"]
mod secrets;

//! Configurations of many resources.

use super::*;

/// A gateway of this many hosts, and a destination for each.
pub(super) fn large(hosts: usize, path: &str) -> ResourceSet {
    let host = |number| host(&format!("shop-{number:06}.customers.some-company.example.com"), path);
    let name = |number| format!("outbound|8080||checkout-{number:06}.team-0001.svc.cluster.local");
    let routes = RouteSet {
        key: "http.8080".into(),
        virtual_hosts: (0..hosts).map(host).collect(),
        tcp: Vec::new(),
        origin: ObjectRef::new("Gateway", "default", "edge"),
    };
    ResourceSet {
        routes: [(routes.key.clone(), Arc::new(routes))].into_iter().collect(),
        destinations: (0..hosts).map(|number| (Key::from(name(number)), destination(&name(number)))).collect(),
        ..ResourceSet::default()
    }
}

/// One exchange from the first requests of a stream until both ends are silent. The first requests, and how much of each kind was sent.
fn one_stream(client: &mut Client, published: &Published) -> (Vec<DeltaDiscoveryRequest>, [usize; 3]) {
    use prost::Message as _;
    let first = client.start(Node::default());
    let mut server = ServerStream::default();
    let mut requests: std::collections::VecDeque<DeltaDiscoveryRequest> = first.clone().into();
    let mut sent = [0; 3];
    while let Some(request) = requests.pop_front() {
        assert!(request.encoded_len() <= MAX_REQUEST, "{}", request.encoded_len());
        server.on_request(request).unwrap();
        for response in server.poll(published) {
            let count = response.resources.len();
            let applied = client.on_response(response);
            sent[applied.kind.unwrap().index()] += count;
            requests.extend(applied.subscriptions);
            requests.extend(applied.acknowledgement);
        }
    }
    (first, sent)
}

#[test]
fn two_hundred_thousand_long_names_are_subscribed_to_in_parts() {
    const COUNT: usize = 200_000;
    let key = |number: usize| Key::from(format!("{number:x>100}"));
    let mut set = ResourceSet {
        destinations: (0..COUNT).map(|number| (key(number), destination(&key(number)))).collect(),
        endpoints: (0..COUNT).map(|number| (key(number), endpoints(&key(number), &[1]))).collect(),
        ..ResourceSet::default()
    };
    let mut client = Client::new(ClientState::default());
    let (_, sent) = one_stream(&mut client, &published(set.clone(), 1));
    assert_eq!(sent[Kind::Endpoints.index()], COUNT);
    assert!(!client.is_incomplete());

    // On the next stream it says what it has, in parts: only what is different is sent, and what is gone goes.
    set.endpoints.insert(key(0), endpoints(&key(0), &[2]));
    set.endpoints.remove(&key(COUNT - 1));
    let mut again = Client::new(client.into_state());
    let (first, sent) = one_stream(&mut again, &published(set.clone(), 2));
    let parts: Vec<usize> = first.iter().skip(1).map(|request| request.resource_names_subscribe.len()).collect();
    assert!(parts.len() > 2 && parts.iter().sum::<usize>() == COUNT, "{parts:?}");
    assert_eq!(sent[Kind::Endpoints.index()], 1);
    assert!(!again.is_incomplete());
    assert!(again.state().set().endpoints == set.endpoints);
}

#[test]
fn the_versions_of_a_hundred_thousand_resources_fit_into_a_request() {
    use prost::Message as _;
    let published = published(large(50_000, "/"), 1);
    let mut client = Client::new(ClientState::default());
    one_stream(&mut client, &published);
    let mut again = Client::new(client.into_state());
    let requests = again.start(Node::default());
    let [config, endpoints] = &requests[..] else { panic!("{}", requests.len()) };
    assert!(config.initial_resource_versions.len() > 100_000, "{}", config.initial_resource_versions.len());
    assert!(config.encoded_len() < MAX_REQUEST, "{}", config.encoded_len());
    // These are named twice.
    assert!(endpoints.encoded_len() * 2 < MAX_REQUEST, "{}", endpoints.encoded_len());
}

#[test]
fn who_has_too_much_to_name_is_sent_everything_and_forgets_what_is_gone() {
    let hosts = 150_000;
    let mut client = Client::new(ClientState::default());
    one_stream(&mut client, &published(large(hosts, "/"), 1));
    let mut again = Client::new(client.into_state());
    let (first, _) = one_stream(&mut again, &published(large(hosts - 10, "/new"), 2));
    assert!(first[0].initial_resource_versions.is_empty());
    let set = again.state().set();
    assert_eq!(set.destinations.len(), hosts - 10);
    let virtual_hosts = &set.routes.values().next().unwrap().virtual_hosts;
    assert_eq!(virtual_hosts.len(), hosts - 10);
    let new = |host: &Arc<VirtualHost>| matches!(&host.rules[0].predicate.path, PathMatch::Prefix { value, .. } if value == "/new");
    assert!(virtual_hosts.iter().all(new));
    assert!(!again.is_incomplete());
}

//! Two ends of different versions: what one of them does not know costs nothing else.

use super::large::large;
use super::*;

/// As if the controller were of a later version: these hosts have a condition that nobody knows yet.
fn doctor(response: &mut DeltaDiscoveryResponse, is_doctored: impl Fn(&str) -> bool) {
    for resource in response.resources.iter_mut().filter(|resource| is_doctored(&resource.name)) {
        let any = resource.resource.as_mut().unwrap();
        let text = String::from_utf8(any.value.to_vec()).unwrap();
        any.value = text.replacen(r#""predicate":{"#, r#""predicate":{"weather":"fine","#, 1).into();
    }
}

fn refused(pair: &Pair) -> Vec<&str> {
    pair.server.sync(Kind::Config).refused.keys().map(String::as_str).collect()
}

const A: &str = "host/http.80/a.example";

#[test]
fn what_is_not_understood_is_refused_alone_and_keeps_its_last_good_version() {
    let mut pair = Pair::new();
    let first = plan(&[(0, 1), (1, 1)], &[(1, 1)], &[]);
    pair.publish(&first);
    pair.settle();
    pair.publish(&plan(&[(0, 2), (1, 2)], &[(1, 1)], &[]));
    let request = pair.server_turn();
    assert_eq!(request, None);
    doctor(pair.down.front_mut().unwrap(), |name| name == A);
    let applied = pair.client_turn().unwrap();
    let [(name, why)] = applied.refused.as_slice() else { panic!("{:?}", applied.refused) };
    assert_eq!(name, A);
    assert!(why.contains("weather"), "{why}");
    let Some(Event::Refused { kind: Kind::Config, generation: 2, message }) = pair.server_turn() else { panic!() };
    assert!(message.contains(A), "{message}");
    assert_eq!(pair.client.state().set(), set(&plan(&[(0, 1), (1, 2)], &[(1, 1)], &[])));
    assert_eq!(pair.server.sync(Kind::Config).refused[A], *why);
}

#[test]
fn what_was_refused_is_said_until_it_is_sent_anew_or_gone() {
    let mut pair = Pair::new();
    pair.publish(&plan(&[(0, 1), (1, 1)], &[], &[]));
    pair.server_turn();
    doctor(pair.down.front_mut().unwrap(), |name| name == A);
    pair.settle();
    assert_eq!(refused(&pair), [A]);
    // Something else is fine, which says nothing of this.
    pair.publish(&plan(&[(0, 1), (1, 2)], &[], &[]));
    pair.settle();
    assert_eq!(refused(&pair), [A]);
    // Nor does another stream: it is sent there again, for the proxy does not have it.
    pair.connect();
    pair.server_turn();
    let response = pair.down.front_mut().unwrap();
    assert_eq!(response.resources.iter().map(|resource| &*resource.name).collect::<Vec<_>>(), [A]);
    doctor(response, |name| name == A);
    pair.settle();
    assert_eq!(refused(&pair), [A]);
    pair.publish(&plan(&[(0, 3), (1, 2)], &[], &[]));
    pair.settle();
    assert_eq!(refused(&pair), [""; 0]);

    pair.publish(&plan(&[(0, 4), (1, 2)], &[], &[]));
    pair.server_turn();
    doctor(pair.down.front_mut().unwrap(), |name| name == A);
    pair.settle();
    assert_eq!(refused(&pair), [A]);
    pair.publish(&plan(&[(1, 2)], &[], &[]));
    pair.settle();
    assert_eq!(refused(&pair), [""; 0]);
}

/// A proxy that refuses all hosts of a large configuration, and the controller's end of its stream before that is told.
fn refusing(hosts: usize) -> (ServerStream, Applied) {
    let published = published(large(hosts, "/"), 1);
    let (mut server, mut client) = (ServerStream::default(), Client::new(ClientState::default()));
    for request in client.start(Node::default()) {
        server.on_request(request).unwrap();
    }
    let mut last = None;
    for mut response in server.poll(&published) {
        doctor(&mut response, |name| name.starts_with("host/"));
        last = Some(client.on_response(response));
    }
    (server, last.unwrap())
}

#[test]
fn all_that_is_refused_is_named() {
    let (mut server, applied) = refusing(500);
    assert_eq!(applied.refused.len(), 500);
    let Event::Refused { message, .. } = server.on_request(applied.acknowledgement.unwrap()).unwrap() else { panic!() };
    assert!(message.ends_with("and 480 more"), "{message}");
    assert_eq!(server.sync(Kind::Config).refused.len(), 500);
}

/// What is refused in bulk does not make a request that is too large.
#[test]
fn a_refusal_of_very_much_fits_into_a_request() {
    use prost::Message as _;
    let (mut server, applied) = refusing(100_000);
    assert_eq!(applied.refused.len(), 100_000);
    let refusal = applied.acknowledgement.unwrap();
    assert!(refusal.encoded_len() <= MAX_REQUEST, "{}", refusal.encoded_len());
    server.on_request(refusal).unwrap();
    let refused = &server.sync(Kind::Config).refused;
    assert!(refused.len() > 90_000, "{}", refused.len());
}

#[test]
fn only_what_was_sent_can_be_refused() {
    use super::super::proto::{Any, Refusal, Status};
    use prost::Message as _;
    let mut pair = Pair::new();
    pair.publish(&plan(&[(0, 1)], &[], &[]));
    pair.server_turn();
    let nonce = pair.down.front().unwrap().nonce.clone();
    let names = ["none", A].map(|name| (name.to_owned(), "x".repeat(10_000)));
    let refusal = Refusal { resources: names.into_iter().collect() };
    let details = Any { type_url: Refusal::TYPE_URL.to_owned(), value: refusal.encode_to_vec().into() };
    let request = |nonce: &str, details| DeltaDiscoveryRequest {
        type_url: Kind::Config.type_url().to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: Some(Status { code: REFUSED, message: "no".to_owned(), details }),
        ..DeltaDiscoveryRequest::default()
    };
    pair.server.on_request(request(&nonce, vec![details])).unwrap();
    assert_eq!(refused(&pair), [A]);
    assert_eq!(pair.server.sync(Kind::Config).refused[A].len(), LONGEST_REASON);

    // A proxy of the version before names what it refuses in the message alone.
    pair.publish(&plan(&[(0, 2)], &[], &[]));
    let nonce = pair.server.poll(&pair.published).pop().unwrap().nonce;
    let mut before = request(&nonce, Vec::new());
    let said = format!("none: no; {A}: this version does not know `weather`; and 3 more");
    before.error_detail.as_mut().unwrap().message = said;
    pair.server.on_request(before).unwrap();
    assert_eq!(refused(&pair), [A]);
    assert_eq!(pair.server.sync(Kind::Config).refused[A], "this version does not know `weather`");

    // One that does not say what it is about stands until the next response.
    pair.publish(&plan(&[(0, 2), (1, 1)], &[], &[]));
    let nonce = pair.server.poll(&pair.published).pop().unwrap().nonce;
    pair.server.on_request(request(&nonce, Vec::new())).unwrap();
    assert_eq!(refused(&pair), ["", A]);
    pair.publish(&plan(&[(0, 2), (1, 2)], &[], &[]));
    pair.server.poll(&pair.published);
    assert_eq!(refused(&pair), [A]);
}

#[test]
fn a_type_that_is_not_known_is_refused_and_ends_nothing() {
    let mut pair = Pair::new();
    let now = plan(&[(0, 1)], &[(1, 1)], &[]);
    pair.publish(&now);
    pair.server_turn();
    let mut later = pair.down.front().unwrap().clone();
    later.type_url = "type.googleapis.com/meshgate.v2.Weather".to_owned();
    later.nonce = "later".to_owned();
    let applied = pair.client.on_response(later.clone());
    assert_eq!((applied.kind, applied.change), (None, Change::Nothing));
    assert_eq!(applied.refused.len(), later.resources.len());
    let refusal = applied.acknowledgement.unwrap();
    assert_eq!((&refusal.type_url, &*refusal.response_nonce), (&later.type_url, "later"));
    let why = refusal.error_detail.unwrap().message;
    assert!(why.contains(&format!("{A}: this version does not know the type `{}`", later.type_url)), "{why}");

    let asks = DeltaDiscoveryRequest {
        type_url: later.type_url.clone(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(pair.server.on_request(asks), Ok(Event::Unknown(later.type_url)));
    pair.settle();
    assert_eq!(pair.client.state().set(), set(&now));
}

/// Of an older version none is better than one that counts something else.
#[test]
fn rate_limits_come_and_go_and_those_that_are_not_understood_count_nothing() {
    let limits = |name: &str| {
        let key: Key = format!("default/{name}").into();
        let origin = ObjectRef::new("RateLimit", "default", name);
        (key.clone(), Arc::new(RateLimits { key, limits: Vec::new(), origin }))
    };
    let mut pair = Pair::new();
    let mut wanted = set(&plan(&[(0, 1)], &[], &[]));
    wanted.rate_limits.extend([limits("a"), limits("b")]);
    pair.published = pair.publication.update(Arc::new(wanted.clone()), &ProxySettings::default(), 1).unwrap();
    pair.server_turn();
    let response = pair.down.front_mut().unwrap();
    let resource = response.resources.iter_mut().find(|resource| resource.name == "rate-limits/default/b").unwrap();
    let any = resource.resource.as_mut().unwrap();
    let text = String::from_utf8(any.value.to_vec()).unwrap();
    any.value = text.replacen("rate_limits", "weather", 1).into();
    let applied = pair.client_turn().unwrap();
    assert_eq!(applied.refused.len(), 1, "{:?}", applied.refused);
    wanted.rate_limits.remove("default/b");
    assert_eq!(pair.client.state().set(), wanted);
    wanted.rate_limits.clear();
    pair.published = pair.publication.update(Arc::new(wanted.clone()), &ProxySettings::default(), 2).unwrap();
    pair.settle();
    assert_eq!(pair.client.state().set(), wanted);
}

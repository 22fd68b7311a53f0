//! Proxies that ask for what they need.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::proto::{DeltaDiscoveryRequest, Node};
use super::{Client, ClientState, Kind, MAX_ASKED, Publication, Published, ServerStream};
use crate::model::{
    Key, Listener, ListenerProtocol, OnDemand, Outbound, PathNormalization, ProxySettings, ResourceSet,
};
use crate::object::ObjectRef;

/// What a class is to have whose proxies ask for these.
fn set(names: &[&str]) -> ResourceSet {
    let answered: BTreeSet<Key> = names.iter().map(|name| Key::from(*name)).collect();
    let on_demand = Some(OnDemand { answered, ..OnDemand::default() });
    let listener = Listener {
        key: "0.0.0.0:15001".into(),
        address: "0.0.0.0:15001".parse().unwrap(),
        port: 15001,
        protocol: ListenerProtocol::Outbound(Outbound { on_demand, ..Outbound::default() }),
        path_normalization: PathNormalization::Base,
        origin: ObjectRef::new("ConfigMap", "istio-system", "istio"),
        server: None,
    };
    let mut set = ResourceSet::default();
    set.listeners.insert(listener.key.clone(), Arc::new(listener));
    set
}

struct Class {
    publication: Publication,
    generation: u64,
}

impl Class {
    fn new() -> Class {
        Class { publication: Publication::default(), generation: 0 }
    }

    fn answering(&mut self, names: &[&str]) -> Arc<Published> {
        self.generation += 1;
        self.publication.update(Arc::new(set(names)), &ProxySettings::default(), self.generation).unwrap()
    }
}

fn known(client: &mut Client) -> Option<BTreeSet<Key>> {
    client.state().set().on_demand().map(|terms| terms.answered.clone())
}

/// Hands over what the server has to say, and the acknowledgement. Whether it said anything.
fn deliver(server: &mut ServerStream, client: &mut Client, published: &Published) -> bool {
    let responses = server.poll(published);
    for response in &responses {
        if let Some(request) = client.on_response(response.clone()).acknowledgement {
            server.on_request(request).unwrap();
        }
    }
    !responses.is_empty()
}

fn start(client: &mut Client) -> ServerStream {
    let mut server = ServerStream::default();
    for request in client.start(Node::default()) {
        server.on_request(request).unwrap();
    }
    server
}

#[test]
fn who_asks_is_told_when_it_is_answered_and_not_before() {
    let (mut class, mut client) = (Class::new(), Client::new(ClientState::default()));
    let mut server = start(&mut client);
    assert_eq!(server.take_asked(), None);
    assert!(deliver(&mut server, &mut client, &class.answering(&[])));

    server.on_request(client.state().ask("a".into()).unwrap()).unwrap();
    assert_eq!(client.state().ask("a".into()), None, "once is enough");
    assert_eq!(server.take_asked().cloned(), Some(BTreeSet::from(["a".into()])));
    assert_eq!(server.take_asked(), None);
    // Another change, before anybody looked.
    assert!(client.state().is_asking());
    assert!(!deliver(&mut server, &mut client, &class.answering(&[])));
    assert!(deliver(&mut server, &mut client, &class.answering(&["a", "b"])));
    assert_eq!(known(&mut client), Some(BTreeSet::from(["a".into(), "b".into()])));
    assert!(!client.state().is_asking());
}

#[test]
fn who_comes_back_keeps_what_it_asked_for() {
    let (mut class, mut client) = (Class::new(), Client::new(ClientState::default()));
    client.state().ask("a".into()).unwrap();
    let mut server = start(&mut client);
    assert_eq!(server.take_asked().cloned(), Some(BTreeSet::from(["a".into()])), "the stream begins with it");
    assert!(deliver(&mut server, &mut client, &class.answering(&["a"])));

    // A controller that starts has heard of nobody's wishes.
    let mut class = Class::new();
    let mut client = Client::new(client.into_state());
    let mut server = start(&mut client);
    assert!(!deliver(&mut server, &mut client, &class.answering(&[])), "that would take away what is in use");
    deliver(&mut server, &mut client, &class.answering(&["a"]));
    assert_eq!(known(&mut client), Some(BTreeSet::from(["a".into()])));
}

#[test]
fn of_too_many_names_the_oldest_is_given_up() {
    let (mut client, mut server) = (Client::new(ClientState::default()), ServerStream::default());
    for number in 0..=MAX_ASKED {
        server.on_request(client.state().ask(format!("n{number}").into()).unwrap()).unwrap();
    }
    let asked = server.take_asked().unwrap();
    assert_eq!(asked.len(), MAX_ASKED);
    assert!(!asked.contains("n0") && asked.contains("n1"));
    // Whoever needs it asks again.
    assert!(client.state().ask("n0".into()).is_some());
}

#[test]
fn what_is_no_name_and_what_is_too_much_is_not_answered_and_ends_nothing() {
    let mut server = ServerStream::default();
    let ask = |names: Vec<String>| DeltaDiscoveryRequest {
        type_url: Kind::Config.type_url().to_owned(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    };
    let nothing = ["", "A", "a b", "*.a", "a.", "[::1]", &"a".repeat(10_000)];
    server.on_request(ask(nothing.map(|name| format!("asked/{name}")).to_vec())).unwrap();
    assert_eq!(server.take_asked(), None);
    server.on_request(ask((0..=MAX_ASKED).map(|number| format!("asked/n{number}")).collect())).unwrap();
    assert_eq!(server.take_asked().map(BTreeSet::len), Some(MAX_ASKED));
}

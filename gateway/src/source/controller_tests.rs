use std::collections::BTreeMap;

use mesh_core::model::{
    Balancing, Destination, ProxySettings, Reach, ResourceSet, Resources, UpstreamProtocol, UpstreamTls,
};
use mesh_core::object::ObjectRef;
use mesh_core::wire::{Publication, Published, ServerStream};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::observe::{Observe, SourceLabels};

const DESTINATION: &str = "outbound|80||app.default.svc.cluster.local";

fn published(destinations: &[&str]) -> Arc<Published> {
    let destination = |key: &&str| {
        let destination = Destination {
            key: (*key).into(),
            host: "app.default.svc.cluster.local".into(),
            service_name: "app".into(),
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
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            reach: Reach::Discovered,
            origin: ObjectRef::new("Service", "default", "app"),
            rule: None,
        };
        (destination.key.clone(), Arc::new(destination))
    };
    let destinations: Resources<_> = destinations.iter().map(destination).collect();
    let set = ResourceSet { destinations, ..ResourceSet::default() };
    Publication::default().update(Arc::new(set), &ProxySettings::default(), 1).unwrap()
}

fn controller() -> (Controller, UnboundedReceiver<Update>, watch::Receiver<bool>) {
    let (updates, received) = mpsc::unbounded_channel();
    let (live, is_live) = watch::channel(false);
    let stop = watch::channel(false).1;
    let observe = Observe::new(1, &SourceLabels::of_gateway(&BTreeMap::new(), "istio-system", |_| None)).unwrap();
    let options = ControllerOptions {
        address: "127.0.0.1:15012".to_owned(),
        name: "controller.test".to_owned(),
        ca: PathBuf::new(),
        token: PathBuf::new(),
        node: Node::default(),
        asks_place: true,
    };
    let connection = ConnectionCell::new(observe.own.controller.clone());
    let asked = mpsc::unbounded_channel().1;
    (Controller { options, updates, connection, live, demand: Arc::default(), asked, stop }, received, is_live)
}

/// What a controller answers to the first requests of a stream.
fn answers(client: &mut Client, published: &Published) -> Vec<DeltaDiscoveryResponse> {
    answers_of(ServerStream::default(), client, published)
}

fn answers_of(mut server: ServerStream, client: &mut Client, published: &Published) -> Vec<DeltaDiscoveryResponse> {
    for request in client.start(Node::default()) {
        server.on_request(request).unwrap();
    }
    server.poll(published)
}

/// A store that serves what it is told: the destinations of each configuration.
async fn store(mut received: UnboundedReceiver<Update>) -> Vec<Vec<String>> {
    let mut served = Vec::new();
    while let Some(update) = received.recv().await {
        match update {
            Update::Configuration(configuration) => {
                served.push(configuration.set.destinations.keys().map(|key| key.to_string()).collect());
            }
            Update::Endpoints(_) | Update::Place(_) | Update::Ordered(_) => {}
            Update::Barrier(done) => done.send(()).unwrap(),
        }
    }
    served
}

/// One stream that breaks after the first response. Whether something was live, and what the store served.
async fn broken_after_the_first_response(destinations: &[&str], held: bool) -> (bool, Vec<Vec<String>>) {
    let published = published(destinations);
    let (mut controller, received, is_live) = controller();
    let mut client = Client::new(ClientState::default());
    let response = answers(&mut client, &published).pop().unwrap();
    let (requests, _outgoing) = mpsc::unbounded_channel();
    let mut session = Session { client: &mut client, requests, held: None, published: None, question: None };
    controller.take(&mut session, response).unwrap();
    assert_eq!((session.held.is_some(), session.published.is_some()), (held, !held));
    assert!(!*is_live.borrow());
    let store = tokio::spawn(store(received));
    controller.settle(session).await.unwrap();

    // The next stream brings nothing that would make up for it.
    let mut next = Client::new(client.into_state());
    let again = answers(&mut next, &published).pop().unwrap();
    assert_eq!(next.on_response(again).change, Change::Nothing);
    let live = *is_live.borrow();
    drop(controller);
    (live, store.await.unwrap())
}

#[tokio::test]
async fn what_waited_for_its_endpoints_is_served_when_the_stream_breaks() {
    let (live, served) = broken_after_the_first_response(&[DESTINATION], true).await;
    assert!(live);
    assert_eq!(served, [[DESTINATION]]);
}

#[tokio::test]
async fn what_was_handed_over_counts_as_live_though_the_stream_broke_meanwhile() {
    let (live, served) = broken_after_the_first_response(&[], false).await;
    assert!(live);
    assert_eq!(served, [Vec::<String>::new()]);
}

/// Names that a store was told to serve, one set after the other.
fn told(received: &mut UnboundedReceiver<Update>) -> Vec<usize> {
    let mut sets = Vec::new();
    while let Ok(update) = received.try_recv() {
        match update {
            Update::Configuration(configuration) => sets.push(configuration.set.destinations.len()),
            Update::Endpoints(_) | Update::Place(_) | Update::Ordered(_) => {}
            Update::Barrier(done) => drop(done.send(())),
        }
    }
    sets
}

#[tokio::test]
async fn half_of_a_configuration_is_never_handed_over() {
    let names: Vec<String> = (0..4).map(|number| format!("outbound|{number}||app")).collect();
    let published = published(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut controller, mut received, _) = controller();
    let mut client = Client::new(ClientState::default());
    let parts = answers_of(ServerStream::with_part(1), &mut client, &published);
    assert!(parts.len() > 4, "{}", parts.len());
    let (requests, mut sent) = mpsc::unbounded_channel();
    let mut session = Session { client: &mut client, requests, held: None, published: None, question: None };
    // The stream breaks after three parts. A change of a secret, say, waits meanwhile: it must not take the half along.
    for part in parts.into_iter().take(3) {
        controller.take(&mut session, part).unwrap();
    }
    session.held = Some(Held::new());
    controller.publish(&mut session).unwrap();
    assert!(session.held.is_some() && session.published.is_none());
    controller.settle(session).await.unwrap();
    assert!(sent.try_recv().is_err(), "nothing is acknowledged");
    assert_eq!(told(&mut received), Vec::<usize>::new());

    // The next one brings the other half.
    let mut next = Client::new(client.into_state());
    let rest = answers_of(ServerStream::with_part(1), &mut next, &published);
    let (requests, mut sent) = mpsc::unbounded_channel();
    let mut session = Session { client: &mut next, requests, held: None, published: None, question: None };
    for part in rest {
        controller.take(&mut session, part).unwrap();
    }
    assert!(session.held.is_some(), "it waits for its endpoints");
    controller.publish(&mut session).unwrap();
    assert_eq!(told(&mut received), [4]);
    in_force(&mut session.published).await;
    controller.serving(&session);
    assert_eq!(controller.connection.get().generation, "1");
    while sent.try_recv().is_ok() {}
    session.acknowledge().unwrap();
    assert!(!sent.try_recv().unwrap().response_nonce.is_empty());
    assert!(sent.try_recv().is_err(), "once");
}

//! What a route weighs at each stage, from the user's objects to the gateway's tables: live bytes of the allocator's
//! requests, so what the allocator itself keeps is not in it.

use mesh_core::api::Positions;
use mesh_core::compile::compile;
use mesh_core::model::{ProxySettings, ResourceSet};
use mesh_core::translate::Translator;
use mesh_core::wire::proto::Node;
use mesh_core::wire::{Client, ClientState, Publication, Published, ServerStream};
use mesh_core::world::World;
use meshgate_benches::crowd;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const ROUTES: usize = 5_000;

fn live() -> usize {
    dhat::HeapStats::get().curr_bytes
}

/// Prints what is more than before, for one route.
fn stage(what: &str, before: &mut usize) {
    let now = live();
    println!("{what:<40} {:>6} bytes a route", now.saturating_sub(*before) / ROUTES);
    *before = now;
}

/// A gateway that has taken in all that the controller has for it.
fn follow(published: &Published) -> ClientState {
    let (mut server, mut client) = (ServerStream::default(), Client::new(ClientState::default()));
    let mut up = client.start(Node::default());
    while !up.is_empty() {
        for request in up.drain(..) {
            assert!(server.on_request(request).is_ok());
        }
        for response in server.poll(published) {
            let applied = client.on_response(response);
            up.extend(applied.subscriptions);
            up.extend(applied.acknowledgement);
        }
    }
    client.into_state()
}

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut before = live();
    let mut objects = crowd::objects(ROUTES);
    // As those of a cluster are kept: nobody wrote their lines.
    objects.iter_mut().for_each(|object| object.positions = Positions::default());
    let world = World::from_objects(objects);
    stage("controller: objects", &mut before);
    let mut translator = Translator::new(crowd::proxy());
    translator.update(&world);
    stage("controller: translation", &mut before);
    let mut publication = Publication::default();
    let set = translator.set().clone();
    let Ok(published) = publication.update(set, &ProxySettings::default(), world.generation()) else { return };
    stage("controller: publication", &mut before);
    let mut state = follow(&published);
    stage("gateway: what the controller sent", &mut before);
    let set: ResourceSet = state.set();
    let compiled = compile(&set, None, 1);
    stage("gateway: tables", &mut before);
    assert_eq!(compiled.snapshot.clusters.len(), ROUTES);
}

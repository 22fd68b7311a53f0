//! No bytes of the other end panic either machine of the wire, and what is understood means the same after another trip.
#![no_main]

use mesh_core::wire::proto::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource};
use mesh_core::wire::{Client, ClientState, Config, Kind, Published, ServerStream, decode};
use prost::Message as _;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 3 {
        0 => request(bytes),
        1 => response(bytes),
        _ => body(bytes),
    }
});

fn request(bytes: &[u8]) {
    let Ok(request) = DeltaDiscoveryRequest::decode(bytes) else { return };
    let mut server = ServerStream::default();
    let _ = server.on_request(request.clone());
    assert!(server.poll(&Published::default()).len() <= Kind::ALL.len());
    assert!(server.poll(&Published::default()).is_empty(), "one response of a kind under way");
    let _ = server.on_request(request);
    assert!(server.poll(&Published::default()).len() <= Kind::ALL.len());
}

fn response(bytes: &[u8]) {
    let Ok(response) = DeltaDiscoveryResponse::decode(bytes) else { return };
    let mut client = Client::new(ClientState::default());
    client.start(Node::default());
    let applied = client.on_response(response.clone());
    assert_eq!(applied.acknowledgement.is_some(), !response.continues);
    assert_eq!(client.is_torn(), response.continues && applied.kind == Some(Kind::Config));
    if let Some(acknowledgement) = applied.acknowledgement {
        assert_eq!(acknowledgement.response_nonce, response.nonce);
        assert_eq!(acknowledgement.error_detail.is_some(), !applied.refused.is_empty());
    }
    let _ = client.state().set();
}

fn body(bytes: &[u8]) {
    let Ok(config) = decode::<Config>(bytes) else { return };
    let text = serde_json::to_vec(&config).expect("what was read can be written");
    assert_eq!(decode::<Config>(&text).expect("what was written can be read"), config);
    let any = Any { type_url: Kind::Config.type_url().to_owned(), value: text.into() };
    let resource = Resource { version: "1".to_owned(), resource: Some(any), name: config.name() };
    let response = DeltaDiscoveryResponse {
        type_url: Kind::Config.type_url().to_owned(),
        resources: vec![resource],
        nonce: "1".to_owned(),
        ..DeltaDiscoveryResponse::default()
    };
    let mut client = Client::new(ClientState::default());
    let applied = client.on_response(response);
    assert!(applied.refused.is_empty(), "{:?}", applied.refused);
    let _ = client.state().set();
}

//! Stands in for types of other rooms until they are here.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_core::model::{Destination, Endpoint};

pub struct ClientCodec<S>(pub S);

impl<S> ClientCodec<S> {
    pub fn new(io: S) -> Self {
        Self(io)
    }
}

pub struct LiveCluster {
    pub destination: Arc<Destination>,
    pub id: u64,
}

pub struct EndpointState {
    pub endpoint: Endpoint,
    pub address: SocketAddr,
}

impl<S> ClientCodec<S> {
    pub fn reusable(&self) -> bool {
        true
    }

    pub fn poll_idle_closed(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Pending
    }
}

//! What the users' objects mean for one proxy: API in, validated model out. The same code serves files and Kubernetes.
//!
//! Decides: selection, visibility, names, defaults, merge order, and what an object that refers to something missing
//! degrades to; every finding across objects is a diagnostic MESH01xx. Must not know: tables, sockets, how a request is
//! matched.

mod authentication;
mod authorization;
mod auto_passthrough;
mod balancing;
mod checks;
mod client_demand;
mod concerned;
mod connection_doubts;
mod connection_pool;
mod cors;
mod delegate;
mod destination_rule;
mod dns;
mod doors;
mod edge;
mod edge_tcp;
mod external_authorizer;
mod findings;
#[cfg(test)]
mod fixture;
mod gateway;
mod host_index;
mod http_action;
mod http_match;
mod inbound;
#[cfg(test)]
mod incremental_tests;
mod ingress;
mod known_host;
mod locality;
mod mesh_rules;
mod named;
mod on_demand;
mod orders;
mod origination;
mod outbound;
mod outbound_tcp;
mod outlier;
mod peer_authentication;
mod policies;
mod port_table;
mod ports;
mod rate_limit;
mod readers;
mod rule_checks;
mod rules;
mod server;
mod server_tls;
mod shadows;
mod sidecar;
mod sidecar_scope;
mod translator;
mod unconcerned;
mod virtual_hosts;
mod virtual_service;

use std::sync::Arc;

pub use concerned::{Composite, Concerned};
use findings::Findings;
use http_match::Patterns;
pub use peer_authentication::{PeerModes, peer_modes};
use sidecar_scope::Scope;
pub use translator::Translator;
pub(crate) use unconcerned::opens;
pub use unconcerned::{Unconcerned, unconcerned};
pub(crate) use virtual_service::has_lost_server;

use crate::diag::Diagnostic;
use crate::model::{Challenge, Destination, HeaderOps, ProxyInfo, ResourceSet, Resources, Secret};
use crate::world::{Reads, World};

/// What one proxy needs, and what is wrong or doubtful about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    pub set: ResourceSet,
    pub diagnostics: Vec<Diagnostic>,
}

/// The resources of `proxy`, once. A [`Translator`] follows a world.
pub fn translate(world: &World, proxy: &ProxyInfo) -> Translation {
    let mut translator = Translator::new(proxy.clone());
    translator.update(world);
    translator.into()
}

/// What the parts of a translation share, and what one of them leaves behind.
struct Context<'a> {
    world: &'a World,
    proxy: &'a ProxyInfo,
    /// What it sees; of a gateway everything that is exported to its namespace.
    scope: Arc<Scope>,
    /// What is exported to others is seen, too: no proxy is meant, but all of them.
    sees_all: bool,
    patterns: Patterns,
    no_headers: Arc<HeaderOps>,
    /// What was looked at.
    reads: Reads,
    findings: Findings,
    /// Destinations that were named and exist.
    destinations: Resources<Destination>,
    /// Secrets that were named and exist.
    secrets: Resources<Secret>,
    /// What CAs are to be shown.
    challenges: Resources<Challenge>,
}

impl<'a> Context<'a> {
    fn new(world: &'a World, proxy: &'a ProxyInfo, patterns: Patterns) -> Context<'a> {
        Context {
            world,
            proxy,
            scope: Arc::default(),
            sees_all: false,
            patterns,
            no_headers: Arc::default(),
            reads: Reads::default(),
            findings: Findings::default(),
            destinations: Resources::new(),
            secrets: Resources::new(),
            challenges: Resources::new(),
        }
    }
}

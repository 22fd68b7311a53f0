//! What the users' objects mean for one proxy: API in, validated model out. The same code serves files and Kubernetes.
//!
//! Decides: selection, visibility, names, defaults, merge order, and what an object that refers to something missing
//! degrades to; every finding across objects is a diagnostic MESH01xx. Must not know: tables, sockets, how a request is
//! matched.

mod bound;
mod checks;
mod delegate;
mod destination_rule;
mod findings;
#[cfg(test)]
mod fixture;
mod gateway;
mod http_action;
mod http_match;
#[cfg(test)]
mod incremental_tests;
mod outbound;
mod ports;
mod rules;
mod server;
mod server_tls;
mod shadows;
mod virtual_hosts;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bound::Bound;
use findings::Findings;
use http_match::Patterns;
use outbound::Destinations;

use crate::diag::Diagnostic;
use crate::model::{HeaderOps, ProxyInfo, ResourceSet, Role};
use crate::world::World;

/// What one proxy needs, and what is wrong or doubtful about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    pub set: ResourceSet,
    pub diagnostics: Vec<Diagnostic>,
}

/// The resources of `proxy`. Follow with [`ResourceSet::reuse`] to share what did not change since the last time.
pub fn translate(world: &World, proxy: &ProxyInfo) -> Translation {
    let mut context = Context {
        world,
        proxy,
        findings: Findings::new(world.diagnostics().cloned()),
        patterns: Patterns::default(),
        destinations: Destinations::default(),
        bound: HashMap::new(),
        no_headers: Arc::default(),
        set: ResourceSet::default(),
    };
    match proxy.role {
        Role::Edge => gateway::translate(&mut context),
        Role::Sidecar => {}
    }
    context.destinations.finish(&mut context.set);
    Translation { set: context.set, diagnostics: context.findings.finish() }
}

/// What the rooms of a translation share.
struct Context<'a> {
    world: &'a World,
    proxy: &'a ProxyInfo,
    findings: Findings,
    patterns: Patterns,
    destinations: Destinations,
    /// By `namespace/name` of the Gateway.
    bound: HashMap<String, Rc<Bound<'a>>>,
    no_headers: Arc<HeaderOps>,
    set: ResourceSet,
}

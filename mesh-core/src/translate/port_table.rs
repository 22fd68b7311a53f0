//! The hosts that are spoken HTTP to by one door: on one port, whatever the address, or at one address.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use super::destination_rule::IDLE_TIMEOUT;
use super::http_action::NO_RETRIES;
use super::inbound::settings_of_mesh;
use crate::model::{
    Action, Balancing, ConnectionRules, Destination, DestinationRef, DirectResponse, HostPattern, Key, Limits,
    PASSTHROUGH, Reach, UnknownDestination, UpstreamProtocol, UpstreamTls, VirtualHost,
};

#[derive(Debug, Default)]
pub(super) struct PortTable {
    hosts: BTreeMap<HostPattern, Arc<VirtualHost>>,
    /// Hosts because of which HTTP is looked for here.
    listening: usize,
    /// Those of them whose clients may wait for the server to speak.
    detecting: usize,
    /// HTTP is looked for here although no host that is here wants it: others may, which nobody asked for yet.
    assumed: bool,
}

impl PortTable {
    /// Whether it was another one, or none.
    pub fn put(&mut self, host: VirtualHost) -> bool {
        let known = self.hosts.get(&host.host).is_some_and(|known| **known == host);
        if !known {
            self.hosts.insert(host.host.clone(), Arc::new(host));
        }
        !known
    }

    /// Whether it was there.
    pub fn take(&mut self, pattern: &HostPattern) -> bool {
        self.hosts.remove(pattern).is_some()
    }

    pub fn enter(&mut self, detect: bool) {
        self.listening += 1;
        self.detecting += usize::from(detect);
    }

    pub fn leave(&mut self, detect: bool) {
        self.listening -= 1;
        self.detecting -= usize::from(detect);
    }

    pub fn assume(&mut self, assumed: bool) {
        self.assumed = assumed;
    }

    pub fn is_needed(&self) -> bool {
        self.listening > 0 || self.assumed
    }

    pub fn detects(&self) -> bool {
        self.detecting > 0 || self.listening == 0
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && !self.is_needed()
    }

    /// Sorted.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<VirtualHost>> {
        self.hosts.values()
    }

    /// Takes equal hosts in place of its own; in the order of [`PortTable::hosts`].
    pub fn adopt(&mut self, equal: &[Arc<VirtualHost>]) {
        self.hosts.values_mut().zip(equal).for_each(|(own, equal)| own.clone_from(equal));
    }
}

/// Hosts that nobody knows.
pub(super) fn unknown_hosts(context: &Context<'_>, unknown: &UnknownDestination) -> VirtualHost {
    let origin = settings_of_mesh();
    let forward =
        |key: Key| context.forward_all("allow_any", DestinationRef::Known(key), Arc::clone(&NO_RETRIES), &origin);
    let rule = match unknown {
        UnknownDestination::Passthrough => forward(PASSTHROUGH.into()),
        UnknownDestination::Proxy(key) => forward(Arc::clone(key)),
        UnknownDestination::Refuse => {
            let answer = Action::Respond(DirectResponse { status: 502, body: None });
            context.answer_all("block_all", answer, &origin)
        }
    };
    VirtualHost { host: HostPattern::Any, aliases: Vec::new(), https_redirect: false, rules: vec![rule], origin }
}

/// Where connections to nobody go whom the mesh knows.
pub(super) fn passthrough(context: &Context<'_>) -> Destination {
    let key: Key = PASSTHROUGH.into();
    Destination {
        key: Arc::clone(&key),
        host: Arc::clone(&key),
        service_name: key,
        service_namespace: "".into(),
        port: 0,
        subset: None,
        protocol: UpstreamProtocol::AsClient,
        balancing: Balancing::default(),
        locality: None,
        warmup: None,
        outlier: None,
        tls: UpstreamTls::Disable,
        limits: Limits::default(),
        connections: ConnectionRules::default(),
        connect_timeout: context.world.mesh().connect_timeout,
        idle_timeout: IDLE_TIMEOUT,
        reach: Reach::Original,
        origin: settings_of_mesh(),
        rule: None,
    }
}

//! Tunnels of destinations that HTTP rules lead to: only bytes (`tcp`, `tls`) go through them, as with Istio.

use std::collections::BTreeMap;

use crate::diag::{self, Diagnostic};
use crate::model::{Action, DestinationRef, ResourceSet};
use crate::object::ObjectRef;
use crate::world::World;

const FIELD: &str = "spec.trafficPolicy.tunnel";

pub(super) fn tunnels(world: &World, set: &ResourceSet, about: Option<&ObjectRef>) -> Vec<Diagnostic> {
    // Most configurations have none.
    if !set.destinations.values().any(|destination| destination.connections.tunnel.is_some()) {
        return Vec::new();
    }
    let mut met: BTreeMap<&ObjectRef, String> = BTreeMap::new();
    let hosts = set.routes.values().flat_map(|routes| &routes.virtual_hosts);
    for rule in hosts.flat_map(|host| &host.rules).filter(|rule| &*rule.source.object.kind == "VirtualService") {
        let Action::Forward(forward) = &*rule.action else { continue };
        for split in &forward.splits {
            let DestinationRef::Known(key) = &split.destination else { continue };
            let destination = set.destinations.get(key);
            let tunnelled = destination.filter(|destination| destination.connections.tunnel.is_some());
            if let Some(origin) = tunnelled.and_then(|destination| destination.rule.as_ref()) {
                met.entry(origin).or_insert_with(|| rule.source.to_string());
            }
        }
    }
    let meant = met.into_iter().filter(|(origin, _)| about.is_none_or(|about| about == *origin));
    let found = meant.filter_map(|(origin, rule)| {
        let entry = world.destination_rule(&origin.namespace, &origin.name)?;
        let message = format!("only bytes go through a tunnel, and the HTTP rule {rule} leads here: its requests go to the proxy as they are");
        let help = "lead there by `tls` or `tcp` rules; for HTTP, the proxy itself can be the destination";
        Some(Diagnostic::new(diag::FIELD_DOUBTFUL, message).object(origin).at(entry.position(FIELD)).field(FIELD).help(help))
    });
    found.collect()
}

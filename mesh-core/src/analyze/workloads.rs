//! Policies and rate limits that are for nobody who is known: neither the gateway that is looked at, nor a pod, nor a WorkloadEntry.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{MatchLabels, TargetReference};
use crate::diag::{self, Diagnostic};
use crate::model::{ListenerProtocol, ResourceSet};
use crate::object::ObjectRef;
use crate::world::{Entry, World, selects};

/// Gateways that are made of a Gateway API Gateway carry its name.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

pub(super) fn workloads(world: &World, set: &ResourceSet, about: Option<&ObjectRef>) -> Vec<Diagnostic> {
    let is_captured =
        |protocol: &ListenerProtocol| matches!(protocol, ListenerProtocol::Outbound(_) | ListenerProtocol::Inbound(_));
    // What is for a gateway is for no sidecar: said once, where gateways are looked at.
    if set.listeners.values().any(|listener| is_captured(&listener.protocol)) {
        return Vec::new();
    }
    let origins = set.authorization.values().map(|policy| &policy.origin);
    let origins = origins.chain(set.authentication.values().map(|policy| &policy.origin));
    let in_force: BTreeSet<&ObjectRef> = origins.chain(set.rate_limits.values().map(|limits| &limits.origin)).collect();
    let check = Check { world, about, in_force };
    let objects = world.objects();
    let authorization = objects.authorization_policies.values();
    let authorization =
        authorization.filter_map(|entry| check.found(entry, entry.spec.selector.as_ref(), entry.spec.targets()));
    let authentication = objects.request_authentications.values();
    let authentication =
        authentication.filter_map(|entry| check.found(entry, entry.spec.selector.as_ref(), entry.spec.targets()));
    let limits = objects.rate_limits.values();
    let limits =
        limits.filter_map(|entry| check.found(entry, entry.spec.selector.as_ref(), entry.spec.target_refs.iter()));
    authorization.chain(authentication).chain(limits).collect()
}

struct Check<'a> {
    world: &'a World,
    about: Option<&'a ObjectRef>,
    in_force: BTreeSet<&'a ObjectRef>,
}

impl Check<'_> {
    fn found<'e, T>(
        &self,
        entry: &Entry<T>,
        selector: Option<&MatchLabels>,
        targets: impl Iterator<Item = &'e TargetReference>,
    ) -> Option<Diagnostic> {
        let is_meant = self.about.is_none_or(|about| *about == entry.reference);
        if !is_meant || self.in_force.contains(&entry.reference) {
            return None;
        }
        let mut others = false;
        let gateways = targets.inspect(|target| others |= !target.is_gateway()).filter(|target| target.is_gateway());
        let names: Vec<&str> = gateways.map(|target| target.name.as_str()).collect();
        if others {
            // That a target of another kind has no effect is said where it stands.
            return None;
        }
        let labels = selector.map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty());
        let is_for = |own: &BTreeMap<String, String>| match own.get(GATEWAY_NAME) {
            Some(name) if !names.is_empty() => names.contains(&name.as_str()),
            _ => names.is_empty() && labels.is_none_or(|labels| selects(labels, own)),
        };
        let of_mesh = names.is_empty() && **entry.namespace() == *self.world.mesh().root_namespace;
        let is_near = |namespace: &str| of_mesh || *namespace == **entry.namespace();
        let objects = self.world.objects();
        let pods = objects.pods.values().map(|pod| (&**pod.namespace(), &pod.meta.labels));
        let entries = objects.workload_entries.values().map(|entry| (&**entry.namespace(), &entry.spec.labels));
        if pods.chain(entries).any(|(namespace, own)| is_near(namespace) && is_for(own)) {
            return None;
        }
        let where_it_is = if of_mesh { "" } else { " of its namespace" };
        let (field, message) = match (names.is_empty(), labels) {
            (false, _) => ("spec.targetRefs", "no known gateway is that of the target".to_owned()),
            (true, Some(_)) => {
                ("spec.selector.matchLabels", format!("no known workload{where_it_is} has these labels"))
            }
            // Workloads of a cluster may come later; where there are none, the gateway is the only one.
            (true, None) if !objects.pods.is_empty() => return None,
            (true, None) => (
                "metadata.namespace",
                format!("no known workload{where_it_is} is there, and the gateway is in another one"),
            ),
        };
        let help = "a policy is for workloads of its namespace, that of the root namespace (istio-system) for all; that of a gateway \
                    belongs into the gateway's namespace";
        Some(
            Diagnostic::new(diag::POLICY_WITHOUT_WORKLOAD, format!("{message}: it has no effect"))
                .object(&entry.reference)
                .at(entry.position(field))
                .field(field)
                .help(help),
        )
    }
}

#[cfg(test)]
#[path = "workloads_tests.rs"]
mod tests;

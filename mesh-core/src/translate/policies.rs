//! Which policies are for a proxy, and in which order they are looked at.

use std::sync::Arc;

use super::Context;
use super::findings::Said;
use crate::api::{MatchLabels, TargetReference};
use crate::model::{Authentication, Authorization, Destination, RateLimits, ResourceSet, Resources};
use crate::world::{Cell, Entry, Reads, selects};

/// Label of the pods of a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The policies of a proxy.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub authorization: Resources<Authorization>,
    pub authentication: Resources<Authentication>,
    pub rate_limits: Resources<RateLimits>,
    /// External authorizers.
    pub destinations: Resources<Destination>,
    pub findings: Vec<Said>,
    pub reads: Reads,
}

impl Policies {
    pub fn read(context: &mut Context<'_>) -> Policies {
        let mut policies = Policies::default();
        for namespace in namespaces(context) {
            context.reads.note(Cell::Namespace("AuthorizationPolicy", Arc::clone(&namespace)));
            for entry in context.world.authorization_policies(&namespace) {
                if is_for(context, entry, entry.spec.selector.as_ref(), entry.spec.targets()) {
                    let policy = context.authorization(entry);
                    policies.authorization.insert(Arc::clone(&policy.key), Arc::new(policy));
                }
            }
        }
        for namespace in namespaces(context) {
            context.reads.note(Cell::Namespace("RequestAuthentication", Arc::clone(&namespace)));
            for entry in context.world.request_authentications(&namespace) {
                if is_for(context, entry, entry.spec.selector.as_ref(), entry.spec.targets()) {
                    let policy = context.authentication(entry);
                    policies.authentication.insert(Arc::clone(&policy.key), Arc::new(policy));
                }
            }
        }
        for namespace in namespaces(context) {
            context.reads.note(Cell::Namespace("RateLimit", Arc::clone(&namespace)));
            for entry in context.world.rate_limits(&namespace) {
                if is_for(context, entry, entry.spec.selector.as_ref(), entry.spec.target_refs.iter()) {
                    let limits = context.rate_limits(entry);
                    policies.rate_limits.insert(Arc::clone(&limits.key), Arc::new(limits));
                }
            }
        }
        policies.destinations = std::mem::take(&mut context.destinations);
        policies.findings = context.findings.take();
        policies.reads = std::mem::take(&mut context.reads);
        policies
    }

    pub fn put(&self, set: &mut ResourceSet) {
        set.authorization.clone_from(&self.authorization);
        set.authentication.clone_from(&self.authentication);
        set.rate_limits.clone_from(&self.rate_limits);
    }
}

/// Whose policies may be for the proxy: those of the mesh, and those of its namespace.
fn namespaces(context: &Context<'_>) -> Vec<Arc<str>> {
    let root: Arc<str> = context.world.mesh().root_namespace.as_str().into();
    let own: Arc<str> = context.proxy.namespace.as_str().into();
    if root == own { vec![root] } else { vec![root, own] }
}

/// What names neither labels nor targets is for all proxies of the namespace.
fn is_for<'e, T>(
    context: &Context<'_>,
    entry: &Entry<T>,
    selector: Option<&MatchLabels>,
    targets: impl Iterator<Item = &'e TargetReference>,
) -> bool {
    let proxy = context.proxy;
    let mut targets = targets.peekable();
    if targets.peek().is_some() {
        let name = proxy.labels.get(GATEWAY_NAME);
        return *entry.reference.namespace == *proxy.namespace
            && targets.any(|target| target.is_gateway() && Some(&target.name) == name);
    }
    selector.is_none_or(|selector| selects(&selector.match_labels, &proxy.labels))
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;

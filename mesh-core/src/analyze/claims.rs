//! Rules and rate limits that ask for claims of a token at a proxy that reads no tokens.

use std::collections::BTreeSet;

use super::dead_rules::field;
use crate::diag::{self, Diagnostic};
use crate::model::{LimitKey, ResourceSet};
use crate::world::World;

const HELP: &str =
    "a RequestAuthentication with a `selector` that fits the gateway's pods, in their namespace or the root namespace";

/// Each once, wherever the rule stands.
pub(super) fn claims(world: &World, set: &ResourceSet) -> Vec<Diagnostic> {
    if !set.authentication.is_empty() {
        return Vec::new();
    }
    let hosts = set.routes.values().flat_map(|routes| &routes.virtual_hosts);
    let asking = hosts.flat_map(|host| &host.rules).filter(|rule| !rule.predicate.claims.is_empty());
    let rules: BTreeSet<_> =
        asking.map(|rule| (rule.source.object.clone(), rule.source.http, rule.source.r#match)).collect();
    let found = rules.into_iter().filter_map(|(object, http, alternative)| {
        let entry = world.virtual_service(&object.namespace, &object.name)?;
        let field = field(http, alternative);
        let message = "this asks for claims of a token, and no RequestAuthentication is for the proxy: it reads no tokens, so \
                       none of them is there";
        let diagnostic = Diagnostic::new(diag::CLAIMS_WITHOUT_AUTHENTICATION, message).object(&object);
        Some(diagnostic.at(entry.position(&field)).field(field).help(HELP))
    });
    found.chain(limits(world, set)).collect()
}

/// Rate limits that tell requests apart by claims.
fn limits(world: &World, set: &ResourceSet) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for limits in set.rate_limits.values() {
        let (namespace, name) = (&*limits.origin.namespace, &*limits.origin.name);
        let entry = world.rate_limits(namespace).find(|entry| *entry.reference.name == *name);
        for limit in &limits.limits {
            let Some(place) = limit.amount.by.iter().position(|key| matches!(key, LimitKey::Claim(_))) else {
                continue;
            };
            let field = format!("spec.limits[{}].by[{place}].claim", limit.index);
            let message = "this tells requests apart by a claim of a token, and no RequestAuthentication is for the proxy: it reads no \
                           tokens, so all requests share one bucket";
            let diagnostic = Diagnostic::new(diag::CLAIMS_WITHOUT_AUTHENTICATION, message).object(&limits.origin);
            let at = entry.and_then(|entry| entry.position(&field));
            found.push(diagnostic.at(at).field(field).help(HELP));
        }
    }
    found
}

//! Delegates: the rules of another VirtualService, spliced in under the condition of the rule that names it (`delegate`). A delegate's rule that reaches outside of that condition is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use super::findings::nearest;
use super::virtual_service::exported;
use crate::api::{Delegate, HttpMatch, HttpRoute, StringMatch, VirtualService};
use crate::diag;
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, gateway_name};

impl<'a> Context<'a> {
    /// The delegate's rules with what they inherit; they keep the delegate as their source. Missing or invisible: none.
    pub(super) fn delegated(
        &mut self,
        root: &Arc<Entry<VirtualService>>,
        http: &HttpRoute,
        delegate: &Delegate,
    ) -> Option<(&'a Arc<Entry<VirtualService>>, Vec<HttpRoute>)> {
        let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let namespace = named(&delegate.namespace).unwrap_or_else(|| root.namespace().to_string());
        let name = named(&delegate.name).unwrap_or_default();
        let field = format!("spec.http[{}].delegate", http.index);
        let world = self.world;
        self.reads.note(Cell::Object(ObjectRef::new("VirtualService", &namespace, &name)));
        let Some(entry) = world.virtual_service(&namespace, &name) else {
            let message = format!("there is no VirtualService `{namespace}/{name}`; the rule vanishes");
            self.reads.note(Cell::Namespace("VirtualService", namespace.as_str().into()));
            let names = world.virtual_services().filter(|other| **other.namespace() == *namespace);
            let help = nearest(&name, names.map(|other| &*other.reference.name));
            self.findings.report(diag::DELEGATE_UNKNOWN, root, &field, message, help);
            return None;
        };
        if !exported(world, entry).allows(root.namespace()) {
            let message = format!("VirtualService `{namespace}/{name}` is not exported to `{}`", root.namespace());
            self.findings.report(diag::DELEGATE_UNKNOWN, root, &field, message, None);
            return None;
        }
        let root_matches: Vec<HttpMatch> = http.r#match.iter().map(|condition| absolute(condition, root)).collect();
        let mut routes = Vec::with_capacity(entry.spec.http.len());
        for own in &entry.spec.http {
            match join_matches(&root_matches, &own.r#match) {
                Some(matches) => routes.push(inherit(http, own, matches)),
                None => {
                    let message = format!(
                        "its conditions reach outside of those of {} spec.http[{}]",
                        root.reference, http.index
                    );
                    let help = "conditions of a delegate must be within those of the rule that names it".to_owned();
                    let place = format!("spec.http[{}].match", own.index);
                    self.findings.report(diag::RULE_UNREACHABLE, entry, &place, message, Some(help));
                }
            }
        }
        Some((entry, routes))
    }
}

/// Names of Gateways mean those of the namespace in which they were written.
fn absolute(condition: &HttpMatch, entry: &Entry<VirtualService>) -> HttpMatch {
    let gateways = condition.gateways.iter().map(|name| gateway_name(name, entry.namespace())).collect();
    HttpMatch { gateways, ..condition.clone() }
}

/// What the delegate says counts; what it leaves open is the root's.
fn inherit(root: &HttpRoute, own: &HttpRoute, matches: Vec<HttpMatch>) -> HttpRoute {
    HttpRoute {
        name: join_names(root.name.as_deref(), own.name.as_deref()),
        r#match: matches,
        rewrite: own.rewrite.clone().or_else(|| root.rewrite.clone()),
        timeout: own.timeout.or(root.timeout),
        retries: own.retries.clone().or_else(|| root.retries.clone()),
        fault: own.fault.clone().or_else(|| root.fault.clone()),
        mirror: own.mirror.clone().or_else(|| root.mirror.clone()),
        mirror_percent: own.mirror_percent.or(root.mirror_percent),
        mirror_percentage: own.mirror_percentage.or(root.mirror_percentage),
        mirrors: if own.mirrors.is_empty() { root.mirrors.clone() } else { own.mirrors.clone() },
        cors_policy: own.cors_policy.clone().or_else(|| root.cors_policy.clone()),
        headers: own.headers.clone().or_else(|| root.headers.clone()),
        ..own.clone()
    }
}

fn join_names(root: Option<&str>, own: Option<&str>) -> Option<String> {
    let filled = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    match (filled(root), filled(own)) {
        (Some(root), Some(own)) => Some(format!("{root}-{own}")),
        (root, own) => own.or(root),
    }
}

/// Every condition of the delegate joined with every one of the root that has room for it. None: one of them fits nowhere.
fn join_matches(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() {
        return Some(own.to_vec());
    }
    if own.is_empty() {
        return Some(root.to_vec());
    }
    let mut joined = Vec::new();
    for inner in own {
        let before = joined.len();
        joined.extend(root.iter().filter(|outer| contains(outer, inner)).map(|outer| join(outer, inner)));
        if joined.len() == before {
            return None;
        }
    }
    Some(joined)
}

fn join(outer: &HttpMatch, inner: &HttpMatch) -> HttpMatch {
    fn both<T: Clone>(outer: &BTreeMap<String, T>, inner: &BTreeMap<String, T>) -> BTreeMap<String, T> {
        let mut all = outer.clone();
        all.extend(inner.iter().map(|(key, value)| (key.clone(), value.clone())));
        all
    }
    let string = |inner: &Option<StringMatch>, outer: &Option<StringMatch>| inner.clone().or_else(|| outer.clone());
    HttpMatch {
        name: join_names(outer.name.as_deref(), inner.name.as_deref()),
        uri: string(&inner.uri, &outer.uri),
        ignore_uri_case: inner.ignore_uri_case,
        scheme: string(&inner.scheme, &outer.scheme),
        method: string(&inner.method, &outer.method),
        authority: string(&inner.authority, &outer.authority),
        headers: both(&outer.headers, &inner.headers),
        without_headers: both(&outer.without_headers, &inner.without_headers),
        query_params: both(&outer.query_params, &inner.query_params),
        port: inner.port.or(outer.port),
        gateways: if inner.gateways.is_empty() { outer.gateways.clone() } else { inner.gateways.clone() },
        source_labels: both(&outer.source_labels, &inner.source_labels),
        source_namespace: inner.source_namespace.clone().or_else(|| outer.source_namespace.clone()),
        stat_prefix: inner.stat_prefix.clone().or_else(|| outer.stat_prefix.clone()),
    }
}

/// Whether the outer condition has room for the inner one.
fn contains(outer: &HttpMatch, inner: &HttpMatch) -> bool {
    let strings = [
        (&outer.uri, &inner.uri),
        (&outer.scheme, &inner.scheme),
        (&outer.method, &inner.method),
        (&outer.authority, &inner.authority),
    ];
    let maps = [
        (&outer.headers, &inner.headers),
        (&outer.without_headers, &inner.without_headers),
        (&outer.query_params, &inner.query_params),
    ];
    let same_case = outer.ignore_uri_case == Some(true);
    strings.iter().all(|(outer, inner)| string_contains(outer.as_ref(), inner.as_ref()))
        && maps
            .iter()
            .all(|(outer, inner)| inner.iter().all(|(key, value)| string_contains(outer.get(key), Some(value))))
        && same_case == (inner.ignore_uri_case == Some(true))
        && (outer.port.is_none() || inner.port.is_none() || outer.port == inner.port)
        && (outer.source_namespace.is_none() || outer.source_namespace == inner.source_namespace)
        && inner.source_labels.iter().all(|(key, value)| outer.source_labels.get(key).is_none_or(|own| own == value))
        && (outer.gateways.is_empty() || inner.gateways.iter().all(|gateway| outer.gateways.contains(gateway)))
}

/// A regular expression has no room for anything, and fits nowhere: nobody can tell.
fn string_contains(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> bool {
    match (outer, inner) {
        (None | Some(StringMatch::Present), _) | (_, None | Some(StringMatch::Present)) => true,
        (Some(StringMatch::Regex(_)), _) | (_, Some(StringMatch::Regex(_))) => false,
        (Some(StringMatch::Exact(outer)), Some(StringMatch::Exact(inner))) => outer == inner,
        (Some(StringMatch::Exact(_)), Some(StringMatch::Prefix(_))) => false,
        (Some(StringMatch::Prefix(outer)), Some(StringMatch::Exact(inner) | StringMatch::Prefix(inner))) => {
            inner.starts_with(outer.as_str())
        }
    }
}

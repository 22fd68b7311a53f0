//! The rules of one VirtualService at one Gateway, or in the mesh, and port: which match entries apply there, and where the rules behind a
//! catch-all end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use super::http_match::NeverMatches;
use crate::api::{HttpMatch, HttpRoute, VirtualService};
use crate::diag;
use crate::model::{Action, HeaderOps, PathMatch, Predicate, Rule, RuleSource};
use crate::world::{Entry, gateway_name, selects};

/// What the alternatives of a rule share.
pub(super) type Effect = (Arc<Action>, Arc<HeaderOps>);

#[derive(Debug)]
pub(super) struct Rules {
    pub entry: Arc<Entry<VirtualService>>,
    /// In the order in which they are tried.
    pub ordinary: Vec<Rule>,
    /// Tried after the ordinary rules of all VirtualServices of the host.
    pub catch_all: Option<Rule>,
    /// A rule was left out because it can never match: the host is still there, to answer 404.
    pub broken: bool,
}

impl Rules {
    /// Nothing applies here: the VirtualService does not open the host.
    pub fn is_empty(&self) -> bool {
        self.ordinary.is_empty() && self.catch_all.is_none() && !self.broken
    }

    /// In the order in which they are tried, if those of no other VirtualService are.
    pub fn all(&self) -> Vec<Rule> {
        self.ordinary.iter().chain(&self.catch_all).cloned().collect()
    }

    /// Whether a rule is the VirtualService's own, not a delegate's.
    pub fn has_own(&self) -> bool {
        self.ordinary.iter().chain(&self.catch_all).any(|rule| rule.source.object == self.entry.reference)
    }
}

/// Conditions that do not depend on what is asked, of a rule of any protocol.
pub(super) struct Place<'m> {
    pub port: Option<u32>,
    pub gateways: &'m [String],
    pub source_labels: &'m BTreeMap<String, String>,
    pub source_namespace: Option<&'m str>,
}

impl<'m> Place<'m> {
    fn of(condition: &'m HttpMatch) -> Place<'m> {
        Place {
            port: condition.port,
            gateways: &condition.gateways,
            source_labels: &condition.source_labels,
            source_namespace: condition.source_namespace.as_deref(),
        }
    }
}

impl Context<'_> {
    pub(super) fn rules(&mut self, entry: &Arc<Entry<VirtualService>>, gateway: &str, port: u16) -> Rules {
        // All rules were refused by the parser: the host is there, but nothing of it.
        let broken = entry.spec.http.is_empty() && entry.positions.has("spec.http");
        let mut rules = Rules { entry: Arc::clone(entry), ordinary: Vec::new(), catch_all: None, broken };
        let mut everywhere = false;
        for http in &entry.spec.http {
            if rules.catch_all.is_some() {
                if everywhere {
                    self.unreachable(&rules, entry, &format!("spec.http[{}]", http.index));
                }
                continue;
            }
            let own = http.route.is_empty() && http.redirect.is_none() && http.direct_response.is_none();
            match http.delegate.as_ref().filter(|_| own) {
                None => everywhere = self.rule(&mut rules, entry, http, gateway, port),
                Some(delegate) => {
                    let Some((source, routes)) = self.delegated(entry, http, delegate) else { continue };
                    everywhere = false;
                    for http in routes.iter() {
                        if rules.catch_all.is_none() {
                            everywhere = self.rule(&mut rules, source, http, gateway, port);
                        }
                    }
                }
            }
        }
        rules
    }

    /// One Rule per match entry; they share action and headers. Whether it ended in a catch-all that holds at every gateway
    /// and port.
    fn rule(
        &mut self,
        rules: &mut Rules,
        entry: &Arc<Entry<VirtualService>>,
        http: &HttpRoute,
        gateway: &str,
        port: u16,
    ) -> bool {
        let mut effect: Option<Result<Effect, NeverMatches>> = None;
        let mut everywhere = false;
        let without = [None];
        let matches: Vec<Option<&HttpMatch>> = http.r#match.iter().map(Some).collect();
        let matches = if matches.is_empty() { without.as_slice() } else { matches.as_slice() };
        for (index, condition) in matches.iter().enumerate() {
            let field = format!("spec.http[{}].match[{index}]", http.index);
            if rules.catch_all.is_some() {
                if everywhere {
                    self.unreachable(rules, entry, &field);
                }
                continue;
            }
            if condition.is_some_and(|condition| !self.applies(&Place::of(condition), entry, gateway, port)) {
                continue;
            }
            let predicate = match condition.map(|condition| self.predicate(entry, condition, &field)) {
                None => Predicate::default(),
                Some(Ok(predicate)) => predicate,
                Some(Err(NeverMatches)) => {
                    rules.broken = true;
                    continue;
                }
            };
            let Ok((action, headers)) = effect.get_or_insert_with(|| self.effect(entry, http, port)) else {
                rules.broken = true;
                continue;
            };
            let rule = Rule {
                source: RuleSource {
                    object: entry.reference.clone(),
                    http: u32::try_from(http.index).unwrap_or(u32::MAX),
                    r#match: condition.and_then(|_| u32::try_from(index).ok()),
                },
                name: name(http, *condition),
                stat_prefix: condition.and_then(stat_prefix),
                predicate,
                action: Arc::clone(action),
                headers: Arc::clone(headers),
            };
            if is_catch_all(&rule.predicate) {
                everywhere = condition.is_none_or(unfiltered);
                rules.catch_all = Some(rule);
            } else {
                rules.ordinary.push(rule);
            }
        }
        everywhere
    }

    /// `match.gateways`, `port`, `sourceLabels`, `sourceNamespace` are settled here. With `gateways` set, the source
    /// conditions are not looked at.
    pub(super) fn applies(&self, place: &Place<'_>, entry: &Entry<VirtualService>, gateway: &str, port: u16) -> bool {
        if place.port.is_some_and(|wanted| wanted != 0 && wanted != u32::from(port)) {
            return false;
        }
        if !place.gateways.is_empty() {
            return place.gateways.iter().any(|name| gateway_name(name, entry.namespace()) == gateway);
        }
        let namespace = place.source_namespace.unwrap_or_default();
        selects(place.source_labels, &self.proxy.labels) && (namespace.is_empty() || namespace == self.proxy.namespace)
    }

    fn unreachable(&mut self, rules: &Rules, entry: &Entry<VirtualService>, field: &str) {
        let Some(winner) = &rules.catch_all else { return };
        let message = format!("rule {} answers every request before this one", winner.source);
        let help = "move it before that rule, or remove it".to_owned();
        self.findings.report(diag::RULE_UNREACHABLE, entry, field, message, Some(help));
    }
}

fn unfiltered(condition: &HttpMatch) -> bool {
    condition.gateways.is_empty()
        && condition.port.is_none()
        && condition.source_labels.is_empty()
        && condition.source_namespace.is_none()
}

/// `<route>.<match>`
fn name(http: &HttpRoute, condition: Option<&HttpMatch>) -> Option<Arc<str>> {
    let route = http.name.as_deref().unwrap_or_default();
    match condition.and_then(|condition| condition.name.as_deref()).filter(|name| !name.is_empty()) {
        Some(name) => Some(format!("{route}.{name}").into()),
        None => (!route.is_empty()).then(|| route.into()),
    }
}

/// Requests are counted by it.
fn stat_prefix(condition: &HttpMatch) -> Option<Arc<str>> {
    condition.stat_prefix.as_deref().filter(|prefix| !prefix.is_empty()).map(Into::into)
}

/// Every path, and no other condition.
fn is_catch_all(predicate: &Predicate) -> bool {
    let path = match &predicate.path {
        PathMatch::Any => true,
        PathMatch::Prefix { value, .. } => value == "/",
        PathMatch::Regex(regex) => regex == ".*",
        PathMatch::Exact { .. } => false,
    };
    path && predicate.method.is_none()
        && predicate.scheme.is_none()
        && predicate.authority.is_none()
        && predicate.headers.is_empty()
        && predicate.query.is_empty()
        && predicate.claims.is_empty()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;

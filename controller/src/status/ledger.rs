//! Since when each class of proxies has had which generation of an object. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::ListenerProtocol;
use mesh_core::object::ObjectRef;
use mesh_core::translate::Composite;
use mesh_core::wire::Kind;

use super::writer::KINDS;
use super::{Finding, Progress, RefusedBy};
use crate::kube::{ClassState, Survey};
use crate::push::ProxyStatus;

#[derive(Default)]
pub struct Ledger {
    /// By number of the class.
    classes: HashMap<u64, Held>,
}

struct Held {
    state: Arc<ClassState>,
    objects: BTreeMap<ObjectRef, Since>,
}

/// A `metadata.generation`, and the first publication that is known to hold it.
#[derive(Clone, Copy)]
struct Since {
    generation: i64,
    publication: u64,
}

impl Ledger {
    /// Takes in what the classes are to have now. What happened between two calls counts as of the later: an object is never
    /// taken to be there too early.
    pub fn update(&mut self, survey: &Survey) {
        self.classes.retain(|number, _| survey.classes.iter().any(|state| state.class == *number));
        for state in &survey.classes {
            match self.classes.get_mut(&state.class) {
                Some(held) if Arc::ptr_eq(&held.state, state) => {}
                Some(held) => *held = Held::of(state, Some(held)),
                None => drop(self.classes.insert(state.class, Held::of(state, None))),
            }
        }
    }

    /// How far each object is that is looked at. Of others, which may be another control plane's, nothing is said.
    #[must_use]
    pub fn count(&self, survey: &Survey, proxies: &[ProxyStatus]) -> Vec<Progress> {
        let mut findings = findings(survey);
        let refusals = self.refusals(proxies);
        let objects = survey
            .observed
            .iter()
            .filter(|(object, _)| KINDS.contains(&&*object.kind) && !survey.hidden.contains(&object.namespace));
        objects
            .map(|(object, generation)| {
                let mut progress = Progress {
                    object: object.clone(),
                    generation: *generation,
                    stale: survey.stale.contains(object),
                    proxies: 0,
                    programmed: 0,
                    refused: Vec::new(),
                    findings: findings.remove(object).unwrap_or_default(),
                    unconcerned: None,
                };
                for proxy in proxies {
                    let held = self.classes.get(&proxy.class);
                    if let Some(since) = held.and_then(|held| held.objects.get(object)) {
                        count(&mut progress, proxy, *since, refusals.get(&(proxy.name.as_str(), object)).copied());
                    }
                }
                progress.refused.sort();
                progress
            })
            .collect()
    }

    /// Why proxies do not have what objects make. What was refused once is not in force until it is sent in another version,
    /// whatever was acknowledged meanwhile.
    fn refusals<'a>(&'a self, proxies: &'a [ProxyStatus]) -> HashMap<(&'a str, &'a ObjectRef), &'a str> {
        let mut refusals = HashMap::new();
        for proxy in proxies.iter().filter(|proxy| proxy.kinds.values().any(|status| !status.refused.is_empty())) {
            let Some(held) = self.classes.get(&proxy.class) else { continue };
            each_resource(&held.state, |kind, name, origins| {
                let status = proxy.kinds.get(&kind).filter(|status| !status.refused.is_empty());
                let Some(why) = status.and_then(|status| status.refused.get(&name())) else { return };
                refusals.extend(origins.iter().map(|origin| ((proxy.name.as_str(), *origin), why.as_str())));
            });
        }
        refusals
    }
}

fn count(progress: &mut Progress, proxy: &ProxyStatus, since: Since, refusal: Option<&str>) {
    progress.proxies += 1;
    if let Some(why) = refusal {
        progress.refused.push(RefusedBy { proxy: proxy.name.clone(), message: why.to_owned() });
        return;
    }
    let mut kinds = proxy.kinds.values().filter(|status| status.subscribed);
    let told = proxy.kinds.get(&Kind::Config).is_some_and(|status| status.subscribed);
    let current = since.generation == progress.generation;
    if current && !progress.stale && told && kinds.all(|status| status.acknowledged >= since.publication) {
        progress.programmed += 1;
    }
}

impl Held {
    fn of(state: &Arc<ClassState>, before: Option<&Held>) -> Held {
        let mut objects = BTreeMap::new();
        let mut note = |object: &ObjectRef| {
            if objects.contains_key(object) {
                return;
            }
            let had = before.and_then(|held| held.objects.get(object)).copied();
            let since = match state.observed.get(object).copied() {
                Some(generation) => had
                    .filter(|since| since.generation == generation)
                    .unwrap_or(Since { generation, publication: state.generation }),
                // Its new version waits for what it names: the one before is in force.
                None => match had {
                    Some(had) => had,
                    None => return,
                },
            };
            objects.insert(object.clone(), since);
        };
        each_resource(state, |_, _, origins| origins.iter().for_each(|origin| note(origin)));
        Held { state: state.clone(), objects }
    }
}

/// Every resource of a class: its name on the wire, and the objects that it comes from; some twice, with different objects.
fn each_resource<'s>(state: &'s ClassState, mut each: impl FnMut(Kind, &dyn Fn() -> String, &[&'s ObjectRef])) {
    let ClassState { set, concerned, .. } = state;
    for (composite, objects) in concerned {
        let name = || match composite {
            Composite::Routes(key) => format!("routes/{key}"),
            Composite::Host(key, host) => format!("host/{key}/{host}"),
            Composite::Destination(key) => format!("destination/{key}"),
            Composite::Listener(key) => format!("listener/{key}"),
        };
        each(Kind::Config, &name, &objects.iter().collect::<Vec<_>>());
    }
    for (key, listener) in &set.listeners {
        let mut origins = vec![&listener.origin];
        match &listener.protocol {
            ListenerProtocol::Tls { servers } => {
                origins.extend(servers.iter().map(|server| &server.origin));
                for server in servers {
                    for key in server.tls.secrets() {
                        each(Kind::Secret, &|| key.to_string(), &[&server.origin]);
                    }
                }
            }
            ListenerProtocol::Outbound(outbound) => origins.extend(outbound.tcp.iter().map(|tcp| &tcp.origin)),
            ListenerProtocol::Http { .. } | ListenerProtocol::Tcp { .. } | ListenerProtocol::Inbound(_) => {}
        }
        each(Kind::Config, &|| format!("listener/{key}"), &origins);
    }
    for (key, routes) in &set.routes {
        let mut origins = vec![&routes.origin];
        origins.extend(routes.tcp.iter().map(|route| &route.origin));
        origins.dedup();
        each(Kind::Config, &|| format!("routes/{key}"), &origins);
        for host in &routes.virtual_hosts {
            let mut origins = vec![&host.origin];
            origins.extend(host.rules.iter().map(|rule| &rule.source.object));
            origins.dedup();
            each(Kind::Config, &|| format!("host/{key}/{}", host.host), &origins);
        }
    }
    for (key, destination) in &set.destinations {
        let origins: Vec<&ObjectRef> = std::iter::once(&destination.origin).chain(&destination.rule).collect();
        each(Kind::Config, &|| format!("destination/{key}"), &origins);
    }
    for (key, policy) in &set.authorization {
        each(Kind::Config, &|| format!("authorization/{key}"), &[&policy.origin]);
    }
    for (key, policy) in &set.authentication {
        each(Kind::Config, &|| format!("authentication/{key}"), &[&policy.origin]);
    }
    for (key, limits) in &set.rate_limits {
        each(Kind::Config, &|| format!("rate-limits/{key}"), &[&limits.origin]);
    }
    for (key, endpoints) in &set.endpoints {
        each(Kind::Endpoints, &|| key.to_string(), &[&endpoints.origin]);
    }
}

/// By object, errors first.
fn findings(survey: &Survey) -> BTreeMap<ObjectRef, Vec<Finding>> {
    let of_classes = survey.classes.iter().flat_map(|state| state.diagnostics.iter());
    let all: BTreeSet<&Diagnostic> = survey.found.iter().chain(of_classes).collect();
    let mut by_object: BTreeMap<ObjectRef, Vec<Finding>> = BTreeMap::new();
    for diagnostic in all {
        // That a Gateway is for other proxies than these is nothing to tell.
        let Some(object) = diagnostic.object.as_ref().filter(|_| diagnostic.code != diag::GATEWAY_NOT_SELECTED.id)
        else {
            continue;
        };
        by_object.entry(object.clone()).or_default().push(diagnostic.into());
    }
    for findings in by_object.values_mut() {
        findings.sort_by(|a, b| a.rank().cmp(&b.rank()));
    }
    by_object
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

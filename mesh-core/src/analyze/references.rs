//! What VirtualServices refer to, whoever follows them. A translation looks at what its proxy has; rules of the mesh, of a gateway
//! that is not asked, and of delegates are looked at here as somebody in their own namespace sees the others.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::api::{Destination, Gateway, VirtualService};
use crate::diag::{self, Code, Diagnostic};
use crate::object::ObjectRef;
use crate::translate::{has_lost_server, opens};
use crate::world::{Entry, ExportTo, MESH, Service, World, gateway_name, hostname, selects};

/// `said`: what is known already, which is not said again.
pub(super) fn references(world: &World, said: &[Diagnostic]) -> Vec<Diagnostic> {
    let known: HashSet<(&ObjectRef, &str)> =
        said.iter().filter_map(|one| Some((one.object.as_ref()?, one.field.as_str()))).collect();
    let mut found = Vec::new();
    for entry in world.virtual_services() {
        let mut of_entry = Findings { entry, known: &known, found: &mut found };
        gateways(world, &mut of_entry);
        for (field, destination) in destinations(&entry.spec) {
            look_at(world, &field, destination, &mut of_entry);
        }
    }
    found
}

struct Findings<'a> {
    entry: &'a Entry<VirtualService>,
    known: &'a HashSet<(&'a ObjectRef, &'a str)>,
    found: &'a mut Vec<Diagnostic>,
}

impl Findings<'_> {
    /// Unless something was said of the field, or of one of `others`.
    fn say(&mut self, code: Code, field: String, others: &[&str], message: String, help: Option<String>) {
        let is_known = |field: &str| self.known.contains(&(&self.entry.reference, field));
        if is_known(&field) || others.iter().any(|other| is_known(other)) {
            return;
        }
        let diagnostic = Diagnostic::new(code, message).object(&self.entry.reference).at(self.entry.position(&field));
        let diagnostic = diagnostic.field(field);
        self.found.push(match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        });
    }
}

fn gateways(world: &World, findings: &mut Findings<'_>) {
    let entry = findings.entry;
    for (index, written) in entry.spec.gateways.iter().enumerate().filter(|(_, written)| *written != MESH) {
        let name = gateway_name(written, entry.namespace());
        let gateway = name.split_once('/').and_then(|(namespace, name)| world.gateway(namespace, name));
        let field = format!("spec.gateways[{index}]");
        match gateway {
            None => {
                let message = format!("there is no Gateway `{name}`; the rules do not apply there");
                findings.say(diag::GATEWAY_UNKNOWN, field, &[], message, None);
            }
            Some(gateway) if !entry.spec.hosts.is_empty() && !opens(gateway, entry) && !has_lost_server(gateway) => {
                let hosts = entry.spec.hosts.join(", ");
                let message =
                    format!("no server of Gateway `{name}` opens {hosts} to namespace `{}`", entry.namespace());
                let help = "add a host to a server of the Gateway, or correct it here".to_owned();
                let hosts: Vec<String> =
                    (0..entry.spec.hosts.len()).map(|host| format!("spec.hosts[{host}]")).collect();
                let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
                findings.say(diag::HOST_NOT_IN_GATEWAY, field, &hosts, message, Some(help));
            }
            Some(_) => {}
        }
    }
}

/// All of them, with where they stand.
fn destinations(spec: &VirtualService) -> Vec<(String, &Destination)> {
    let mut all = Vec::new();
    for rule in &spec.http {
        let at = format!("spec.http[{}]", rule.index);
        let routes = rule.route.iter().enumerate();
        all.extend(routes.map(|(number, one)| (format!("{at}.route[{number}].destination"), &one.destination)));
        all.extend(rule.mirror.iter().map(|mirror| (format!("{at}.mirror"), &**mirror)));
        let mirrors = rule.mirrors.iter().enumerate();
        all.extend(mirrors.map(|(number, one)| (format!("{at}.mirrors[{number}].destination"), &one.destination)));
    }
    let tls = spec.tls.iter().map(|rule| ("tls", rule.index, &rule.route));
    for (list, index, routes) in tls.chain(spec.tcp.iter().map(|rule| ("tcp", rule.index, &rule.route))) {
        let routes = routes.iter().enumerate();
        all.extend(
            routes.map(|(number, one)| (format!("spec.{list}[{index}].route[{number}].destination"), &one.destination)),
        );
    }
    all
}

fn look_at(world: &World, at: &str, destination: &Destination, findings: &mut Findings<'_>) {
    let namespace = findings.entry.namespace();
    let host = hostname::expand(&destination.host, namespace);
    let field = format!("{at}.host");
    if destination.host.is_empty() {
        return;
    }
    // Whoever is to follow the rules must see it.
    let seen: Vec<Option<&Service>> =
        followers(world, findings.entry).iter().map(|follower| service(world, &host, namespace, follower)).collect();
    let subset = destination.subset.as_deref().filter(|subset| !subset.is_empty());
    if let Some(subset) = subset.filter(|subset| !is_defined(world, &host, subset, &seen, findings.entry)) {
        let message = format!("no DestinationRule that somebody here gets defines the subset `{subset}` of `{host}`");
        findings.say(diag::DESTINATION_SUBSET_UNKNOWN, format!("{at}.subset"), &[&field], message, None);
    }
    let Some(service) = seen.into_iter().collect::<Option<Vec<_>>>().and_then(|seen| seen.first().copied()) else {
        let there = world.index().registry.any_matches(&host);
        let help =
            there.then(|| "it exists, but is not exported to all namespaces where the rules are followed".to_owned());
        let message = match destination.host == host {
            true => format!("no Service or ServiceEntry is called `{host}`"),
            false => format!("`{}` is `{host}`, and no Service or ServiceEntry is called so", destination.host),
        };
        return findings.say(diag::DESTINATION_HOST_UNKNOWN, field, &[], message, help);
    };
    let has: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
    let ports = has.join(", ");
    match destination.port.as_ref().map(|port| port.number) {
        Some(number) if !has.is_empty() && !service.ports.iter().any(|port| u32::from(port.number) == number) => {
            let message = format!("`{host}` has ports {ports}, not {number}");
            let help = "set `port.number` to one of the service's ports".to_owned();
            findings.say(diag::DESTINATION_PORT_UNKNOWN, format!("{at}.port.number"), &[], message, Some(help));
        }
        None if has.len() > 1 => {
            let message = format!(
                "`{host}` has ports {ports} and none is named: the port that was asked for is taken, which may be none of them"
            );
            let help = "set `port.number` to one of the service's ports".to_owned();
            findings.say(diag::DESTINATION_PORT_OPEN, field, &[], message, Some(help));
        }
        _ => {}
    }
}

/// Where the rules are followed: in the namespaces that they are exported to by name, else their own, else, if they are a gateway's,
/// in those of its pods.
fn followers(world: &World, entry: &Entry<VirtualService>) -> Vec<Arc<str>> {
    let gateways = gateways_of(world, entry);
    if !gateways.is_empty() && !is_for_mesh(entry) {
        let selected = |gateway: &&Arc<Entry<Gateway>>| homes(world, gateway);
        return gateways.iter().flat_map(selected).collect();
    }
    let listed = entry.spec.export_to.iter().map(String::as_str);
    match ExportTo::read(listed, &[], entry.namespace()) {
        ExportTo::Namespaces(names) if !names.is_empty() => names,
        _ => vec![Arc::clone(entry.namespace())],
    }
}

fn is_for_mesh(entry: &Entry<VirtualService>) -> bool {
    entry.spec.gateways.is_empty() || entry.spec.gateways.iter().any(|written| written == MESH)
}

fn gateways_of<'w>(world: &'w World, entry: &Entry<VirtualService>) -> Vec<&'w Arc<Entry<Gateway>>> {
    let names = entry.spec.gateways.iter().map(|written| gateway_name(written, entry.namespace()));
    names.filter_map(|name| name.split_once('/').and_then(|(namespace, name)| world.gateway(namespace, name))).collect()
}

/// Namespaces of the pods of a Gateway; where none is known, its own.
fn homes(world: &World, gateway: &Entry<Gateway>) -> Vec<Arc<str>> {
    let selector = &gateway.spec.selector;
    let pods = world.objects().pods.values().filter(|pod| selects(selector, &pod.meta.labels));
    let homes: BTreeSet<Arc<str>> = pods.map(|pod| Arc::clone(pod.namespace())).collect();
    if homes.is_empty() { vec![Arc::clone(gateway.namespace())] } else { homes.into_iter().collect() }
}

/// That the rules of `namespace` mean, by its own name or by a wider one, if `follower` sees it.
fn service<'w>(world: &'w World, host: &str, namespace: &str, follower: &str) -> Option<&'w Service> {
    let registry = &world.index().registry;
    if let Some(found) = registry.find(host, namespace, follower) {
        return Some(found);
    }
    let wanted = hostname::pattern(host);
    let mut wide = registry.iter().filter(|service| service.host.starts_with('*'));
    let meets = |service: &&Arc<Service>| {
        service.export_to.allows(follower) && hostname::covers(&hostname::pattern(&service.host), &wanted)
    };
    wide.find(meets).map(|service| &**service)
}

/// By a rule where the rules are, where they are followed, where the service is, or in the root; whichever workloads it is for.
fn is_defined(
    world: &World,
    host: &str,
    subset: &str,
    seen: &[Option<&Service>],
    entry: &Entry<VirtualService>,
) -> bool {
    let mut places: Vec<Arc<str>> = followers(world, entry);
    places.push(Arc::clone(entry.namespace()));
    places.push(world.mesh().root_namespace.as_str().into());
    places.extend(seen.iter().flatten().map(|service| Arc::clone(&service.namespace)));
    let wanted = hostname::pattern(host);
    world.destination_rules().any(|rule| {
        let pattern = hostname::pattern(&hostname::expand(&rule.spec.host, rule.namespace()));
        places.contains(rule.namespace())
            && hostname::covers(&pattern, &wanted)
            && rule.spec.subsets.iter().any(|one| one.name == subset)
    })
}

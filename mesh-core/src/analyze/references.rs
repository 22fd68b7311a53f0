//! What VirtualServices refer to, whoever follows them. A translation looks at what its proxy has; rules of the mesh, of a gateway
//! that is not asked, and of delegates are looked at here as somebody in their own namespace sees the others.

use std::collections::HashSet;
use std::sync::Arc;

use crate::api::{Destination, VirtualService};
use crate::diag::{self, Code, Diagnostic};
use crate::object::ObjectRef;
use crate::translate::opens;
use crate::world::{Entry, ExportTo, MESH, Service, World, gateway_name, hostname};

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
            Some(gateway) if !entry.spec.hosts.is_empty() && !opens(gateway, entry) => {
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
    let subset = destination.subset.as_deref().filter(|subset| !subset.is_empty());
    if let Some(subset) = subset.filter(|subset| !is_defined(world, &host, subset, namespace)) {
        let message = format!("no DestinationRule that somebody here gets defines the subset `{subset}` of `{host}`");
        findings.say(diag::DESTINATION_SUBSET_UNKNOWN, format!("{at}.subset"), &[&field], message, None);
    }
    // Whoever is to follow the rules must see it.
    let followers = followers(findings.entry);
    let hidden = followers.iter().find(|follower| service(world, &host, namespace, follower).is_none());
    if let Some(follower) = hidden {
        let there = world.index().registry.any_matches(&host);
        let help = there.then(|| format!("it exists, but is not exported to namespace `{follower}`"));
        let message = match destination.host == host {
            true => format!("no Service or ServiceEntry is called `{host}`"),
            false => format!("`{}` is `{host}`, and no Service or ServiceEntry is called so", destination.host),
        };
        return findings.say(diag::DESTINATION_HOST_UNKNOWN, field, &[], message, help);
    }
    let Some(service) = followers.first().and_then(|follower| service(world, &host, namespace, follower)) else {
        return;
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

/// Namespaces that the rules are exported to by name, else their own.
fn followers(entry: &Entry<VirtualService>) -> Vec<Arc<str>> {
    let listed = entry.spec.export_to.iter().map(String::as_str);
    match ExportTo::read(listed, &[], entry.namespace()) {
        ExportTo::Namespaces(names) if !names.is_empty() => names,
        _ => vec![Arc::clone(entry.namespace())],
    }
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

/// By a rule of this namespace, the service's or the root's, whichever workloads it is for.
fn is_defined(world: &World, host: &str, subset: &str, namespace: &str) -> bool {
    let own = world.index().registry.first(host, namespace).map(|service| &*service.namespace);
    let places = [Some(namespace), own, Some(&*world.mesh().root_namespace)];
    let wanted = hostname::pattern(host);
    world.destination_rules().any(|entry| {
        let pattern = hostname::pattern(&hostname::expand(&entry.spec.host, entry.namespace()));
        places.contains(&Some(&**entry.namespace()))
            && hostname::covers(&pattern, &wanted)
            && entry.spec.subsets.iter().any(|one| one.name == subset)
    })
}

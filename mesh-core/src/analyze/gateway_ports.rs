//! Ports of Gateways that no Service leads to: whoever comes by the Service of the gateway's pods does not get there.

use crate::api::Gateway;
use crate::diag::{self, Diagnostic};
use crate::object::ObjectRef;
use crate::world::{Entry, Reads, World, selects};

pub(super) fn gateway_ports(world: &World, about: Option<&ObjectRef>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let gateways = world.objects().gateways.values();
    for entry in gateways.filter(|entry| about.is_none_or(|about| *about == entry.reference)) {
        let services = ports(world, entry);
        if services.is_empty() {
            continue;
        }
        for server in &entry.spec.servers {
            let number = server.port.number;
            // 0 is that of a Unix socket.
            if number == 0 || services.contains(&number) {
                continue;
            }
            let field = format!("spec.servers[{}].port.number", server.index);
            let message = format!("no Service of the pods that this selects has port {number}, or leads there");
            let help = "add the port to the Service of the gateway, or use one that it has";
            found.push(
                Diagnostic::new(diag::GATEWAY_PORT_WITHOUT_SERVICE, message)
                    .object(&entry.reference)
                    .at(entry.position(&field))
                    .field(field)
                    .help(help),
            );
        }
    }
    found
}

/// Of the Services of the pods that a Gateway selects: their ports, and the ports of pods that they lead to.
fn ports(world: &World, entry: &Entry<Gateway>) -> Vec<u32> {
    let selector = &entry.spec.selector;
    if selector.is_empty() {
        return Vec::new();
    }
    let pods = world.objects().pods.values().filter(|pod| selects(selector, &pod.meta.labels));
    let mut ports = Vec::new();
    for pod in pods {
        for service in world.kube_services(pod.namespace()) {
            let own = &service.spec.selector;
            if own.is_empty() || !selects(own, &pod.meta.labels) {
                continue;
            }
            for port in &service.spec.ports {
                ports.push(u32::from(port.port));
                ports.extend(world.target_port(service, port, &mut Reads::default()).map(u32::from));
            }
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::parse;

    /// Of a gateway on port 80 behind a Service that names its target port.
    fn found(number: u16) -> Vec<Diagnostic> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{ name: gw }}\n\
             spec: {{ selector: {{ a: b }}, servers: [{{ port: {{ number: 80, name: http, protocol: HTTP }}, hosts: ['*'] }}] }}\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{ name: gw }}\n\
             spec: {{ selector: {{ a: b }}, ports: [{{ name: http, port: 8080, targetPort: web }}] }}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: gw, labels: {{ a: b }} }}\n\
             spec: {{ containers: [{{ name: gw, ports: [{{ name: web, containerPort: {number} }}] }}] }}\n"
        );
        gateway_ports(&World::from_objects(parse("gw.yaml", &text, "default").objects), None)
    }

    #[test]
    fn named_target_ports_are_looked_up() {
        assert_eq!(found(80), []);
        assert_eq!(found(81).len(), 1);
    }
}

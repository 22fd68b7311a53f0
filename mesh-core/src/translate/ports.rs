//! On which ports a server listens: its number is a port of the Service in front of the gateway, and the proxy listens on
//! the target port behind it (`port.number`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::api::ServiceEntry;
use crate::api::kube::Service;
use crate::model::ProxyInfo;
use crate::world::{Cell, Reads, World, selects};

/// Target ports by port of what stands in front of the proxy in its namespace: Services and ServiceEntries that select it. One
/// that lists an address of the proxy counts for Istio, not here: the proxies of a class have different ones.
pub(super) struct FrontPorts(HashMap<u16, Vec<u16>>);

impl FrontPorts {
    pub fn of(world: &World, proxy: &ProxyInfo, reads: &mut Reads) -> FrontPorts {
        let namespace: Arc<str> = proxy.namespace.as_str().into();
        reads.note(Cell::Namespace("Service", Arc::clone(&namespace)));
        reads.note(Cell::Namespace("ServiceEntry", namespace));
        let mut ports: HashMap<u16, Vec<u16>> = HashMap::new();
        for service in world.kube_services(&proxy.namespace).filter(|service| selects_proxy(&service.spec, proxy)) {
            for port in &service.spec.ports {
                if port.protocol.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("tcp")) {
                    let target = world.target_port(service, port, reads).unwrap_or(port.port);
                    ports.entry(port.port).or_default().push(target);
                }
            }
        }
        for entry in world.service_entries(&proxy.namespace).filter(|entry| stands_before(&entry.spec, proxy)) {
            for port in &entry.spec.ports {
                let target = port.target_port.filter(|target| *target != 0).unwrap_or(port.number);
                if let (Ok(number), Ok(target)) = (u16::try_from(port.number), u16::try_from(target)) {
                    ports.entry(number).or_default().push(target);
                }
            }
        }
        for targets in ports.values_mut() {
            targets.sort_unstable();
            targets.dedup();
        }
        FrontPorts(ports)
    }

    /// Where a server with this number listens: the number itself if no Service has it. Sorted.
    pub fn listened(&self, number: u16) -> Vec<u16> {
        self.0.get(&number).cloned().unwrap_or_else(|| vec![number])
    }
}

/// Whether a Service selects the proxy's pod.
pub(super) fn selects_proxy(service: &Service, proxy: &ProxyInfo) -> bool {
    !service.selector.is_empty() && selects(&service.selector, &proxy.labels)
}

/// Whether a ServiceEntry selects the proxy's pod.
pub(super) fn stands_before(entry: &ServiceEntry, proxy: &ProxyInfo) -> bool {
    let selector = entry.workload_selector.as_ref();
    selector.is_some_and(|selector| !selector.labels.is_empty() && selects(&selector.labels, &proxy.labels))
}

/// Address of a server without `bind`: all IPv4 addresses, and IPv6 too if the proxy has one.
pub(super) fn wildcard(proxy: &ProxyInfo) -> IpAddr {
    if proxy.families.has_v6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

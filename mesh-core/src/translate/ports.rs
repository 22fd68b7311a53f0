//! On which ports a server listens: its number is a port of the Service in front of the gateway, and the proxy listens on
//! the target port behind it (ISTIO.md 1.1 `port.number`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Context;
use crate::world::selects;

impl Context<'_> {
    /// Target ports of all Services of the proxy's namespace that select the proxy and have this port; the number itself
    /// if there is none. Sorted.
    pub(super) fn listener_ports(&self, number: u16) -> Vec<u16> {
        let mut targets = Vec::new();
        for service in self.world.kube_services(&self.proxy.namespace) {
            let selector = &service.spec.selector;
            if selector.is_empty() || !selects(selector, &self.proxy.labels) {
                continue;
            }
            for port in service.spec.ports.iter().filter(|port| port.port == number) {
                let tcp = port.protocol.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("tcp"));
                if tcp {
                    targets.push(self.world.target_port(service, port).unwrap_or(number));
                }
            }
        }
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() { vec![number] } else { targets }
    }

    /// Address of a server without `bind`: all IPv4 addresses, and IPv6 too if the proxy has one.
    pub(super) fn wildcard(&self) -> IpAddr {
        if self.proxy.addresses.iter().any(IpAddr::is_ipv6) {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }
    }
}

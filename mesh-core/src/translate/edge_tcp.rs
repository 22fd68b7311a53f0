//! Where a gateway at the edge sends what it does not look into: bytes by the port, TLS by the server name.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use super::virtual_service::Turn;
use crate::api::VirtualService;
use crate::diag;
use crate::model::{HostPattern, TcpRoute};
use crate::world::{Entry, gateway_name, hostname};

/// What the VirtualServices of a table say, in the order in which they count.
pub(super) type Passages = BTreeMap<(Turn, HostPattern), Arc<[Passage]>>;

/// A route of one VirtualService.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub route: TcpRoute,
    /// Of names that are wider than what the server opens it is how long they were: they count after those that are not.
    narrowed: Option<usize>,
}

/// The routes of a table.
pub(super) fn routes(passages: &Passages) -> Vec<TcpRoute> {
    let mut all: Vec<&Passage> = passages.values().flat_map(|passages| passages.iter()).collect();
    all.sort_by_key(|passage| (passage.narrowed.is_some(), Reverse(passage.narrowed)));
    all.into_iter().map(|passage| passage.route.clone()).collect()
}

impl Context<'_> {
    /// Of a server of a gateway whose bytes are not looked into: the first rule that is for it takes everything.
    pub(super) fn bytes_at(&mut self, entry: &Arc<Entry<VirtualService>>, gateway: &str, port: u16) -> Arc<[Passage]> {
        let here = |rule_port, gateways: &[String]| is_here(entry, gateway, port, rule_port, gateways);
        let fits = |rule: &&crate::api::TcpRoute| {
            rule.r#match.is_empty() || rule.r#match.iter().any(|condition| here(condition.port, &condition.gateways))
        };
        let Some(rule) = entry.spec.tcp.iter().find(fits) else { return Arc::default() };
        let field = format!("spec.tcp[{}]", rule.index);
        for (index, condition) in rule.r#match.iter().enumerate() {
            let without = !condition.destination_subnets.is_empty();
            self.without_effect(entry, &format!("{field}.match[{index}].destinationSubnets"), without);
        }
        let destinations = self.weighted(entry, &rule.route, &field, port);
        let route = TcpRoute { sni: Vec::new(), destinations, origin: entry.reference.clone() };
        [Passage { route, narrowed: None }].into()
    }

    /// Of a server of a gateway that passes TLS through, of those names that it opens to the VirtualService.
    pub(super) fn names_at(
        &mut self,
        entry: &Arc<Entry<VirtualService>>,
        gateway: &str,
        port: u16,
        opened: &HostPattern,
    ) -> Arc<[Passage]> {
        let mut all = Vec::new();
        for rule in &entry.spec.tls {
            let field = format!("spec.tls[{}]", rule.index);
            let (mut sni, mut narrowed) = (Vec::new(), Vec::new());
            for (index, condition) in rule.r#match.iter().enumerate() {
                if !is_here(entry, gateway, port, condition.port, &condition.gateways) {
                    continue;
                }
                let without = !condition.destination_subnets.is_empty();
                self.without_effect(entry, &format!("{field}.match[{index}].destinationSubnets"), without);
                for pattern in condition.sni_hosts.iter().map(|host| hostname::pattern(host)) {
                    match hostname::intersection(&pattern, opened).cloned() {
                        Some(common) if common == pattern => sni.push(common),
                        Some(common) => narrowed.push((pattern.to_string().len(), common)),
                        None => {}
                    }
                }
            }
            if sni.is_empty() && narrowed.is_empty() {
                continue;
            }
            let destinations = self.weighted(entry, &rule.route, &field, port);
            let route = |sni| TcpRoute { sni, destinations: destinations.clone(), origin: entry.reference.clone() };
            if !sni.is_empty() {
                all.push(Passage { route: route(sni), narrowed: None });
            }
            let narrowed = narrowed.into_iter();
            all.extend(narrowed.map(|(length, name)| Passage { route: route(vec![name]), narrowed: Some(length) }));
        }
        all.into()
    }

    fn without_effect(&mut self, entry: &Entry<VirtualService>, field: &str, is_there: bool) {
        if is_there {
            let message = "a gateway does not look at this: it has one address".to_owned();
            self.findings.report(diag::FIELD_DOUBTFUL, entry, field, message, None);
        }
    }
}

/// Labels and namespaces of who calls mean nothing at a gateway.
fn is_here(entry: &Entry<VirtualService>, gateway: &str, port: u16, wanted: Option<u32>, gateways: &[String]) -> bool {
    let fits = |name: &String| gateway_name(name, entry.namespace()) == gateway;
    wanted.is_none_or(|wanted| wanted == 0 || wanted == u32::from(port))
        && (gateways.is_empty() || gateways.iter().any(fits))
}

#[cfg(test)]
#[path = "edge_tcp_tests.rs"]
mod tests;

//! Where connections go that are not looked into: by the address that the client calls, and of TLS by the name that it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

use super::Context;
use super::doors::Way;
use super::mesh_rules::Candidate;
use super::rules::Place;
use crate::api::{L4Match, RouteDestination, TlsMatch, VirtualService};
use crate::model::{BLACK_HOLE, DestinationRef, Key, OutboundTcp, WeightedDestination};
use crate::world::{Entry, MESH, Protocol, Service, ServicePort, hostname, network};

/// A port whose bytes are not looked into, or may not be HTTP.
pub(super) struct Bytes<'p> {
    pub port: &'p ServicePort,
    /// What is spoken there.
    pub protocol: Protocol,
    pub way: &'p Way,
    /// Where clients go; empty: anywhere.
    pub networks: &'p [IpNet],
    /// Of what turns out to be HTTP.
    pub routes: Option<Key>,
}

impl<'a> Context<'a> {
    /// Of a port of a service. Numbers of the candidates that say something are added to `used`.
    pub(super) fn tcp(
        &mut self,
        service: &'a Arc<Service>,
        bytes: Bytes<'_>,
        candidates: &[Candidate<'_>],
        used: &mut BTreeSet<usize>,
    ) -> Vec<OutboundTcp> {
        let Bytes { port, protocol, way, networks, routes } = bytes;
        let is_tls = matches!(protocol, Protocol::Https | Protocol::Tls);
        let mut all = Vec::new();
        let mut closed = false;
        for (number, (_, entry)) in candidates.iter().enumerate() {
            if !self.scope.follows(way, entry) {
                continue;
            }
            let before = all.len();
            if is_tls {
                self.tls_rules(entry, port.number, networks, &mut all);
            } else if self.tcp_rules(entry, port.number, networks, routes.as_ref(), &mut all) {
                closed = true;
            }
            if all.len() > before {
                used.insert(number);
                break;
            }
        }
        if closed {
            return all;
        }
        let plain = OutboundTcp {
            networks: networks.to_vec(),
            port: port.number,
            sni: Vec::new(),
            destinations: Vec::new(),
            routes,
            origin: service.origin.clone(),
        };
        if is_tls && !all.is_empty() {
            // Names that no rule has are not served; where they cannot be told from others, it is not this service's to say.
            if !networks.is_empty() {
                let nowhere = DestinationRef::Unknown(BLACK_HOLE.into());
                all.push(OutboundTcp { destinations: vec![whole(nowhere)], ..plain });
            }
            return all;
        }
        // Only a name tells services apart that have no address of their own.
        let shared = networks.iter().any(|network| network.prefix_len() < network.max_prefix_len());
        let by_name = is_tls && (networks.is_empty() || shared) && !service.is_headless();
        let sni = if by_name { vec![hostname::pattern(&service.host)] } else { Vec::new() };
        all.push(OutboundTcp { sni, destinations: vec![whole(self.default_destination(service, port))], ..plain });
        all
    }

    fn tls_rules(
        &mut self,
        entry: &Arc<Entry<VirtualService>>,
        port: u16,
        networks: &[IpNet],
        all: &mut Vec<OutboundTcp>,
    ) {
        for rule in &entry.spec.tls {
            let fitting = |condition: &&TlsMatch| self.applies(&of_tls(condition), entry, MESH, port);
            let fitting: Vec<&TlsMatch> = rule.r#match.iter().filter(fitting).collect();
            if fitting.is_empty() {
                continue;
            }
            let destinations = self.weighted(entry, &rule.route, &format!("spec.tls[{}]", rule.index), port);
            for condition in fitting {
                let Some(networks) = subnets(&condition.destination_subnets, networks) else { continue };
                all.push(OutboundTcp {
                    networks,
                    port,
                    sni: condition.sni_hosts.iter().map(|host| hostname::pattern(host)).collect(),
                    destinations: destinations.clone(),
                    routes: None,
                    origin: entry.reference.clone(),
                });
            }
        }
    }

    /// Whether a rule takes everything.
    fn tcp_rules(
        &mut self,
        entry: &Arc<Entry<VirtualService>>,
        port: u16,
        networks: &[IpNet],
        routes: Option<&Key>,
        all: &mut Vec<OutboundTcp>,
    ) -> bool {
        for rule in &entry.spec.tcp {
            let fitting = |condition: &&L4Match| self.applies(&of_tcp(condition), entry, MESH, port);
            let fitting: Vec<&L4Match> = rule.r#match.iter().filter(fitting).collect();
            if fitting.is_empty() && !rule.r#match.is_empty() {
                continue;
            }
            let destinations = self.weighted(entry, &rule.route, &format!("spec.tcp[{}]", rule.index), port);
            let mut add = |networks: Vec<IpNet>| {
                all.push(OutboundTcp {
                    networks,
                    port,
                    sni: Vec::new(),
                    destinations: destinations.clone(),
                    routes: routes.cloned(),
                    origin: entry.reference.clone(),
                });
            };
            if fitting.iter().all(|condition| !condition.destination_subnets.is_empty()) && !fitting.is_empty() {
                fitting
                    .iter()
                    .filter_map(|condition| subnets(&condition.destination_subnets, networks))
                    .for_each(&mut add);
                continue;
            }
            add(networks.to_vec());
            return true;
        }
        false
    }

    /// At least one.
    pub(super) fn weighted(
        &mut self,
        entry: &Arc<Entry<VirtualService>>,
        routes: &[RouteDestination],
        field: &str,
        port: u16,
    ) -> Vec<WeightedDestination> {
        let single = routes.len() == 1;
        let mut all = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let weight = if single { 1 } else { u32::try_from(route.weight.unwrap_or_default()).unwrap_or_default() };
            if weight > 0 {
                let field = format!("{field}.route[{index}].destination");
                all.push(WeightedDestination {
                    destination: self.destination(entry, &route.destination, &field, port),
                    weight,
                });
            }
        }
        if all.is_empty() {
            all.push(whole(DestinationRef::Unknown(BLACK_HOLE.into())));
        }
        all
    }
}

pub(super) fn whole(destination: DestinationRef) -> WeightedDestination {
    WeightedDestination { destination, weight: 1 }
}

/// What the rule says, else where the service is. None: what it says cannot be read, and is no address.
fn subnets(written: &[String], networks: &[IpNet]) -> Option<Vec<IpNet>> {
    if written.is_empty() {
        return Some(networks.to_vec());
    }
    let read: Vec<IpNet> = written.iter().filter_map(|text| network(text)).collect();
    (!read.is_empty()).then_some(read)
}

fn of_tls(condition: &TlsMatch) -> Place<'_> {
    Place {
        port: condition.port,
        gateways: &condition.gateways,
        source_labels: &condition.source_labels,
        source_namespace: condition.source_namespace.as_deref(),
    }
}

fn of_tcp(condition: &L4Match) -> Place<'_> {
    Place {
        port: condition.port,
        gateways: &condition.gateways,
        source_labels: &condition.source_labels,
        source_namespace: condition.source_namespace.as_deref(),
    }
}

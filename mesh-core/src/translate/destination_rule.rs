//! Which DestinationRule counts for a service, and which of its settings for one port and subset.

use std::time::Duration;

use super::Context;
use super::balancing::balancing;
use super::connection_pool::{connection_rules, limits};
use super::outlier::outlier;
use crate::api::{ClientTls, ConnectionPool, H2UpgradePolicy, LoadBalancer, OutlierDetection};
use crate::api::{MeshH2UpgradePolicy, PortTrafficPolicy, TrafficPolicy};
use crate::model::{self, Balancing, ConnectionRules, Limits, UpstreamProtocol};
use crate::world::{Consolidated, Mesh, Service, ServicePort};

/// An unused connection is kept this long.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

impl<'a> Context<'a> {
    /// Looked for in the proxy's namespace, then the service's, then the root namespace; nowhere else.
    pub(super) fn rule_of(&self, service: &Service) -> Option<Consolidated<'a>> {
        let root = self.world.mesh().root_namespace.as_str();
        let own = self.proxy.namespace.as_str();
        // In the root namespace only the third step counts: its rules are everybody's, not the proxy's own.
        let path = [Some(own).filter(|own| *own != root), Some(&*service.namespace), Some(root)];
        let tables = &self.world.index().rules;
        path.into_iter().flatten().find_map(|namespace| tables.find(namespace, &service.host, own, &self.proxy.labels))
    }
}

/// The blocks that count for one port of one subset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    connection_pool: Option<&'a ConnectionPool>,
    outlier: Option<&'a OutlierDetection>,
    tls: Option<&'a ClientTls>,
}

impl<'a> Policy<'a> {
    /// The subset's blocks replace those of the whole rule, block by block. In each of the two, settings of the port replace all
    /// four blocks.
    pub fn merge(rule: Option<&'a TrafficPolicy>, subset: Option<&'a TrafficPolicy>, port: u16) -> Policy<'a> {
        let rule = rule.map(|policy| Policy::of(policy, port)).unwrap_or_default();
        let subset = subset.map(|policy| Policy::of(policy, port)).unwrap_or_default();
        Policy {
            load_balancer: subset.load_balancer.or(rule.load_balancer),
            connection_pool: subset.connection_pool.or(rule.connection_pool),
            outlier: subset.outlier.or(rule.outlier),
            tls: subset.tls.or(rule.tls),
        }
    }

    /// Of connections to the own workload.
    pub fn of_pool(connection_pool: Option<&'a ConnectionPool>) -> Policy<'a> {
        Policy { connection_pool, ..Policy::default() }
    }

    fn of(policy: &'a TrafficPolicy, port: u16) -> Policy<'a> {
        let fits = |settings: &&PortTrafficPolicy| settings.port.is_some_and(|own| own.number == u32::from(port));
        match policy.port_level_settings.iter().find(fits) {
            Some(settings) => Policy {
                load_balancer: settings.load_balancer.as_ref(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
            },
            None => Policy {
                load_balancer: policy.load_balancer.as_ref(),
                connection_pool: policy.connection_pool.as_ref(),
                outlier: policy.outlier_detection.as_ref(),
                tls: policy.tls.as_ref(),
            },
        }
    }

    pub fn balancing(&self) -> Balancing {
        self.load_balancer.map(balancing).unwrap_or_default()
    }

    pub fn outlier(&self, mesh: &Mesh) -> Option<model::OutlierDetection> {
        let of_mesh = || mesh.config.default_traffic_policy.as_ref()?.outlier_detection.as_ref();
        self.outlier.or_else(of_mesh).map(outlier)
    }

    /// What the rule says, if it says something.
    pub fn tls(&self) -> Option<&'a ClientTls> {
        self.tls
    }

    pub fn connect_timeout(&self, mesh: &Mesh) -> Duration {
        let tcp = self.connection_pool(mesh).and_then(|pool| pool.tcp.as_ref());
        let own = tcp.and_then(|tcp| tcp.connect_timeout).map(|timeout| timeout.get());
        own.filter(|timeout| !timeout.is_zero()).unwrap_or(mesh.connect_timeout)
    }

    pub fn idle_timeout(&self, mesh: &Mesh) -> Duration {
        let pool = self.connection_pool(mesh);
        let http = pool.and_then(|pool| pool.http.as_ref()?.idle_timeout);
        let tcp = pool.and_then(|pool| pool.tcp.as_ref()?.idle_timeout);
        http.or(tcp).map(|timeout| timeout.get()).filter(|timeout| !timeout.is_zero()).unwrap_or(IDLE_TIMEOUT)
    }

    pub fn limits(&self, mesh: &Mesh) -> Limits {
        self.connection_pool(mesh).map(limits).unwrap_or_default()
    }

    pub fn connections(&self, mesh: &Mesh) -> ConnectionRules {
        let pool = self.connection_pool(mesh);
        connection_rules(pool, mesh.config.tcp_keepalive.as_ref())
    }

    /// A declared HTTP/2 port, or an upgrade that the rule, or the mesh for HTTP ports, asks for.
    pub fn protocol(&self, mesh: &Mesh, port: &ServicePort) -> UpstreamProtocol {
        let pool = self.connection_pool(mesh);
        let wish = pool.and_then(|pool| pool.http.as_ref()?.h2_upgrade_policy).unwrap_or_default();
        let upgrade = match wish {
            H2UpgradePolicy::Upgrade => true,
            H2UpgradePolicy::DoNotUpgrade => false,
            H2UpgradePolicy::Default => {
                port.protocol.is_http() && mesh.config.h2_upgrade_policy == Some(MeshH2UpgradePolicy::Upgrade)
            }
        };
        match (port.protocol.is_http2(), upgrade) {
            (true, _) => UpstreamProtocol::Http2,
            (false, true) => UpstreamProtocol::Http2Upgraded,
            (false, false) => UpstreamProtocol::Http1,
        }
    }

    fn connection_pool<'m>(&self, mesh: &'m Mesh) -> Option<&'m ConnectionPool>
    where
        'a: 'm,
    {
        match self.connection_pool {
            Some(pool) => Some(pool),
            None => mesh.config.default_traffic_policy.as_ref()?.connection_pool.as_ref(),
        }
    }
}

#[cfg(test)]
#[path = "destination_rule_tests.rs"]
mod tests;

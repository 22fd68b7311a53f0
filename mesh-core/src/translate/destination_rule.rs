//! Which DestinationRule counts for a service, and which of its settings for one port and subset.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Context;
use super::balancing::{balancing, warmup};
use super::connection_pool::{connection_rules, limits, proxy_header, retry_budget, tunnel};
use super::outlier::outlier;
use crate::api::{ClientTls, ConnectionPool, H2UpgradePolicy, LoadBalancer, LocalityLbSetting, OutlierDetection};
use crate::api::{MeshH2UpgradePolicy, PortTrafficPolicy, ProxyProtocol, RetryBudget, SimpleLoadBalancer};
use crate::api::{TrafficPolicy, Tunnel, ZoneAwareLbSetting};
use crate::model::{self, Balancing, ConnectionRules, Limits, UpstreamProtocol, Warmup};
use crate::world::{Consolidated, Mesh, Service, ServicePort};

/// An unused connection is kept this long.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

impl<'a> Context<'a> {
    /// Looked for in the proxy's namespace, then the service's, then the root namespace; nowhere else.
    pub(super) fn rule_of(&self, service: &Service) -> Option<Consolidated<'a>> {
        self.rule_for(service, &self.proxy.labels)
    }

    /// The same for the service's own side: `workloadSelector` is about those who call.
    pub(super) fn rule_of_own(&self, service: &Service) -> Option<Consolidated<'a>> {
        self.rule_for(service, &BTreeMap::new())
    }

    fn rule_for(&self, service: &Service, labels: &BTreeMap<String, String>) -> Option<Consolidated<'a>> {
        let root = self.world.mesh().root_namespace.as_str();
        let own = self.proxy.namespace.as_str();
        // In the root namespace only the third step counts: its rules are everybody's, not the proxy's own.
        let path = [Some(own).filter(|own| *own != root), Some(&*service.namespace), Some(root)];
        let tables = &self.world.index().rules;
        path.into_iter().flatten().find_map(|namespace| tables.find(namespace, &service.host, own, labels))
    }
}

/// The blocks that count for one port of one subset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    connection_pool: Option<&'a ConnectionPool>,
    outlier: Option<&'a OutlierDetection>,
    tls: Option<&'a ClientTls>,
    /// What ports have no settings of.
    proxy_protocol: Option<&'a ProxyProtocol>,
    tunnel: Option<&'a Tunnel>,
    retry_budget: Option<&'a RetryBudget>,
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
            proxy_protocol: subset.proxy_protocol.or(rule.proxy_protocol),
            tunnel: subset.tunnel.or(rule.tunnel),
            retry_budget: subset.retry_budget.or(rule.retry_budget),
        }
    }

    /// Of connections to the own workload.
    pub fn of_pool(connection_pool: Option<&'a ConnectionPool>) -> Policy<'a> {
        Policy { connection_pool, ..Policy::default() }
    }

    /// What a rule says of connections to a port of a service, once they arrive.
    pub fn own_pool(rule: &Consolidated<'a>, port: u16) -> Option<&'a ConnectionPool> {
        Policy::of(rule.policy?, port).connection_pool
    }

    fn of(policy: &'a TrafficPolicy, port: u16) -> Policy<'a> {
        let fits = |settings: &&PortTrafficPolicy| settings.port.is_some_and(|own| own.number == u32::from(port));
        let of_all = Policy {
            proxy_protocol: policy.proxy_protocol.as_ref(),
            tunnel: policy.tunnel.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
            ..Policy::default()
        };
        match policy.port_level_settings.iter().find(fits) {
            Some(settings) => Policy {
                load_balancer: settings.load_balancer.as_ref(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
                ..of_all
            },
            None => Policy {
                load_balancer: policy.load_balancer.as_ref(),
                connection_pool: policy.connection_pool.as_ref(),
                outlier: policy.outlier_detection.as_ref(),
                tls: policy.tls.as_ref(),
                ..of_all
            },
        }
    }

    pub fn balancing(&self) -> Balancing {
        self.load_balancer.map(balancing).unwrap_or_default()
    }

    /// Connections go where the client was going.
    pub fn passes_through(&self) -> bool {
        let simple = self.load_balancer.filter(|balancer| balancer.consistent_hash.is_none());
        simple.and_then(|balancer| balancer.simple) == Some(SimpleLoadBalancer::Passthrough)
    }

    /// What the rule says of localities, if it says something.
    pub fn locality(&self) -> Option<&'a LocalityLbSetting> {
        self.load_balancer?.locality_lb_setting.as_ref()
    }

    /// What the rule says of zones, if they are to count.
    pub fn zone_aware(&self) -> Option<&'a ZoneAwareLbSetting> {
        self.load_balancer?.zone_aware_lb_setting.as_ref().filter(|setting| setting.enabled != Some(false))
    }

    /// Fields of `spec.trafficPolicy` that are about which of several endpoints is taken, and how they fare.
    pub fn of_endpoints(&self) -> Vec<&'static str> {
        let balancer = self.load_balancer;
        let simple = balancer.and_then(|balancer| balancer.simple).unwrap_or_default();
        let fields = [
            ("outlierDetection", self.outlier.is_some()),
            (
                "loadBalancer.simple",
                // What is done anyway.
                !matches!(simple, SimpleLoadBalancer::Unspecified | SimpleLoadBalancer::Random),
            ),
            ("loadBalancer.consistentHash", balancer.is_some_and(|balancer| balancer.consistent_hash.is_some())),
            ("loadBalancer.backendUtilization", balancer.is_some_and(|b| b.backend_utilization.is_some())),
            ("loadBalancer.localityLbSetting", self.locality().is_some()),
            ("loadBalancer.zoneAwareLbSetting", self.zone_aware().is_some()),
            ("loadBalancer.warmup", balancer.is_some_and(|balancer| balancer.warmup.is_some())),
            ("loadBalancer.warmupDurationSecs", balancer.is_some_and(|b| b.warmup_duration_secs.is_some())),
        ];
        fields.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
    }

    pub fn warmup(&self) -> Option<Warmup> {
        warmup(self.load_balancer?)
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
        let limits = self.connection_pool(mesh).map(limits).unwrap_or_default();
        Limits { retry_budget: self.retry_budget.map(retry_budget), ..limits }
    }

    pub fn connections(&self, mesh: &Mesh) -> ConnectionRules {
        let pool = self.connection_pool(mesh);
        ConnectionRules {
            proxy_header: self.proxy_protocol.copied().map(proxy_header),
            tunnel: self.tunnel.and_then(tunnel),
            ..connection_rules(pool, mesh.config.tcp_keepalive.as_ref())
        }
    }

    /// Upstreams are spoken to in what the client speaks (`useClientProtocol`).
    pub fn is_as_client(&self, mesh: &Mesh) -> bool {
        self.connection_pool(mesh).and_then(|pool| pool.http.as_ref()?.use_client_protocol) == Some(true)
    }

    /// A declared HTTP/2 port, or an upgrade that the rule, or the mesh for HTTP ports, asks for; or what the client speaks,
    /// whatever the port says.
    pub fn protocol(&self, mesh: &Mesh, port: &ServicePort) -> UpstreamProtocol {
        if self.is_as_client(mesh) {
            return UpstreamProtocol::AsClient;
        }
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

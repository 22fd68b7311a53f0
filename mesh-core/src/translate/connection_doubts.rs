//! What a rule asks of connections that those who are there will hardly understand, or that are chosen in another way.

use super::Context;
use super::destination_rule::Policy;
use crate::diag;
use crate::model::{Destination, Reach, UpstreamProtocol, UpstreamTls};
use crate::world::{Consolidated, Service, ServicePort};

impl Context<'_> {
    pub(super) fn doubt_connections(
        &mut self,
        rule: &Consolidated<'_>,
        (service, port): (&Service, &ServicePort),
        policy: &Policy<'_>,
        destination: &Destination,
    ) {
        if matches!(destination.reach, Reach::Named(_)) {
            self.doubt_endpoints(rule, service, policy);
        }
        let is_http2 = matches!(destination.protocol, UpstreamProtocol::Http2 | UpstreamProtocol::Http2Upgraded);
        if destination.connections.tunnel.is_some() && is_http2 {
            let message = format!(
                "`{}` is spoken to in HTTP/2, but tunnels are asked for in HTTP/1.1 only; bytes get through if it speaks that, too",
                service.host
            );
            let help = Some("name the proxy's port `tcp` or `http`".to_owned());
            self.findings.report(diag::FIELD_NOT_BUILT, rule.first, "spec.trafficPolicy.tunnel", message, help);
        }
        if destination.connections.proxy_header.is_some() && self.speaks_mesh_tls(service, port, &destination.tls) {
            let message = format!(
                "pods of `{}` are reached in the mesh's TLS, and their proxies take a PROXY header before it for clear text",
                service.host
            );
            let help = Some("set `tls.mode: DISABLE`, and read the header in the application".to_owned());
            self.findings.report(diag::FIELD_DOUBTFUL, rule.first, "spec.trafficPolicy.proxyProtocol", message, help);
        }
    }

    /// Who is found by the host of a request (`DYNAMIC_DNS`) is no endpoint that would be known beforehand, or watched.
    fn doubt_endpoints(&mut self, rule: &Consolidated<'_>, service: &Service, policy: &Policy<'_>) {
        for field in policy.of_endpoints() {
            let message = format!(
                "`{}` is whatever the host of a request resolves to, one of its addresses at random: `{field}` has no effect there",
                service.host
            );
            let help = "where endpoints are to be told apart, name the hosts, with `resolution: DNS`".to_owned();
            let field = format!("spec.trafficPolicy.{field}");
            self.findings.report(diag::FIELD_DOUBTFUL, rule.first, &field, message, Some(help));
        }
    }

    /// Whether some endpoint is reached in the mesh's TLS.
    fn speaks_mesh_tls(&mut self, service: &Service, port: &ServicePort, tls: &UpstreamTls) -> bool {
        match tls {
            UpstreamTls::Mutual => true,
            UpstreamTls::Disable | UpstreamTls::Originate(_) => false,
            UpstreamTls::Auto => {
                let instances = self.world.instances(service, port, self.proxy.families, &mut self.reads);
                !service.is_external() && instances.iter().any(|instance| self.speaks_mtls(instance, service))
            }
        }
    }
}

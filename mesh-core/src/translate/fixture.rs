//! Objects in few words, for the tests of this room.

use std::fmt::Write as _;

use super::{Translation, translate};
use crate::api;
use crate::model::{Action, DestinationRef, Forward, ProxyInfo, Role, Rule, VirtualHost};
use crate::world::World;

pub(super) fn proxy() -> ProxyInfo {
    ProxyInfo::edge("edge", "istio-system", [("istio".to_owned(), "ingressgateway".to_owned())].into())
}

/// Of the workload `default/client`.
pub(super) fn sidecar() -> ProxyInfo {
    let labels = [("app".to_owned(), "client".to_owned())];
    ProxyInfo { role: Role::Sidecar, ..ProxyInfo::edge("client", "default", labels.into()) }
}

/// Documents of a test.
#[derive(Default)]
pub(super) struct Docs(String);

impl Docs {
    /// Documents as they are.
    pub fn of(text: &str) -> Docs {
        Docs(text.to_owned())
    }

    /// `name` is `namespace/name`, `body` what follows the metadata.
    pub fn add(mut self, kind: &str, name: &str, body: &str) -> Docs {
        self.write(kind, name, "", body);
        self
    }

    /// With a creation time: a day of 2024.
    pub fn add_on(mut self, day: u32, kind: &str, name: &str, body: &str) -> Docs {
        self.write(kind, name, &format!(", creationTimestamp: '2024-01-{day:02}T00:00:00Z'"), body);
        self
    }

    fn write(&mut self, kind: &str, name: &str, meta: &str, body: &str) {
        let (namespace, name) = name.split_once('/').unwrap();
        let version = match kind {
            "Service" | "Secret" | "Pod" | "ConfigMap" => "v1",
            "EndpointSlice" => "discovery.k8s.io/v1",
            "RateLimit" => "meshgate.io/v1alpha1",
            "AuthorizationPolicy" | "RequestAuthentication" | "PeerAuthentication" => "security.istio.io/v1",
            _ => "networking.istio.io/v1",
        };
        writeln!(
            self.0,
            "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}{meta}}}\n{body}"
        )
        .unwrap();
    }

    /// A Gateway with the given servers (flow style).
    pub fn gateway(self, name: &str, servers: &str) -> Docs {
        self.add("Gateway", name, &format!("spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}"))
    }

    /// A plain HTTP Gateway `istio-system/gw` on port 80.
    pub fn http(self, hosts: &str) -> Docs {
        self.gateway("istio-system/gw", &http_server(80, hosts))
    }

    /// Bound to `istio-system/gw`.
    pub fn vs(self, name: &str, hosts: &str, http: &str) -> Docs {
        let body = format!("spec: {{hosts: [{hosts}], gateways: [istio-system/gw], http: [{http}]}}");
        self.add("VirtualService", name, &body)
    }

    /// A Service with one HTTP port and one endpoint 10.0.0.1.
    pub fn service(self, name: &str, port: u16) -> Docs {
        let (namespace, short) = name.split_once('/').unwrap();
        self.add("Service", name, &format!("spec: {{ports: [{{name: http, port: {port}}}]}}")).slice(
            &format!("{namespace}/{short}-1"),
            short,
            &format!("ports: [{{name: http, port: {port}}}]\nendpoints: [{{addresses: [10.0.0.1]}}]"),
        )
    }

    /// A Pod with labels (flow style).
    pub fn labelled(mut self, name: &str, labels: &str, body: &str) -> Docs {
        self.write("Pod", name, &format!(", labels: {{{labels}}}"), body);
        self
    }

    /// With an annotation (flow style).
    pub fn annotated(mut self, kind: &str, name: &str, annotation: &str, body: &str) -> Docs {
        self.write(kind, name, &format!(", annotations: {{{annotation}}}"), body);
        self
    }

    pub fn slice(mut self, name: &str, service: &str, body: &str) -> Docs {
        let meta = format!(", labels: {{kubernetes.io/service-name: {service}}}");
        self.write("EndpointSlice", name, &meta, &format!("addressType: IPv4\n{body}"));
        self
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn objects(&self) -> Vec<api::ApiObject> {
        let parsed = api::parse("test.yaml", &self.0, "default");
        assert_eq!(parsed.diagnostics, [], "{}", self.0);
        parsed.objects
    }

    pub fn world(&self) -> World {
        World::from_objects(self.objects())
    }

    pub fn translate(&self) -> Translation {
        translate(&self.world(), &proxy())
    }

    /// For the sidecar.
    pub fn to_sidecar(&self) -> Translation {
        translate(&self.world(), &sidecar())
    }

    /// Where the parser has its own findings too.
    pub fn translate_anyway(&self) -> Translation {
        translate(&World::from_objects(self.objects_anyway()), &proxy())
    }

    pub fn objects_anyway(&self) -> Vec<api::ApiObject> {
        api::parse("test.yaml", &self.0, "default").objects
    }
}

pub(super) fn docs() -> Docs {
    Docs::default()
}

pub(super) fn http_server(port: u16, hosts: &str) -> String {
    format!("{{port: {{number: {port}, name: http-{port}, protocol: HTTP}}, hosts: [{hosts}]}}")
}

pub(super) fn https_server(port: u16, name: &str, hosts: &str, tls: &str) -> String {
    format!("{{port: {{number: {port}, name: {name}, protocol: HTTPS}}, hosts: [{hosts}], tls: {{{tls}}}}}")
}

/// A route to a host (flow style).
pub(super) fn to(host: &str) -> String {
    format!("{{route: [{{destination: {{host: {host}}}}}]}}")
}

impl Translation {
    pub(super) fn hosts(&self, routes: &str) -> Vec<String> {
        self.set.routes[routes].virtual_hosts.iter().map(|host| host.host.to_string()).collect()
    }

    pub(super) fn host(&self, routes: &str, host: &str) -> &VirtualHost {
        let mut all = self.set.routes[routes].virtual_hosts.iter();
        all.find(|virtual_host| virtual_host.host.to_string() == host).unwrap()
    }

    pub(super) fn rules(&self, host: &str) -> &[Rule] {
        &self.host("http.80", host).rules
    }

    /// `namespace/name[http]` of the rules of a host, in order.
    pub(super) fn order(&self, host: &str) -> Vec<String> {
        self.rules(host).iter().map(|rule| rule.source.to_string()).collect()
    }

    pub(super) fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = self.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
        codes.dedup();
        codes
    }

    /// The diagnostics of a code, as users see them.
    pub(super) fn said(&self, code: crate::diag::Code) -> Vec<String> {
        let of = self.diagnostics.iter().filter(|diagnostic| diagnostic.code == code.id);
        of.map(ToString::to_string).collect()
    }

    /// Addresses of a destination.
    pub(super) fn addresses(&self, key: &str) -> Vec<String> {
        self.set.endpoints[key].endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    }
}

pub(super) fn forward(rule: &Rule) -> &Forward {
    match &*rule.action {
        Action::Forward(forward) => forward,
        other => unreachable!("{other:?}"),
    }
}

/// Keys of the destinations of a rule; `!` before unknown ones.
pub(super) fn keys(rule: &Rule) -> Vec<String> {
    let show = |destination: &DestinationRef| match destination {
        DestinationRef::Known(key) => key.to_string(),
        DestinationRef::Unknown(key) => format!("!{key}"),
    };
    forward(rule).splits.iter().map(|split| show(&split.destination)).collect()
}

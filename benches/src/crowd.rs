//! Thousands of routes as users would write them, in 50 namespaces, each with its Service and its endpoints.

use std::fmt::Write as _;

use mesh_core::api::{ApiObject, parse};
use mesh_core::model::ProxyInfo;

const NAMESPACES: usize = 50;

/// The gateway that serves them.
pub fn proxy() -> ProxyInfo {
    ProxyInfo::edge("gateway", "meshgate-system", [("istio".to_owned(), "ingressgateway".to_owned())].into())
}

/// A route with its Service and its endpoints, as text.
pub fn route(number: usize, path: &str) -> String {
    let namespace = number % NAMESPACES;
    let (third, fourth) = (number / 250, number % 250 + 1);
    let mut text = String::new();
    let _ = write!(
        text,
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: r{number}, namespace: ns-{namespace}}}
spec:
  hosts: [r{number}.example.com]
  gateways: [meshgate-system/edge]
  http:
  - match: [{{uri: {{prefix: {path}}}}}]
    route: [{{destination: {{host: s{number}, port: {{number: 80}}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: s{number}, namespace: ns-{namespace}}}
spec: {{ports: [{{name: http, port: 80, targetPort: 8080}}], selector: {{app: s{number}}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{number}-1, namespace: ns-{namespace}, labels: {{kubernetes.io/service-name: s{number}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.1.{third}.{fourth}], conditions: {{ready: true}}}}]
---
"
    );
    text
}

/// What is written there.
pub fn read(text: &str) -> Vec<ApiObject> {
    parse("", text, "default").objects
}

const EDGE: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: meshgate-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*/*']}]}
---
";

/// So many routes, and the Gateway that they are for.
pub fn objects(count: usize) -> Vec<ApiObject> {
    read(&(0..count).fold(EDGE.to_owned(), |text, number| text + &route(number, "/")))
}

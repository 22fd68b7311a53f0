//! Envoy as a sidecar, as Istio configures it: what leaves a workload by 15001, what arrives by 15006, mutual TLS between the two
//! with SPIFFE ids that are checked, the request forwarded with who came. No access log.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// One of the two sidecars: both have the same listeners.
#[derive(Clone, Debug)]
pub struct Sidecar<'a> {
    /// Has `cert.pem`, `key.pem` and `root.pem` of the workload.
    pub folder: &'a Path,
    /// The only service that is known by name; where its pod takes requests.
    pub web: SocketAddr,
    /// SPIFFE id of that.
    pub id: &'a str,
    /// What the two speak with each other: HTTP/2, else HTTP/1.1.
    pub h2: bool,
}

impl Sidecar<'_> {
    /// A bootstrap file (JSON is YAML).
    #[must_use]
    pub fn bootstrap(&self) -> Value {
        json!({
            "static_resources": {
                "listeners": [self.outbound(), self.inbound()],
                "clusters": [self.web(), original("passthrough", None), original("itself", Some("127.0.0.6"))],
            },
        })
    }

    fn outbound(&self) -> Value {
        let retries = json!({
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "num_retries": 2,
            "retriable_status_codes": [503],
        });
        let hosts = json!([
            { "name": "web", "domains": ["web", "web:*", "web.default.svc.cluster.local"],
              "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "web", "timeout": "0s", "retry_policy": retries } }] },
            { "name": "allow_any", "domains": ["*"],
              "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "passthrough", "timeout": "0s" } }] },
        ]);
        listener(15001, "OUTBOUND", &[], json!([{ "filters": [manager("outbound", &hosts, json!({}))] }]))
    }

    fn inbound(&self) -> Value {
        let hosts = json!([{ "name": "inbound", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "itself", "timeout": "0s" } }] }]);
        let who = json!({
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": { "subject": true, "uri": true },
        });
        let secured = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "require_client_certificate": true,
                "common_tls_context": self.tls(&json!({ "prefix": "spiffe://cluster.local/" }), &["h2", "http/1.1"]),
            },
        });
        let chains = json!([
            { "filter_chain_match": { "transport_protocol": "tls" }, "transport_socket": secured, "filters": [manager("inbound", &hosts, who)] },
            { "filters": [manager("inbound-clear", &hosts, json!({}))] },
        ]);
        listener(15006, "INBOUND", &["tls_inspector"], chains)
    }

    fn web(&self) -> Value {
        let alpn = if self.h2 { "h2" } else { "http/1.1" };
        let protocol = if self.h2 { "http2_protocol_options" } else { "http_protocol_options" };
        let endpoint = json!({ "endpoint": { "address": socket(&self.web.ip().to_string(), self.web.port()) } });
        json!({
            "name": "web",
            "type": "STATIC",
            "connect_timeout": "10s",
            "lb_policy": "LEAST_REQUEST",
            "circuit_breakers": { "thresholds": [{ "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000 }] },
            "load_assignment": { "cluster_name": "web", "endpoints": [{ "lb_endpoints": [endpoint] }] },
            "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { protocol: {} },
            } },
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"),
                    "sni": "outbound_.80_._.web.default.svc.cluster.local",
                    "common_tls_context": self.tls(&json!({ "exact": self.id }), &[alpn]),
                },
            },
        })
    }

    /// Own certificate, and whose id is taken.
    fn tls(&self, id: &Value, alpn: &[&str]) -> Value {
        let file = |name: &str| json!({ "filename": self.folder.join(name) });
        json!({
            "alpn_protocols": alpn,
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{ "certificate_chain": file("cert.pem"), "private_key": file("key.pem") }],
            "validation_context": {
                "trusted_ca": file("root.pem"),
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": id }],
            },
        })
    }
}

fn socket(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

/// Where the client was going; `from`: with this address, which the rules leave alone.
fn original(name: &str, from: Option<&str>) -> Value {
    let mut cluster =
        json!({ "name": name, "type": "ORIGINAL_DST", "connect_timeout": "10s", "lb_policy": "CLUSTER_PROVIDED" });
    if let (Some(from), Some(cluster)) = (from, cluster.as_object_mut()) {
        cluster.insert(
            "upstream_bind_config".to_owned(),
            json!({ "source_address": { "address": from, "port_value": 0 } }),
        );
    }
    cluster
}

fn listener(port: u16, direction: &str, more: &[&str], chains: Value) -> Value {
    let filter = |name: &str, kind: &str| {
        json!({
            "name": format!("envoy.filters.listener.{name}"),
            "typed_config": { "@type": format!("{EXTENSIONS}.filters.listener.{name}.v3.{kind}") },
        })
    };
    let mut filters = vec![filter("original_dst", "OriginalDst")];
    filters.extend(more.iter().map(|name| filter(name, "TlsInspector")));
    json!({
        "name": direction.to_lowercase(),
        "address": socket("0.0.0.0", port),
        "traffic_direction": direction,
        "listener_filters": filters,
        "filter_chains": chains,
    })
}

fn manager(name: &str, hosts: &Value, more: Value) -> Value {
    let mut config = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "use_remote_address": false,
        "generate_request_id": true,
        "normalize_path": true,
        "route_config": { "name": name, "virtual_hosts": hosts },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router") },
        }],
    });
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": config })
}

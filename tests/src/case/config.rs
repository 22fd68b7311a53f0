//! The configuration of a case as a runner needs it: placeholders filled in, services made for backends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_core::api::is_cluster_scoped;
use mesh_core::object::ObjectRef;
use mesh_core::testing::{BackendKind, BackendSettings, Case, Proxy, Request};
use serde_json::{Value, json};

use crate::certs;

/// Where backends listen that a sidecar reaches.
pub const SIDECAR_PORT: u16 = 18080;

/// Where the backends are.
pub type Addresses = BTreeMap<String, SocketAddr>;

/// Fills in `${...}`.
pub fn fill(text: &str, addresses: &Addresses) -> anyhow::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let (name, behind) = rest[at + 2..].split_once('}').context("`${` without `}`")?;
        out.push_str(&placeholder(name, addresses)?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn placeholder(name: &str, addresses: &Addresses) -> anyhow::Result<String> {
    if let Some(host) = name.strip_prefix("cert.") {
        return Ok(BASE64.encode(certs::certificate(host)?.certificate_pem));
    }
    if let Some(host) = name.strip_prefix("certfile.") {
        return certs::file(host);
    }
    if let Some(host) = name.strip_prefix("key.") {
        return Ok(BASE64.encode(certs::certificate(host)?.key_pem));
    }
    match name.split_once('.') {
        Some(("ca", name)) => return Ok(BASE64.encode(certs::authority(name)?)),
        Some(("crl", client)) => return Ok(BASE64.encode(certs::revoked(client)?)),
        Some(("hash", client)) => return certs::hash(client),
        Some(("spki", client)) => return certs::key_hash(client),
        Some(("cafile", name)) => return certs::written(&format!("ca-{name}"), &certs::authority(name)?),
        Some(("crlfile", client)) => return certs::written(&format!("crl-{client}"), &certs::revoked(client)?),
        Some(("clientcert", client)) => return Ok(BASE64.encode(certs::client(client)?.certificate_pem)),
        Some(("clientkey", client)) => return Ok(BASE64.encode(certs::client(client)?.key_pem)),
        Some(("clientfile", client)) => {
            return certs::written(&format!("client-{client}"), &certs::client(client)?.certificate_pem);
        }
        Some(("clientkeyfile", client)) => {
            return certs::written(&format!("key-{client}"), &certs::client(client)?.key_pem);
        }
        _ => {}
    }
    let (backend, what) = name.rsplit_once('.').with_context(|| format!("`${{{name}}}` is no placeholder"))?;
    let address = addresses.get(backend).with_context(|| format!("`${{{name}}}`: no such backend"))?;
    match what {
        "address" => Ok(address.ip().to_string()),
        "port" => Ok(address.port().to_string()),
        _ => bail!("`${{{name}}}`: neither address nor port"),
    }
}

/// The same in what says where a request goes.
pub fn filled(request: &Request, addresses: &Addresses) -> anyhow::Result<Request> {
    Ok(Request { to: fill(&request.to, addresses)?, host: fill(&request.host, addresses)?, ..request.clone() })
}

/// The services (JSON documents are YAML) of the backends: port 80, an endpoint per backend.
pub fn services(case: &Case, addresses: &Addresses) -> Vec<Value> {
    let mut services: BTreeMap<(String, String), Service> = BTreeMap::new();
    for (name, backend) in &case.backends {
        let settings = backend.settings();
        let (service, labels) = (service(name, &settings), labels_of(name, &settings));
        if service == "none" {
            continue;
        }
        let found = services.entry((settings.namespace.clone(), service)).or_insert_with(|| Service {
            protocol: settings.protocol.clone(),
            sidecars: settings.sidecar,
            endpoints: Vec::new(),
        });
        if settings.kind == BackendKind::Empty {
            continue;
        }
        if let Some(address) = addresses.get(name) {
            found.endpoints.push(json!({
                "address": address.ip().to_string(),
                "ports": { settings.protocol.clone(): address.port() },
                "labels": labels,
            }));
        }
    }
    let document = |(number, ((namespace, name), service)): (usize, (&(String, String), &Service))| {
        if service.sidecars { service.of_pods(number, namespace, name) } else { service.entry(namespace, name) }
    };
    services.iter().enumerate().map(document).collect()
}

/// Of the backends that share its name.
struct Service {
    protocol: String,
    /// Pods of the mesh, which its selector finds.
    sidecars: bool,
    endpoints: Vec<Value>,
}

impl Service {
    fn entry(&self, namespace: &str, name: &str) -> Value {
        let Service { protocol, endpoints, .. } = self;
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": { "name": format!("case-{name}"), "namespace": namespace },
            "spec": {
                "hosts": [format!("{name}.{namespace}.svc.cluster.local")],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "ports": [{ "number": 80, "name": protocol, "protocol": protocol.to_uppercase() }],
                "endpoints": endpoints,
            },
        })
    }

    fn of_pods(&self, number: usize, namespace: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "clusterIP": format!("10.96.1.{}", number + 1),
                "selector": { "app": name },
                "ports": [{ "name": self.protocol, "port": 80, "targetPort": SIDECAR_PORT }],
            },
        })
    }
}

/// `reviews-v1`: `reviews`, `v1`.
fn parts(name: &str) -> (&str, Option<String>) {
    match name.rsplit_once("-v") {
        Some((base, number)) if number.chars().all(|c| c.is_ascii_digit()) => (base, Some(format!("v{number}"))),
        _ => (name, None),
    }
}

/// Name of the service; `none`.
fn service(name: &str, settings: &BackendSettings) -> String {
    settings.service.clone().unwrap_or_else(|| parts(name).0.to_owned())
}

/// Labels of the endpoint.
pub fn labels_of(name: &str, settings: &BackendSettings) -> BTreeMap<String, String> {
    let mut labels = settings.labels.clone();
    if labels.is_empty() {
        let (base, version) = parts(name);
        let app = settings.service.as_deref().filter(|service| *service != "none").unwrap_or(base);
        labels.insert("app".to_owned(), app.to_owned());
        labels.extend(version.map(|version| ("version".to_owned(), version)));
    }
    labels
}

/// `KEY=VALUE,...`
pub fn labels(proxy: &Proxy) -> String {
    let labels: Vec<String> = proxy.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}

/// The documents of a text as values; none if it is not valid YAML.
pub fn documents(text: &str) -> Option<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).ok()?;
    Some(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// `Kind/namespace/name`
pub fn name_of(document: &Value) -> Option<String> {
    let kind = document.get("kind")?.as_str()?;
    let meta = document.get("metadata")?;
    let name = meta.get("name")?.as_str()?;
    let namespace = match meta.get("namespace").and_then(Value::as_str) {
        _ if is_cluster_scoped(kind) => "",
        namespace => namespace.unwrap_or("default"),
    };
    Some(ObjectRef::new(kind, namespace, name).to_string())
}

/// Servers listen at the runner's own address, so that ports can stay as they are written.
pub fn bind(document: &mut Value, ip: IpAddr) {
    if document.get("kind").and_then(Value::as_str) != Some("Gateway") {
        return;
    }
    let servers = document.pointer_mut("/spec/servers").and_then(Value::as_array_mut);
    for server in servers.into_iter().flatten().filter_map(Value::as_object_mut) {
        server.entry("bind").or_insert_with(|| json!(ip.to_string()));
    }
}

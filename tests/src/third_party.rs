//! Runs rows of the third-party cases (derived from Istio's own tests) that lie beside the repository, if they do. Their
//! schema is in the README there. Their addresses 127.0.10.x become addresses of this process; where a sample has
//! Deployments only, the Pods and EndpointSlices that a cluster would have are made here.

pub mod redirect;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use mesh_core::testing::BackendSettings;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::backend::{Backend, Saw};
use crate::client::{Client, Request, Response, TlsOptions};
use crate::process::{self, Meshgate};
use crate::{case, certs, ports};

/// Where the cases are: `MESHGATE_CASES`, or `../shared/cases` beside the repository. None: not on this machine.
pub fn folder() -> Option<PathBuf> {
    let folder =
        std::env::var_os("MESHGATE_CASES").map_or_else(|| process::repository().join("../shared/cases"), PathBuf::from);
    folder.is_dir().then_some(folder)
}

#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    pub id: String,
    /// Of routing files.
    #[serde(default)]
    pub role: Option<String>,
    #[serde(default)]
    pub proxy: Option<Proxy>,
    #[serde(default)]
    pub requires: Vec<String>,
    #[serde(default)]
    pub config: String,
    /// Of samples: files, relative to `samples`.
    #[serde(default)]
    pub apply: Vec<String>,
    pub calls: Vec<CallRow>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Proxy {
    pub namespace: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub ip: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct CallRow {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub role: Option<String>,
    pub call: Call,
    pub expect: Expectation,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    #[serde(default)]
    pub port: u16,
    #[serde(default)]
    pub protocol: String,
    #[serde(default)]
    pub tls: Option<CallTls>,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub follow_redirects: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct CallTls {
    #[serde(default)]
    pub sni: Option<String>,
    #[serde(default)]
    pub alpn: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Expectation {
    #[serde(default)]
    pub result: String,
    #[serde(default)]
    pub backend: Option<String>,
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub location: Option<String>,
    #[serde(default)]
    pub upstream: Map<String, Value>,
    /// Version -> share.
    #[serde(default)]
    pub distribution: BTreeMap<String, f64>,
    #[serde(default)]
    pub sample_size: Option<u32>,
    #[serde(default)]
    pub tolerance_suggested: Option<f64>,
}

/// The objects of a row, on addresses of this process.
pub struct Objects {
    pub documents: Vec<Value>,
    /// Of what was 127.0.10.x.
    prefix: String,
    made: u8,
}

impl Objects {
    pub fn new() -> Objects {
        Objects { documents: Vec::new(), prefix: ports::loopback_prefix(), made: 100 }
    }

    /// Objects of the same kind, namespace and name replace the former ones.
    pub fn add(&mut self, text: &str) -> anyhow::Result<()> {
        for mut document in case::documents(text).context("not YAML")? {
            self.adapt(&mut document)?;
            let name = case::name_of(&document);
            self.documents.retain(|other| name.is_none() || case::name_of(other) != name);
            self.documents.push(document);
        }
        Ok(())
    }

    fn adapt(&self, value: &mut Value) -> anyhow::Result<()> {
        match value {
            Value::String(text) => {
                let names = "*.echo.svc.cluster.local,a.example.com,localhost";
                match text.trim() {
                    "CERT_PEM" | "CA_PEM" => *text = certs::certificate(names)?.certificate_pem,
                    "KEY_PEM" => *text = certs::certificate(names)?.key_pem,
                    _ => *text = text.replace("127.0.10.", &self.prefix),
                }
            }
            Value::Array(list) => list.iter_mut().try_for_each(|value| self.adapt(value))?,
            Value::Object(map) => map.values_mut().try_for_each(|value| self.adapt(value))?,
            _ => {}
        }
        Ok(())
    }

    /// What a cluster would make of Deployments: a Pod each, and EndpointSlices of the Services that select it.
    pub fn deploy(&mut self) {
        let mut pods = Vec::new();
        for deployment in self.of_kind("Deployment") {
            let Some(labels) = deployment.pointer("/spec/template/metadata/labels").cloned() else { continue };
            let name = format!("{}-0", text(&deployment, "/metadata/name"));
            self.made += 1;
            let ip = format!("{}{}", self.prefix, self.made);
            pods.push((name, namespace(&deployment), labels, ip));
        }
        for (name, namespace, labels, ip) in &pods {
            self.documents.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": namespace, "labels": labels },
                "spec": {}, "status": { "podIP": ip, "podIPs": [{ "ip": ip }], "phase": "Running" },
            }));
        }
        for service in self.of_kind("Service") {
            let Some(selector) = service.pointer("/spec/selector").and_then(Value::as_object) else { continue };
            let (service_name, service_namespace) = (text(&service, "/metadata/name"), namespace(&service));
            let fits = |labels: &Value| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
            let endpoints: Vec<Value> = pods
                .iter()
                .filter(|(_, namespace, labels, _)| *namespace == service_namespace && fits(labels))
                .map(|(name, namespace, _, ip)| {
                    let target = json!({ "kind": "Pod", "name": name, "namespace": namespace });
                    json!({ "addresses": [ip], "conditions": { "ready": true }, "targetRef": target })
                })
                .collect();
            let ports: Vec<Value> = ports_of(&service)
                .map(|port| {
                    let target =
                        port.get("targetPort").and_then(Value::as_u64).or(port.get("port").and_then(Value::as_u64));
                    json!({ "name": port.get("name").cloned().unwrap_or_default(), "port": target, "protocol": "TCP" })
                })
                .collect();
            if !endpoints.is_empty() {
                self.documents.push(json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": { "name": format!("{service_name}-0"), "namespace": service_namespace,
                                  "labels": { "kubernetes.io/service-name": service_name } },
                    "endpoints": endpoints, "ports": ports,
                }));
            }
        }
    }

    /// Opens a listener for the calls of services, and binds the VirtualServices of the mesh to it: what a sidecar would do,
    /// done by a gateway.
    pub fn bind_mesh_rules(&mut self, ports: &BTreeSet<u16>) {
        for document in &mut self.documents {
            if text(document, "/kind") == "VirtualService"
                && let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut)
            {
                spec.entry("gateways").or_insert_with(|| json!(["default/for-services"]));
            }
        }
        let server = |port: &u16| json!({ "port": { "number": port, "name": format!("http-{port}"), "protocol": "HTTP" }, "hosts": ["*"] });
        let servers: Vec<Value> = ports.iter().map(server).collect();
        self.documents.push(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": { "name": "for-services", "namespace": "default" },
            "spec": { "selector": { "istio": "ingressgateway" }, "servers": servers },
        }));
    }

    /// True if a VirtualService names this host.
    pub fn has_rules_for(&self, host: &str) -> bool {
        let rules = self.of_kind("VirtualService");
        rules.iter().flat_map(|rule| list(rule, "/spec/hosts")).any(|named| named.as_str() == Some(host))
    }

    /// Label `version` of the Pod at each address.
    fn versions(&self) -> BTreeMap<String, String> {
        let version =
            |pod: &Value| (text(pod, "/status/podIP").to_owned(), text(pod, "/metadata/labels/version").to_owned());
        self.of_kind("Pod").iter().map(version).collect()
    }

    /// `Service NAME port N in NAMESPACE …`: what a row asks for and its files do not hold.
    pub fn require(&mut self, sentence: &str) {
        let words: Vec<&str> = sentence.split(' ').collect();
        let ["Service", name, "port", number, "in", namespace, ..] = words.as_slice() else { return };
        let Ok(port) = number.parse::<u16>() else { return };
        self.made += 1;
        let ip = format!("{}{}", self.prefix, self.made);
        self.documents.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
            "spec": { "ports": [{ "name": "http", "port": port }] },
        }));
        self.documents.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": format!("{name}-0"), "namespace": namespace,
                          "labels": { "kubernetes.io/service-name": name } },
            "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
            "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
        }));
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.documents.iter().filter(|document| text(document, "/kind") == kind).cloned().collect()
    }

    pub fn has_kind(&self, kind: &str) -> bool {
        !self.of_kind(kind).is_empty()
    }

    /// True if a ServiceEntry has this address (as the row wrote it) among its endpoints.
    pub fn names_endpoint(&self, written: &str) -> bool {
        let own = Value::String(written.replace("127.0.10.", &self.prefix));
        let entries = self.of_kind("ServiceEntry");
        entries
            .iter()
            .flat_map(|entry| list(entry, "/spec/endpoints"))
            .any(|endpoint| endpoint.get("address") == Some(&own))
    }

    /// Every address that an EndpointSlice or ServiceEntry names, with the host that it serves.
    fn endpoints(&self) -> Vec<(SocketAddr, String)> {
        let mut found = Vec::new();
        for slice in self.of_kind("EndpointSlice") {
            let service = text(&slice, "/metadata/labels/kubernetes.io~1service-name");
            let host = format!("{service}.{}.svc.cluster.local", namespace(&slice));
            for address in list(&slice, "/endpoints").flat_map(|endpoint| list(endpoint, "/addresses")) {
                for port in list(&slice, "/ports") {
                    found.extend(socket(address, port.get("port")).map(|address| (address, host.clone())));
                }
            }
        }
        for entry in self.of_kind("ServiceEntry") {
            for endpoint in list(&entry, "/spec/endpoints") {
                for port in list(&entry, "/spec/ports") {
                    let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
                    let own = endpoint.pointer("/ports").and_then(|ports| ports.get(name));
                    let target = own.or(port.get("targetPort")).or(port.get("number"));
                    let address = endpoint.get("address").and_then(|address| socket(address, target));
                    for host in list(&entry, "/spec/hosts").filter_map(Value::as_str) {
                        found.extend(address.map(|address| (address, host.to_owned())));
                    }
                }
            }
        }
        found
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn ports_of(service: &Value) -> impl Iterator<Item = &Value> {
    list(service, "/spec/ports")
}

fn namespace(object: &Value) -> String {
    let namespace = text(object, "/metadata/namespace");
    if namespace.is_empty() { "default".to_owned() } else { namespace.to_owned() }
}

fn socket(address: &Value, port: Option<&Value>) -> Option<SocketAddr> {
    let ip: IpAddr = address.as_str()?.parse().ok()?;
    let port = u16::try_from(port?.as_u64()?).ok()?;
    // Only what may be listened on here.
    ip.is_loopback().then(|| SocketAddr::new(ip, port))
}

/// A row, running.
pub struct Running {
    meshgate: Meshgate,
    ip: IpAddr,
    backends: Vec<Backend>,
    hosts: BTreeMap<String, Vec<String>>,
    versions: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

/// What a call showed.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    Fails(String),
}

impl Running {
    pub async fn start(objects: &Objects, proxy: Option<&Proxy>) -> anyhow::Result<Running> {
        let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut backends = Vec::new();
        for (address, host) in objects.endpoints() {
            let known = hosts.entry(address.to_string()).or_default();
            if known.is_empty() {
                backends
                    .push(Backend::with_settings_at(address, &address.to_string(), &BackendSettings::default()).await?);
            }
            known.push(host);
        }
        let ip = ports::loopback();
        let folder = tempfile::tempdir()?;
        for (index, document) in objects.documents.iter().enumerate() {
            let mut document = document.clone();
            case::bind(&mut document, ip);
            std::fs::write(folder.path().join(format!("{index:03}.yaml")), document.to_string())?;
        }
        let mut arguments: Vec<String> =
            ["-f", &folder.path().to_string_lossy(), "--workers", "1", "--drain-seconds", "1"]
                .map(str::to_owned)
                .into();
        arguments.extend(identity(proxy));
        let meshgate = tokio::task::spawn_blocking(move || Meshgate::start(arguments)).await??;
        Ok(Running { meshgate, ip, backends, hosts, versions: objects.versions(), folder })
    }

    /// Codes that `meshgate check` finds.
    pub fn codes(&self, proxy: Option<&Proxy>) -> anyhow::Result<Vec<(String, String)>> {
        let mut arguments: Vec<String> =
            ["check", "-o", "json", "-f", &self.folder.path().to_string_lossy()].map(str::to_owned).into();
        arguments.extend(identity(proxy));
        codes(&arguments)
    }

    pub fn log(&self) -> String {
        self.meshgate.log()
    }

    pub fn backends(&self) -> usize {
        self.backends.len()
    }

    pub async fn call(&self, call: &Call, expect: &Expectation) -> Verdict {
        let address = SocketAddr::new(self.ip, call.port);
        let tls = call.tls.as_ref().map(|tls| TlsOptions {
            sni: tls.sni.clone(),
            alpn: if tls.alpn.is_empty() { alpn(&call.protocol) } else { tls.alpn.clone() },
            ..TlsOptions::default()
        });
        let h2 = matches!(call.protocol.as_str(), "http2" | "grpc");
        let connected = Client::connect(address, tls.as_ref(), h2).await;
        let mut client = match connected {
            Ok((client, _)) => client,
            Err(error) => {
                let error = format!("{error:#}");
                let kind = if error.contains("connecting to") { "no_listener" } else { "tls_failure" };
                return verdict(expect, kind, None, &error);
            }
        };
        let mut request = plain(call);
        let mut answer = client.send(&request).await;
        if let (true, Ok(first)) = (call.follow_redirects, &answer)
            && let Some(path) = first.header("location").and_then(|location| location.split(&call.host).nth(1))
        {
            path.clone_into(&mut request.path);
            answer = client.send(&request).await;
        }
        match answer {
            // Bytes for which there is no route are accepted and closed, which leaves a line in the log; Istio does not listen.
            Err(error) if call.protocol == "tcp" => verdict(expect, "no_listener", None, &format!("{error:#}")),
            Err(error) => verdict(expect, "connection_closed", None, &format!("{error:#}")),
            Ok(answer) => self.compare(expect, &answer),
        }
    }

    fn version(&self, address: &str) -> Option<&str> {
        self.versions.get(address.split(':').next()?).map(String::as_str)
    }

    /// Many calls of one kind over one connection: the share of each version.
    pub async fn distribution(&self, call: &Call, expect: &Expectation) -> anyhow::Result<Verdict> {
        let (mut client, _) = Client::connect(SocketAddr::new(self.ip, call.port), None, false).await?;
        let request = plain(call);
        // More than the row asks for: its tolerance is three standard deviations, and a test must not fail by chance.
        let total = expect.sample_size.unwrap_or(1000) * 3;
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..total {
            let answer = client.send(&request).await?;
            let from = answer.header("x-backend").and_then(|from| self.version(from)).unwrap_or("none");
            *counts.entry(from.to_owned()).or_default() += 1;
        }
        let tolerance = expect.tolerance_suggested.unwrap_or(0.05);
        let share = |version: &String| f64::from(counts.get(version).copied().unwrap_or_default()) / f64::from(total);
        let holds = expect.distribution.iter().all(|(version, wanted)| (share(version) - wanted).abs() <= tolerance);
        let known: u32 = expect.distribution.keys().filter_map(|version| counts.get(version)).sum();
        Ok(if holds && known == total { Verdict::Holds } else { Verdict::Fails(format!("shares {counts:?}")) })
    }

    fn compare(&self, expect: &Expectation, answer: &Response) -> Verdict {
        let from = answer.header("x-backend");
        let kind = match (from, answer.status) {
            (Some(_), _) => "routed",
            (None, 404) => "not_found",
            (None, 503) => "unavailable",
            (None, 300..=399) => "redirect",
            _ => "direct",
        };
        if let Verdict::Fails(why) = verdict(expect, kind, Some(answer), "") {
            return Verdict::Fails(why);
        }
        if let (Some(backend), Some(from)) = (&expect.backend, from) {
            let mut parts = backend.split('/');
            let (host, subset) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("-"));
            if subset != "-" && self.version(from) != Some(subset) {
                return Verdict::Fails(format!("answered by version {:?}, not {backend}", self.version(from)));
            }
            let serves = self.hosts.get(from).is_some_and(|hosts| hosts.iter().any(|known| known == host));
            if !serves {
                return Verdict::Fails(format!("answered by {:?}, not {backend}", self.hosts.get(from)));
            }
        }
        if let Ok(saw) = serde_json::from_slice::<Saw>(&answer.body)
            && let Some(why) = upstream_differs(&expect.upstream, &saw)
        {
            return Verdict::Fails(why);
        }
        Verdict::Holds
    }
}

/// What of the request as the backend saw it is not as expected; only of what is looked at here.
fn upstream_differs(expected: &Map<String, Value>, saw: &Saw) -> Option<String> {
    for (key, value) in expected {
        let seen = match key.as_str() {
            "path" => saw.path.as_str(),
            "host" => saw.authority.as_str(),
            "protocol" => {
                let wanted = if value.as_str()?.contains('2') { "HTTP/2.0" } else { "HTTP/1.1" };
                if saw.protocol != wanted {
                    return Some(format!("the backend saw {}, not {value}", saw.protocol));
                }
                continue;
            }
            _ => continue,
        };
        if value.as_str() != Some(seen) {
            return Some(format!("the backend saw {key} {seen}, not {value}"));
        }
    }
    for (name, value) in expected.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let seen = crate::client::values(&saw.headers, name);
        if !value.as_str().is_some_and(|value| seen.contains(&value)) {
            return Some(format!("the backend saw {name}: {seen:?}, not {value}"));
        }
    }
    for name in expected.get("headers_absent").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if !crate::client::values(&saw.headers, name).is_empty() {
            return Some(format!("the backend saw {name}"));
        }
    }
    None
}

fn plain(call: &Call) -> Request {
    let mut request = Request::get(&call.host, call.path.as_deref().unwrap_or("/"));
    request.method = call.method.clone().unwrap_or_else(|| "GET".to_owned());
    request.headers = call.headers.clone().into_iter().collect();
    request
}

fn alpn(protocol: &str) -> Vec<String> {
    match protocol {
        "http2" | "grpc" => vec!["h2".to_owned()],
        "http" => vec!["http/1.1".to_owned()],
        _ => Vec::new(),
    }
}

fn verdict(expect: &Expectation, kind: &str, answer: Option<&Response>, detail: &str) -> Verdict {
    let failure = |kind: &str| matches!(kind, "tls_failure" | "connection_closed");
    let fits = match expect.result.as_str() {
        "" => true,
        "error" => failure(kind) || matches!(kind, "no_listener" | "unavailable" | "not_found"),
        wanted => wanted == kind || (failure(wanted) && failure(kind)),
    };
    if !fits {
        let status = answer.map_or(0, |answer| answer.status);
        return Verdict::Fails(format!("{kind} (status {status}) {detail}, not {}", expect.result));
    }
    if let (Some(wanted), Some(answer)) = (expect.status, answer)
        && answer.status != wanted
    {
        return Verdict::Fails(format!("status {}, not {wanted}", answer.status));
    }
    if let (Some(wanted), Some(answer)) = (&expect.location, answer)
        && answer.header("location") != Some(wanted)
    {
        return Verdict::Fails(format!("location {:?}, not {wanted}", answer.header("location")));
    }
    Verdict::Holds
}

fn identity(proxy: Option<&Proxy>) -> Vec<String> {
    let Some(proxy) = proxy else { return Vec::new() };
    let labels: Vec<String> = proxy.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    ["--namespace", &proxy.namespace, "--labels", &labels.join(",")].map(str::to_owned).into()
}

/// Code and severity of each finding.
pub fn codes(arguments: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let output = process::run_to_end(arguments)?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let field = |finding: &Value, key: &str| finding.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(list(&report, "/diagnostics").map(|finding| (field(finding, "code"), field(finding, "severity"))).collect())
}

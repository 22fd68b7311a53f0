//! A case: what is configured, what listens behind, what is asked.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Expect, ExpectedDiagnostic};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The one rule that this case is about.
    pub about: String,
    /// Where the rule is written, for example `Istio: VirtualService http action`.
    #[serde(default)]
    pub from: Option<String>,
    #[serde(default)]
    pub proxy: Proxy,
    /// Runners that can show it; empty: all that know its proxy ([`Runner::knows`]).
    #[serde(default)]
    pub runners: Vec<Runner>,
    /// Ordinary API objects. `${NAME.address}`, `${NAME.port}`: a backend's; `${cert.HOST}`, `${key.HOST}`: PEM, base64, of a
    /// certificate for HOST; `${ca.CA}`: the same of a CA, `${crl.CA/NAME}`: of its list with that client's certificate;
    /// `${hash.CA/NAME}`, `${spki.CA/NAME}`: of that certificate; `${certfile.HOST}`: path of a file with HOST's.
    #[serde(default)]
    pub config: String,
    #[serde(default)]
    pub backends: BTreeMap<String, Backend>,
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Of the first configuration. `Some`: these and no other errors or warnings.
    #[serde(default)]
    pub diagnostics: Option<Vec<ExpectedDiagnostic>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    Memory,
    Process,
    Cluster,
    Mesh,
}

impl Runner {
    /// Whether it has proxies of this role.
    #[must_use]
    pub fn knows(self, proxy: &Proxy) -> bool {
        match self {
            Runner::Memory => true,
            Runner::Process | Runner::Cluster => proxy.role == "edge",
            Runner::Mesh => proxy.role == "sidecar",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    pub role: String,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    /// A sidecar that answers for names: `to` may be `NAME:PORT`.
    pub dns_capture: bool,
    /// `region/zone/subzone` (memory and process).
    pub locality: String,
    /// A sidecar: its account may not list the secrets of its namespace.
    pub without_secrets: bool,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            role: "edge".to_owned(),
            namespace: "istio-system".to_owned(),
            labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
            dns_capture: false,
            locality: String::new(),
            without_secrets: false,
        }
    }
}

/// A server behind the gateway: `echo`, or what differs from an echo.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Backend {
    Named(BackendKind),
    Settings(Box<BackendSettings>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// Answers 200 with a JSON of what it saw.
    Echo,
    /// An address where nobody listens.
    Refused,
    /// A service without endpoints.
    Empty,
    /// Closes each connection as soon as a request has begun.
    Close,
    /// Takes connections, and never says anything.
    Mute,
    /// An HTTP proxy: it goes where a CONNECT asks for, or answers that with `status` where it is not 200. Else an echo.
    Connect,
    /// Accepts nobody, and has no room for more who wait: who connects hears nothing.
    Deaf,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendSettings {
    pub kind: BackendKind,
    /// Service (namespace `default`) that is made for it, with port 80; default: the name without `-vN`. `none`: the
    /// configuration does it.
    pub service: Option<String>,
    pub namespace: String,
    /// A pod of the mesh, with a sidecar, an account of its service's name, and a Service of Kubernetes; else a server that
    /// knows nothing of the mesh.
    pub sidecar: bool,
    /// `http`, `http2`, `grpc`, `tcp`: protocol of the service's port.
    pub protocol: String,
    /// It speaks TLS alone, and as this says; else TLS with a certificate for `backend.example` where a client begins so.
    pub tls: Option<BackendTls>,
    /// Each connection must begin with a PROXY header, before TLS.
    pub proxy_protocol: bool,
    /// Labels of the endpoint; default: `version: vN` of the name.
    pub labels: BTreeMap<String, String>,
    pub status: u16,
    /// The first so many requests get `status`, later ones 200.
    pub fail_first: Option<u32>,
    pub delay_ms: u64,
    pub headers: BTreeMap<String, String>,
    pub trailers: BTreeMap<String, String>,
    /// Instead of the JSON.
    pub body: Option<String>,
}

/// TLS of a backend.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendTls {
    /// Its certificate: `CA/NAME,NAME`.
    pub certificate: String,
    /// Clients must show a certificate of this CA.
    #[serde(default)]
    pub clients: Option<String>,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            kind: BackendKind::Echo,
            service: None,
            namespace: "default".to_owned(),
            sidecar: false,
            protocol: "http".to_owned(),
            tls: None,
            proxy_protocol: false,
            labels: BTreeMap::new(),
            status: 200,
            fail_first: None,
            delay_ms: 0,
            headers: BTreeMap::new(),
            trailers: BTreeMap::new(),
            body: None,
        }
    }
}

impl Backend {
    pub fn settings(&self) -> BackendSettings {
        match self {
            Backend::Named(kind) => BackendSettings { kind: *kind, ..BackendSettings::default() },
            Backend::Settings(settings) => BackendSettings::clone(settings),
        }
    }
}

/// Exactly one of `request`, `apply`, `delete`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    #[serde(default)]
    pub request: Option<Request>,
    #[serde(default)]
    pub expect: Option<Expect>,
    /// Objects added or replaced between requests.
    #[serde(default)]
    pub apply: Option<String>,
    /// `Kind/namespace/name`
    #[serde(default)]
    pub delete: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// `:8080`; the port that a Gateway names. Of a sidecar where its workload calls, `10.0.0.1:80` or `:80` of an address that
    /// nobody has, `unix:///path` or `unix://@name` of a Unix socket, or `inbound:80` where it is called. `${NAME.address}`, `${NAME.port}`: a backend's.
    pub to: String,
    /// Who asks, in the mesh: a backend with a sidecar, or `outside`, who has none. Default: the workload, and of what arrives
    /// there `outside`.
    pub from: Option<String>,
    pub host: String,
    pub method: String,
    /// With query.
    pub path: String,
    /// A list gives several lines of one name.
    pub headers: BTreeMap<String, Lines>,
    pub body: Option<String>,
    pub trailers: BTreeMap<String, String>,
    pub tls: Option<Tls>,
    /// `h1`, `h2` (in clear text: prior knowledge); over TLS what ALPN says.
    pub protocol: Option<String>,
    pub repeat: u32,
    /// So many at the same time, each on a connection of its own. `split` is about all of them, what else is expected about those
    /// that no backend answered.
    pub at_once: u32,
    /// Bytes to send as they are on HTTP/1.1, instead of all of the above but `to` and `tls`; `\r\n` for each line break.
    pub raw: Option<String>,
    /// What a load balancer in front says on each connection before the client's own bytes, and before TLS: a PROXY header.
    pub preamble: String,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            to: ":8080".to_owned(),
            from: None,
            host: "a.example".to_owned(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            body: None,
            trailers: BTreeMap::new(),
            tls: None,
            protocol: None,
            repeat: 1,
            at_once: 1,
            raw: None,
            preamble: String::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Lines {
    One(String),
    Many(Vec<String>),
}

impl Lines {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Lines::One(line) => std::slice::from_ref(line).iter(),
            Lines::Many(lines) => lines.iter(),
        }
        .map(String::as_str)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// None: no SNI.
    pub sni: Option<String>,
    /// Default: what `protocol` needs.
    pub alpn: Option<Vec<String>>,
    /// `1.2` or `1.3`: this one only.
    pub version: Option<String>,
    /// Certificate that the client shows, `CA/NAME,NAME`; default: none.
    pub client: Option<String>,
}

//! Command line and environment: what the user typed becomes [`Start`], or what another verb needs. Knows flags and their
//! defaults, not what is done with them.

mod acme;
mod limits;
mod quick;
mod sidecar;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use mesh_core::model::{Place, ProxyInfo};
use mesh_core::wire::proto::Node;

pub use acme::AcmeArgs;
pub use limits::LimitArgs;
pub use quick::{Quick, Target};
use quick::{parse_domain, parse_target};
pub use sidecar::{SidecarCli, SidecarCommand, SidecarRunArgs};

use crate::acme::AcmeOptions;
use crate::admin::Audience;
use crate::exit;
use crate::logging::Logging;
use crate::observe::{LogSettings, LogTarget, hostname};
use crate::sidecar::dns::DnsOptions;
use crate::source::{ControllerOptions, FilesOptions};

/// Of objects that do not say theirs, as kubectl has it.
const DEFAULT_NAMESPACE: &str = "default";

/// An ingress gateway that reads Istio's API.
#[derive(Debug, Parser)]
#[command(name = "meshgate", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve traffic as the given objects say.
    Run(Box<RunArgs>),
    /// Read the given objects and say what is wrong with them.
    Check(CheckArgs),
}

/// Which gateway this is.
#[derive(Clone, Debug, Args)]
pub struct IdentityArgs {
    /// Namespace of the gateway: its TLS secrets are looked up here.
    #[arg(long, value_name = "NS", default_value = "istio-system")]
    pub namespace: String,
    /// Labels of the gateway: it serves the Gateways whose selector they satisfy.
    #[arg(long, value_name = "K=V,...", default_value = "istio=ingressgateway", value_parser = parse_labels)]
    pub labels: Labels,
}

impl IdentityArgs {
    /// As the configuration sees it.
    #[must_use]
    pub fn proxy(&self) -> ProxyInfo {
        let env = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        ProxyInfo {
            service_account: env("SERVICE_ACCOUNT", "default"),
            orders: true,
            ..ProxyInfo::edge(&env("POD_NAME", "meshgate"), &self.namespace, self.labels.0.clone())
        }
    }
}

/// `k=v,k=v`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, String>);

/// Flags of every process that serves traffic.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Files or directories with objects in YAML or JSON, watched for changes; `-` reads standard input once.
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1.., action = clap::ArgAction::Append)]
    pub files: Vec<PathBuf>,
    /// Configuration from a controller, which says who may see what by the token.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_controller, env = "MESHGATE_CONTROLLER")]
    pub controller: Option<String>,
    /// With --controller: certificates (PEM) that the controller's may come from.
    #[arg(long, value_name = "FILE", requires = "controller", default_value = "/var/run/secrets/istio/root-cert.pem")]
    pub controller_ca: PathBuf,
    /// With --controller: name in its certificate [default: the host of --controller]
    #[arg(long, value_name = "NAME", requires = "controller")]
    pub controller_name: Option<String>,
    /// With --controller: the token of this pod's service account; it is read again for each connection.
    #[arg(long, value_name = "FILE", requires = "controller", default_value = "/var/run/secrets/tokens/istio-token")]
    pub token: PathBuf,
    /// Where the admin pages listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000", value_parser = parse_listen)]
    pub admin: SocketAddr,
    /// Where readiness and metrics listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:15021", value_parser = parse_listen)]
    pub status: SocketAddr,
    /// Threads that serve traffic [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Where this proxy is: endpoints near it may be preferred [default: what the controller says, or the label istio-locality]
    #[arg(long, value_name = "REGION/ZONE/SUBZONE", env = "MESHGATE_LOCALITY")]
    pub locality: Option<String>,
    /// error, warn, info, debug, trace, or a filter such as `gateway::store=debug,info`.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "MESHGATE_LOG", value_parser = parse_log)]
    pub log: String,
    /// Access log, whatever MeshConfig says [default: as `accessLogFile` and `accessLogEncoding` of the MeshConfig, else off]
    #[arg(long, value_name = "ENCODING")]
    pub access_log: Option<AccessLogArg>,
    /// Where the access log goes; `-` is standard output.
    #[arg(long, value_name = "PATH")]
    pub access_log_file: Option<PathBuf>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("config").required(true).multiple(false).args(["files", "to", "controller"]))]
pub struct RunArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Without any file: send every request to this server. `:3000` is port 3000 of this machine.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_target)]
    pub to: Option<Target>,
    /// With --to: serve only this host.
    #[arg(long, value_name = "HOST", requires = "to")]
    pub from: Option<String>,
    /// With --to: serve only these domains, over HTTPS with certificates that are ordered for them and renewed (ACME). Private names
    /// and addresses (localhost, *.internal, *.local, 10.0.0.1) get theirs from a CA of this machine.
    #[arg(long, value_name = "NAME,...", requires = "to", conflicts_with_all = ["from", "files", "controller"], value_delimiter = ',', value_parser = parse_domain)]
    pub domain: Vec<String>,
    /// With --to: where to listen [default: 0.0.0.0:8080, with --domain 0.0.0.0:80]
    #[arg(long, value_name = "HOST:PORT", requires = "to", value_parser = parse_serve)]
    pub http: Option<SocketAddr>,
    /// With --domain: where to listen for HTTPS [default: 0.0.0.0:443]
    #[arg(long, value_name = "HOST:PORT", requires = "domain", value_parser = parse_serve)]
    pub https: Option<SocketAddr>,
    #[command(flatten)]
    pub acme: AcmeArgs,
    /// After the signal to stop: how long requests in flight may still take.
    #[arg(long, value_name = "N", default_value_t = 45)]
    pub drain_seconds: u64,
    /// After the signal to stop: how long connections are still accepted, for load balancers that have not noticed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub accept_seconds: u64,
    /// Connections from these addresses, a load balancer's, begin with a PROXY header (version 1 or 2), and no others do
    /// [default: all do if `gatewayTopology.proxyProtocol` of the MeshConfig is set, else none]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', env = "MESHGATE_PROXY_PROTOCOL_FROM")]
    pub proxy_protocol_from: Option<Vec<IpNet>>,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

/// What a process is started with, whatever its role.
#[derive(Clone, Debug)]
pub struct Start {
    /// For messages.
    pub program: &'static str,
    pub serve: ServeArgs,
    /// Objects that do not come from a file, with a name for diagnostics.
    pub text: Option<(String, String)>,
    pub proxy: ProxyInfo,
    /// `router`, `sidecar`: what discovery calls the role.
    pub node: &'static str,
    /// Where a workload certificate is to be expected, the process is not ready before it is there. What is configured is served
    /// all the same.
    pub certificate_first: bool,
    pub end: End,
    /// See [`ListenOptions::load_balancers`](crate::listen::ListenOptions::load_balancers).
    pub load_balancers: Option<Arc<[IpNet]>>,
    /// Where else pages are.
    pub pages: Vec<(SocketAddr, Audience)>,
    /// Queries for names are answered.
    pub dns: Option<DnsOptions>,
    /// Certificates are ordered where Gateways ask for that.
    pub acme: Option<AcmeOptions>,
}

/// How a process ends that is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How long connections are still accepted, and told to go elsewhere.
    pub accept: Duration,
    /// And longer, until there is none.
    pub until_idle: bool,
    /// How long what runs may take after that.
    pub drain: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogArg {
    Text,
    Json,
    Off,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Files or directories with objects in YAML or JSON; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1.., required = true, action = clap::ArgAction::Append)]
    pub files: Vec<PathBuf>,
    /// How to print what was found.
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    #[command(flatten)]
    pub identity: IdentityArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Text,
    Json,
}

impl CheckArgs {
    #[must_use]
    pub fn files_options(&self) -> FilesOptions {
        FilesOptions {
            paths: self.files.clone(),
            text: None,
            default_namespace: DEFAULT_NAMESPACE.to_owned(),
            proxy: self.identity.proxy(),
        }
    }
}

impl RunArgs {
    #[must_use]
    pub fn start(&self) -> Start {
        let text = self.to.as_ref().map(|to| self.quick(to));
        Start {
            program: "meshgate",
            serve: self.serve.clone(),
            text: text.map(|text| ("<command line>".to_owned(), text)),
            proxy: self.identity.proxy(),
            node: "router",
            certificate_first: false,
            end: End {
                accept: Duration::from_secs(self.accept_seconds),
                until_idle: false,
                drain: Duration::from_secs(self.drain_seconds),
            },
            load_balancers: self.proxy_protocol_from.as_deref().map(Arc::from),
            pages: Vec::new(),
            dns: None,
            acme: self.serve.controller.is_none().then(|| self.acme.options()),
        }
    }

    /// What flags say together that none says alone.
    pub fn check(&self) -> Result<(), String> {
        let (http, https) = self.doors();
        let Some(https) = https.filter(|https| https.port() == http.port()) else { return Ok(()) };
        let same = http.ip() == https.ip() || http.ip().is_unspecified() || https.ip().is_unspecified();
        match same {
            true => Err(format!("--http {http} and --https {https} are one port; each needs its own")),
            false => Ok(()),
        }
    }

    /// Where `--to` listens.
    fn doors(&self) -> (SocketAddr, Option<SocketAddr>) {
        let everywhere = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        let orders = !self.domain.is_empty();
        let http = self.http.unwrap_or_else(|| everywhere(if orders { 80 } else { 8080 }));
        (http, orders.then(|| self.https.unwrap_or_else(|| everywhere(443))))
    }

    fn quick(&self, to: &Target) -> String {
        let (http, https) = self.doors();
        let mut hosts: Vec<String> = self.from.iter().chain(&self.domain).cloned().collect();
        // A name that is given twice is no reason to serve none.
        let mut seen = BTreeSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        Quick { to, hosts: &hosts, http, https }.objects()
    }
}

impl Start {
    #[must_use]
    pub fn files_options(&self) -> FilesOptions {
        FilesOptions {
            paths: self.serve.files.clone(),
            text: self.text.clone(),
            default_namespace: DEFAULT_NAMESPACE.to_owned(),
            proxy: self.proxy.clone(),
        }
    }

    /// With `--controller`: where it is, and who this is.
    #[must_use]
    pub fn controller_options(&self) -> Option<ControllerOptions> {
        let address = self.serve.controller.clone()?;
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let pod = std::env::var("POD_NAME").unwrap_or_else(|_| hostname().to_owned());
        let namespace = std::env::var("POD_NAMESPACE").unwrap_or_else(|_| self.proxy.namespace.clone());
        Some(ControllerOptions {
            name: self.serve.controller_name.clone().unwrap_or_else(|| host.to_owned()),
            ca: self.serve.controller_ca.clone(),
            token: self.serve.token.clone(),
            node: Node {
                id: format!("{}~{pod}.{namespace}", self.node),
                cluster: std::env::var("ISTIO_META_CLUSTER_ID").unwrap_or_else(|_| "Kubernetes".to_owned()),
                user_agent_name: self.program.to_owned(),
                user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Node::default()
            },
            asks_place: self.serve.locality.is_none(),
            address,
        })
    }
}

impl ServeArgs {
    /// Where this proxy is, as far as it was told; `labels` are its own.
    #[must_use]
    pub fn place(&self, labels: &BTreeMap<String, String>) -> Place {
        let locality = match &self.locality {
            Some(locality) => locality.clone(),
            // Labels cannot hold a `/`.
            None => labels.get("istio-locality").map(|label| label.replace('.', "/")).unwrap_or_default(),
        };
        let node = std::env::var("ISTIO_META_NODE_NAME").unwrap_or_default();
        Place { locality: locality.into(), node: node.into() }
    }

    /// As many as cores, unless said otherwise.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// Of `--access-log` and `--access-log-file`; none: as the configuration says.
    #[must_use]
    pub fn access_log_override(&self) -> Option<Option<LogSettings>> {
        let path = self.access_log_file.as_deref();
        let json = match self.access_log {
            Some(AccessLogArg::Off) => return Some(None),
            Some(AccessLogArg::Json) => true,
            Some(AccessLogArg::Text) => false,
            None if path.is_some() => false,
            None => return None,
        };
        let target = path.map_or(LogTarget::Stdout, LogTarget::from_path);
        Some(Some(LogSettings { target, json, format: None }))
    }
}

/// Reads the command line. `Err` is the exit code of a process that has nothing more to do (usage error, help, version);
/// the text is printed already.
pub fn parse<C, I>(arguments: I) -> Result<C, u8>
where
    C: Parser,
    I: IntoIterator,
    I::Item: Into<std::ffi::OsString> + Clone,
{
    C::try_parse_from(arguments).map_err(|error| {
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::OK,
            _ => exit::USAGE,
        }
    })
}

fn parse_labels(text: &str) -> Result<Labels, String> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not KEY=VALUE"))?;
        if key.is_empty() {
            return Err(format!("`{pair}` has an empty key"));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(Labels(labels))
}

fn parse_log(text: &str) -> Result<String, String> {
    Logging::check(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// `HOST:PORT` with a literal address; `:PORT` means every address, `localhost` the loopback.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let text = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.replace("localhost:", "127.0.0.1:"),
    };
    text.parse().map_err(|_| format!("`{text}` is not an address and a port, such as 127.0.0.1:8080"))
}

/// `HOST:PORT`; the port may be left out.
fn parse_controller(text: &str) -> Result<String, String> {
    let with_port = if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        text.to_owned()
    } else {
        format!("{text}:15012")
    };
    match with_port.parse::<http::uri::Authority>() {
        Ok(_) => Ok(with_port),
        Err(_) => Err(format!("`{text}` is not HOST:PORT")),
    }
}

/// As a Gateway's port: 0 is none.
fn parse_serve(text: &str) -> Result<SocketAddr, String> {
    let address = parse_listen(text)?;
    if address.port() == 0 {
        return Err("port 0 is none to serve on; name one from 1 to 65535".to_owned());
    }
    Ok(address)
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;

//! Command line and environment of the controller.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The controller of Meshgate: watches Kubernetes and tells the proxies.
#[derive(Clone, Debug, Parser)]
#[command(name = "meshgate-controller", version)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub options: Options,
}

/// What it does instead of running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print the definitions of the objects that Kubernetes must know.
    Crds,
}

#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Namespace of the controller, and of gateways.
    #[arg(long, value_name = "NS", default_value = "meshgate-system", env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Further namespaces in which gateways run: their TLS secrets are theirs alone. The controller must be allowed to read these
    /// (deploy/gateway-namespace).
    #[arg(long, value_name = "NS,...", value_delimiter = ',', env = "GATEWAY_NAMESPACES")]
    pub gateway_namespaces: Vec<String>,
    /// Name of this replica in the Lease.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "meshgate-controller")]
    pub replica: String,
    /// Name of the Service in front of the replicas: proxies expect it in the certificate.
    #[arg(long, value_name = "NAME", default_value = "meshgate-controller")]
    pub service: String,
    /// Further names or addresses for the certificate.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub san: Vec<String>,
    /// kubeconfig [default: that of the pod, else KUBECONFIG]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where proxies connect; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:15012")]
    pub discovery: SocketAddr,
    /// Where metrics, readiness and debug pages listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:15014")]
    pub admin: SocketAddr,
    /// Where the validating webhook listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:15017")]
    pub webhook: SocketAddr,
    /// error, warn, info, debug, trace, or a filter such as `controller::push=debug,info`. The
    /// default is silent about single attempts to reach the API server: whoever needs it says so.
    #[arg(long, value_name = "LEVEL", default_value = "info,kube_client::client::builder=off", env = "MESHGATE_LOG")]
    pub log: String,
}

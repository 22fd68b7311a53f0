//! Command line and environment of the controller.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::ca::OVERLAP;
use crate::push::KEEP_ALIVE;

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

/// Names of namespaces, with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(pub Vec<String>);

impl FromStr for Namespaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Namespaces, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names = names.map(|name| match is_label(name) {
            true => Ok(name.to_owned()),
            false => Err(format!("`{name}` is no name of a namespace")),
        });
        names.collect::<Result<_, _>>().map(Namespaces)
    }
}

/// Of DNS (RFC 1123), as names of namespaces are.
fn is_label(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('-') && !text.ends_with('-')
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
    #[arg(long, value_name = "NS,...", default_value = "", hide_default_value = true, env = "GATEWAY_NAMESPACES")]
    pub gateway_namespaces: Namespaces,
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
    /// Image of sidecars [default: that of deploy/sidecar]
    #[arg(long, value_name = "IMAGE", env = "SIDECAR_IMAGE")]
    pub sidecar_image: Option<String>,
    /// When a node asks for that image again [default: as Kubernetes does]
    #[arg(long, value_name = "POLICY", env = "SIDECAR_PULL_POLICY")]
    pub sidecar_pull_policy: Option<String>,
    /// Where the webhooks listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:15017")]
    pub webhook: SocketAddr,
    /// A proxy that was silent for so long is pinged; one that does not answer for a third of that is gone.
    #[arg(long, value_name = "S", default_value_t = KEEP_ALIVE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub keep_alive_seconds: u64,
    /// When the root of the CA that the controller made is changed: how long the old and the new one are both believed, before the
    /// new one signs and after that. What is shorter than the life of certificates cuts off who has not heard of it.
    #[arg(long, value_name = "S", default_value_t = OVERLAP.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    pub root_overlap_seconds: u64,
    /// error, warn, info, debug, trace, or a filter such as `controller::push=debug,info`. The
    /// default is silent about single attempts to reach the API server: whoever needs it says so.
    #[arg(long, value_name = "LEVEL", default_value = "info,kube_client::client::builder=off", env = "MESHGATE_LOG")]
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(value: &str) -> Result<Vec<String>, String> {
        let line = ["meshgate-controller".to_owned(), format!("--gateway-namespaces={value}")];
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        Ok(cli.options.gateway_namespaces.0)
    }

    #[test]
    fn namespaces_are_names() {
        assert_eq!(namespaces(" istio-ingress, default,").unwrap(), ["istio-ingress", "default"]);
        for nothing in ["", " ", ","] {
            assert_eq!(namespaces(nothing).unwrap(), [""; 0]);
        }
        for wrong in ["*", "a b", "A", "-a", "a.b", &"a".repeat(64)] {
            assert!(namespaces(wrong).unwrap_err().contains("is no name of a namespace"), "{wrong}");
        }
    }
}

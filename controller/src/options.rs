//! Command line and environment of the controller.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use mesh_acme::{Binding, DIRECTORIES, Directory, parse_directory, parse_email, parse_profile};

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
    #[command(flatten)]
    pub acme: AcmeArgs,
    /// error, warn, info, debug, trace, or a filter such as `controller::push=debug,info`. The
    /// default is silent about single attempts to reach the API server: whoever needs it says so.
    #[arg(long, value_name = "LEVEL", default_value = "info,kube_client::client::builder=off", env = "MESHGATE_LOG")]
    pub log: String,
}

/// Who is asked for certificates where Gateways want some to be ordered (annotation `meshgate.io/acme`). Without an address and a
/// directory nobody is.
#[derive(Clone, Debug, Args)]
pub struct AcmeArgs {
    /// E-mail address for the account at the CA (ACME). With this or --acme-directory certificates are ordered
    #[arg(long, value_name = "ADDRESS", env = "MESHGATE_ACME_EMAIL", value_parser = parse_email)]
    pub acme_email: Option<String>,
    /// Who is asked for certificates: `letsencrypt`, `letsencrypt-staging`, or the URL of a directory. To order is to agree to the
    /// terms of the CA [default: letsencrypt, if there is an --acme-email]
    #[arg(long, value_name = "URL", env = "MESHGATE_ACME_DIRECTORY", value_parser = parse_directory)]
    pub acme_directory: Option<Directory>,
    /// Kind of certificate, of those that the CA offers (Let's Encrypt: classic, tlsserver, shortlived) [default: the CA's choice]
    #[arg(long, value_name = "NAME", env = "MESHGATE_ACME_PROFILE", value_parser = parse_profile)]
    pub acme_profile: Option<String>,
    /// Certificates (PEM) that the directory's own may come from [default: those of the system]
    #[arg(long, value_name = "FILE", env = "MESHGATE_ACME_CA")]
    pub acme_ca: Option<PathBuf>,
    /// Id of the account elsewhere that the CA wants to be named (external account binding)
    #[arg(long, value_name = "ID", env = "MESHGATE_ACME_EAB_KID", requires = "acme_eab_key")]
    pub acme_eab_kid: Option<String>,
    /// File with the HMAC key of that account, base64
    #[arg(long, value_name = "FILE", env = "MESHGATE_ACME_EAB_KEY", requires = "acme_eab_kid")]
    pub acme_eab_key: Option<PathBuf>,
}

impl AcmeArgs {
    /// None: nothing is ordered, for nobody has asked for that.
    #[must_use]
    pub fn options(&self) -> Option<mesh_acme::Options> {
        let Directory { url, own } = match (&self.acme_directory, &self.acme_email) {
            (Some(directory), _) => directory.clone(),
            (None, Some(_)) => parse_directory(DIRECTORIES[0].0).ok()?,
            (None, None) => return None,
        };
        let binding = self.acme_eab_kid.clone().zip(self.acme_eab_key.clone());
        Some(mesh_acme::Options {
            directory: url,
            own_directory: own,
            ca: self.acme_ca.clone(),
            email: self.acme_email.clone(),
            profile: self.acme_profile.clone(),
            binding: binding.map(|(id, key)| Binding { id, key }),
        })
    }
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
    fn certificates_are_ordered_by_who_is_told_to() {
        let directory = |flags: &[&str]| {
            let cli = Cli::try_parse_from([&["meshgate-controller"], flags].concat()).unwrap();
            cli.options.acme.options().map(|options| options.directory)
        };
        assert_eq!(directory(&[]), None);
        assert_eq!(directory(&["--acme-ca", "ca.pem"]), None);
        assert_eq!(directory(&["--acme-email", "a@b.example"]).as_deref(), Some(DIRECTORIES[0].1));
        assert_eq!(directory(&["--acme-directory", "letsencrypt-staging"]).as_deref(), Some(DIRECTORIES[1].1));
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

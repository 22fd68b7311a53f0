//! The same for the sidecar. Most of what it must know of its pod comes by the environment, in Istio's words.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mesh_core::model::{ProxyInfo, Role};

use super::{End, Labels, ServeArgs, Start, parse_labels, parse_listen};
use crate::admin::Audience;
use crate::sidecar::call::{DrainArgs, WaitArgs};
use crate::sidecar::dns::DnsOptions;
use crate::sidecar::redirect::RedirectArgs;

/// With `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`: how long endpoints of others may name this workload after it was told to stop.
const MINIMUM_DRAIN: Duration = Duration::from_secs(5);

/// A sidecar proxy that reads Istio's API.
#[derive(Debug, Parser)]
#[command(name = "meshgate-sidecar", version, propagate_version = true)]
pub struct SidecarCli {
    #[command(subcommand)]
    pub command: SidecarCommand,
}

#[derive(Debug, Subcommand)]
pub enum SidecarCommand {
    /// Serve the connections of a workload that are redirected here.
    Run(Box<SidecarRunArgs>),
    /// Wait until the sidecar of this pod serves.
    Wait(WaitArgs),
    /// Tell the sidecar of this pod to take no more work, and wait until it has none.
    Drain(DrainArgs),
    Redirect(Box<RedirectArgs>),
}

#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("config").required(true).multiple(false).args(["files", "controller"]))]
pub struct SidecarRunArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Where metrics of the proxy listen.
    #[arg(long, value_name = "HOST:PORT", default_value = "[::]:15090", value_parser = parse_listen)]
    pub metrics: SocketAddr,
    /// Where metrics of proxy and application together listen, and what the kubelet asks of the application.
    #[arg(long, value_name = "HOST:PORT", default_value = "[::]:15020", value_parser = parse_listen)]
    pub agent: SocketAddr,
    /// Answer queries for names: for hosts of ServiceEntries with their addresses, for all others with what the pod's resolvers say.
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", value_name = "BOOL", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub dns_capture: bool,
    /// With --dns-capture: where queries arrive.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15053", env = "DNS_PROXY_ADDR", value_parser = parse_listen)]
    pub dns: SocketAddr,
    /// With --dns-capture: resolvers for all other names [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = parse_listen)]
    pub dns_upstream: Vec<SocketAddr>,
    /// After the signal to stop: how long connections are still taken, and requests may still take. With
    /// EXIT_ON_ZERO_ACTIVE_CONNECTIONS=true it is until there are none, but 5 seconds at least.
    #[arg(long, value_name = "N", default_value_t = 5, env = "TERMINATION_DRAIN_DURATION_SECONDS")]
    pub drain_seconds: u64,
    /// Namespace of the workload.
    #[arg(long, value_name = "NS", default_value = "default", env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Labels of the workload. A controller knows them by itself.
    #[arg(long, value_name = "K=V,...", default_value = "", value_parser = parse_labels)]
    pub labels: Labels,
}

impl SidecarRunArgs {
    #[must_use]
    pub fn start(&self) -> Start {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let labels = self.all_labels(env);
        let on_zero = env("EXIT_ON_ZERO_ACTIVE_CONNECTIONS").is_some_and(|value| value == "true");
        let drain = Duration::from_secs(self.drain_seconds);
        Start {
            program: "meshgate-sidecar",
            serve: self.serve.clone(),
            text: None,
            proxy: ProxyInfo {
                role: Role::Sidecar,
                dns_capture: self.dns_capture,
                service_account: env("SERVICE_ACCOUNT").unwrap_or_else(|| "default".to_owned()),
                ..ProxyInfo::edge(&env("POD_NAME").unwrap_or_else(|| "sidecar".to_owned()), &self.namespace, labels)
            },
            node: "sidecar",
            certificate_first: true,
            end: End {
                accept: if on_zero { MINIMUM_DRAIN } else { drain },
                until_idle: on_zero,
                drain: Duration::ZERO,
            },
            load_balancers: None,
            pages: vec![(self.metrics, Audience::Status), (self.agent, Audience::Agent)],
            dns: self.dns_capture.then(|| DnsOptions { listen: self.dns, upstream: self.dns_upstream.clone() }),
            acme: None,
        }
    }

    /// Those that are given, and what injection says of the rest.
    fn all_labels(&self, env: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
        let told = env("ISTIO_METAJSON_LABELS").and_then(|text| serde_json::from_str(&text).ok());
        let mut labels: BTreeMap<String, String> = told.unwrap_or_default();
        labels.extend(self.labels.0.clone());
        labels
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::bootstrap::parse;
    use crate::exit;

    fn run(arguments: &[&str]) -> Result<Start, u8> {
        match parse::<SidecarCli, _>(["meshgate-sidecar", "run"].iter().chain(arguments))?.command {
            SidecarCommand::Run(run) => Ok(run.start()),
            _ => panic!("not run"),
        }
    }

    #[test]
    fn ports_and_times_are_those_of_istio() {
        let start = run(&["-f", "a.yaml", "--namespace", "shop", "--labels", "app=cart"]).unwrap();
        assert_eq!(start.serve.files, [PathBuf::from("a.yaml")]);
        assert_eq!((start.proxy.role, &*start.proxy.namespace), (Role::Sidecar, "shop"));
        assert_eq!(start.proxy.labels, BTreeMap::from([("app".to_owned(), "cart".to_owned())]));
        assert_eq!(start.serve.admin, "127.0.0.1:15000".parse().unwrap());
        assert_eq!(start.serve.status, "0.0.0.0:15021".parse().unwrap());
        let ports: Vec<u16> = start.pages.iter().map(|(address, _)| address.port()).collect();
        assert_eq!(ports, [15090, 15020]);
        assert_eq!((start.end.accept, start.end.drain), (Duration::from_secs(5), Duration::ZERO));
        assert_eq!((start.dns, start.proxy.dns_capture), (None, false));
        let start = run(&["-f", "a.yaml", "--dns-capture", "--dns-upstream", "10.96.0.10:53,10.96.0.11:5353"]).unwrap();
        let upstream = vec!["10.96.0.10:53".parse().unwrap(), "10.96.0.11:5353".parse().unwrap()];
        assert_eq!(start.dns, Some(DnsOptions { listen: "127.0.0.1:15053".parse().unwrap(), upstream }));
        assert!(start.proxy.dns_capture);
    }

    #[test]
    fn without_a_source_there_is_nothing_to_run() {
        assert_eq!(run(&[]).unwrap_err(), exit::USAGE);
        assert_eq!(run(&["-f", "a", "--controller", "b"]).unwrap_err(), exit::USAGE);
    }
}

//! `meshctl proxy-config`: what a proxy serves, read off its admin pages.

mod captured;
mod pages;
mod tables;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::cluster::{Cluster, ClusterArgs, GATEWAY_ADMIN, PodName, Target};
use super::exit::{self, Failure};
use super::output::Output;
use pages::Pages;

#[derive(Clone, Debug, Args)]
pub struct ProxyConfigArgs {
    #[arg(value_name = "WHAT")]
    what: What,
    /// The gateway, or the pod with the sidecar: POD[.NS] or deploy/NAME[.NS]
    #[arg(value_name = "POD[.NS]")]
    target: Target,
    /// Of a name without one [default: that of --system-namespace]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Only listeners, clusters and endpoints of this port.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Only routes and names for this host (as written, `*.example.com`).
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only clusters and endpoints of this service.
    #[arg(long, value_name = "NAME")]
    fqdn: Option<String>,
    /// Only clusters and endpoints of this subset.
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// Which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Addresses, and what is served there
    #[value(alias = "listener", alias = "lis", alias = "l")]
    Listeners,
    /// Hosts and their rules, in the order in which they are tried
    #[value(alias = "route", alias = "r")]
    Routes,
    /// Destinations, and how they are spoken to
    #[value(alias = "cluster", alias = "c")]
    Clusters,
    /// Addresses of destinations, with what goes on there
    #[value(alias = "endpoint", alias = "ep")]
    Endpoints,
    /// Certificates
    #[value(alias = "secret", alias = "s")]
    Secrets,
    /// Names that a sidecar answers
    #[value(alias = "name", alias = "n")]
    Names,
    /// Everything
    #[value(alias = "a")]
    All,
}

impl What {
    const PARTS: [What; 6] =
        [What::Listeners, What::Routes, What::Clusters, What::Endpoints, What::Secrets, What::Names];

    fn parts(self) -> Vec<What> {
        if self == What::All { What::PARTS.to_vec() } else { vec![self] }
    }

    fn word(self) -> &'static str {
        match self {
            What::Listeners => "listeners",
            What::Routes => "routes",
            What::Clusters => "clusters",
            What::Endpoints => "endpoints",
            What::Secrets => "secrets",
            What::Names => "names",
            What::All => "all",
        }
    }
}

/// What is to be shown of a part.
#[derive(Clone, Debug, Default)]
struct Filter {
    port: Option<u16>,
    host: Option<String>,
    fqdn: Option<String>,
    subset: Option<String>,
}

impl Filter {
    fn takes_destination(&self, destination: &mesh_core::model::Destination) -> bool {
        self.port.is_none_or(|port| destination.port == port)
            && self.fqdn.as_ref().is_none_or(|fqdn| *destination.host == **fqdn)
            && self.subset.as_ref().is_none_or(|subset| destination.subset.as_deref() == Some(subset))
    }
}

pub async fn run(cluster: &ClusterArgs, args: &ProxyConfigArgs) -> anyhow::Result<u8> {
    let cluster = cluster.connect().await?;
    let pod = cluster.find(&args.target, args.namespace.as_deref()).await?;
    let pages = fetch(&cluster, &pod, args.what).await?;
    super::print(&show(args, &pages).with_context(|| pod.to_string())?)?;
    Ok(exit::OK)
}

async fn fetch(cluster: &Cluster, pod: &PodName, what: What) -> anyhow::Result<Pages> {
    let page = async |path: &str| -> anyhow::Result<Value> {
        let body = cluster.page(pod, GATEWAY_ADMIN, path).await?;
        let value = serde_json::from_slice(&body);
        value.map_err(|error| Failure::BadData(format!("{pod}: {path}: {error}")).into())
    };
    let parts = what.parts();
    let mut pages = Pages { dump: page("/config_dump").await?, ..Pages::default() };
    if parts.contains(&What::Listeners) {
        pages.listeners = page("/listeners?format=json").await?;
    }
    if parts.contains(&What::Clusters) || parts.contains(&What::Endpoints) {
        pages.clusters = page("/clusters?format=json").await?;
    }
    if parts.contains(&What::Secrets) {
        pages.certificates = page("/certs").await?;
    }
    Ok(pages)
}

fn show(args: &ProxyConfigArgs, pages: &Pages) -> anyhow::Result<String> {
    let filter =
        Filter { port: args.port, host: args.host.clone(), fqdn: args.fqdn.clone(), subset: args.subset.clone() };
    let mut parts = Vec::new();
    if args.output == Output::Table {
        for part in args.what.parts() {
            let table = tables::render(part, pages, &filter)?;
            parts.push(if args.what == What::All { format!("{}\n{table}", part.word().to_uppercase()) } else { table });
        }
        return Ok(parts.join("\n"));
    }
    let mut all = Map::new();
    for part in args.what.parts() {
        all.insert(part.word().to_owned(), pages.raw(part, &filter)?);
    }
    let value = match all.remove(args.what.word()) {
        Some(only) => only,
        None => Value::Object(all),
    };
    args.output.render(&value, String::new)
}

#[cfg(test)]
#[path = "proxy_config_tests.rs"]
mod tests;

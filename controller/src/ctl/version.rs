//! `meshctl version`: of this program, of the replicas of the controller, and of the proxies that are connected to them.

use std::collections::BTreeMap;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::cluster::{CONTROLLER_ADMIN, Cluster, ClusterArgs, PodName};
use super::exit;
use super::output::{Output, Table};
use super::proxy_status::ask_all;
use super::trouble::in_full;

#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    /// Only of this program; asks no cluster.
    #[arg(long)]
    client: bool,
    /// Each version once, and how many have it.
    #[arg(short, long)]
    short: bool,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Version {
    version: String,
}

/// As `istioctl version -o json` has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: Version,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mesh_version: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data_plane_version: Vec<Proxy>,
}

#[derive(Clone, Debug, Serialize)]
struct Component {
    component: String,
    info: Version,
}

#[derive(Clone, Debug, Serialize)]
struct Proxy {
    id: String,
    version: String,
}

/// `/version` of a replica.
#[derive(Deserialize)]
struct Page {
    version: String,
}

pub async fn run(cluster: &ClusterArgs, args: &VersionArgs) -> anyhow::Result<u8> {
    let mut versions = Versions {
        client_version: Version { version: env!("CARGO_PKG_VERSION").to_owned() },
        mesh_version: Vec::new(),
        data_plane_version: Vec::new(),
    };
    let mut code = exit::OK;
    if !args.client
        && let Err(error) = ask(cluster, &mut versions).await
    {
        // What is known is said all the same.
        eprintln!("meshctl: {}", in_full(&error));
        code = exit::FAILURE;
    }
    super::print(&args.output.render(&versions, || if args.short { short(&versions) } else { table(&versions) })?)?;
    Ok(code)
}

async fn ask(cluster: &ClusterArgs, versions: &mut Versions) -> anyhow::Result<()> {
    let cluster = cluster.connect().await?;
    for pod in cluster.controllers().await? {
        versions.mesh_version.push(ask_controller(&cluster, &pod).await?);
    }
    let (pages, mut troubles) = ask_all(&cluster).await?;
    let proxies = pages.into_iter().flat_map(|page| page.proxies);
    versions.data_plane_version = proxies.map(|proxy| Proxy { id: proxy.name, version: proxy.version }).collect();
    versions.data_plane_version.sort_by(|a, b| a.id.cmp(&b.id));
    troubles.pop().map_or(Ok(()), Err)
}

async fn ask_controller(cluster: &Cluster, pod: &PodName) -> anyhow::Result<Component> {
    let page: Page = serde_json::from_slice(&cluster.page(pod, CONTROLLER_ADMIN, "/version").await?)?;
    Ok(Component { component: pod.to_string(), info: Version { version: page.version } })
}

fn table(versions: &Versions) -> String {
    let mut table = Table::new(&["COMPONENT", "NAME", "VERSION"]);
    let mut row = |component: &str, name: &str, version: &str| {
        table.row([component.to_owned(), name.to_owned(), version.to_owned()]);
    };
    row("client", "meshctl", &versions.client_version.version);
    for controller in &versions.mesh_version {
        row("controller", &controller.component, &controller.info.version);
    }
    for proxy in &versions.data_plane_version {
        row("proxy", &proxy.id, &proxy.version);
    }
    table.render()
}

fn short(versions: &Versions) -> String {
    let mut text = format!("client version: {}\n", versions.client_version.version);
    let controllers = versions.mesh_version.iter().map(|controller| controller.info.version.as_str());
    let proxies = versions.data_plane_version.iter().map(|proxy| proxy.version.as_str());
    for (what, list) in [("control plane", counted(controllers)), ("data plane", counted(proxies))] {
        if !list.is_empty() {
            text.push_str(&format!("{what} version: {list}\n"));
        }
    }
    text
}

/// `0.1.0 (2), 0.2.0 (1)`
fn counted<'v>(versions: impl Iterator<Item = &'v str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for version in versions {
        *counts.entry(version).or_default() += 1;
    }
    let list = counts.iter().map(|(version, count)| format!("{version} ({count})"));
    list.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn versions() -> Versions {
        let version = |version: &str| Version { version: version.to_owned() };
        let controller = |name: &str, of: &str| Component { component: name.to_owned(), info: version(of) };
        let proxy = |id: &str, version: &str| Proxy { id: id.to_owned(), version: version.to_owned() };
        Versions {
            client_version: version("0.2.0"),
            mesh_version: vec![controller("meshgate-controller-1.meshgate-system", "0.2.0")],
            data_plane_version: vec![
                proxy("gateway-1.a", "0.1.0"),
                proxy("gateway-2.a", "0.2.0"),
                proxy("gateway-3.a", "0.2.0"),
            ],
        }
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!(table(&versions()), @r"
        COMPONENT    NAME                                    VERSION
        client       meshctl                                 0.2.0
        controller   meshgate-controller-1.meshgate-system   0.2.0
        proxy        gateway-1.a                             0.1.0
        proxy        gateway-2.a                             0.2.0
        proxy        gateway-3.a                             0.2.0
        ");
        insta::assert_snapshot!(short(&versions()), @r"
        client version: 0.2.0
        control plane version: 0.2.0 (1)
        data plane version: 0.1.0 (1), 0.2.0 (2)
        ");
        let alone = Versions { mesh_version: Vec::new(), data_plane_version: Vec::new(), ..versions() };
        assert_eq!(short(&alone), "client version: 0.2.0\n");
    }

    #[test]
    fn programs_read_the_names_that_istioctl_has() {
        let text = Output::Json.render(&versions(), String::new).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["clientVersion"]["version"], "0.2.0");
        assert_eq!(value["meshVersion"][0]["info"]["version"], "0.2.0");
        assert_eq!(value["dataPlaneVersion"][1]["id"], "gateway-2.a");
    }
}

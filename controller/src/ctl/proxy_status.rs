//! `meshctl proxy-status`: what every replica of the controller says of the proxies that are connected to it.

use clap::Args;
use futures::future::join_all;
use mesh_core::wire::Kind;
use serde::{Deserialize, Serialize};

use super::cluster::{CONTROLLER_ADMIN, Cluster, ClusterArgs, PodName};
use super::exit;
use super::exit::Failure;
use super::output::{Output, Table};
use super::trouble::in_full;
use crate::push::ProxyStatus;

#[derive(Clone, Debug, Args)]
pub struct ProxyStatusArgs {
    /// Only this proxy: POD or POD.NS
    #[arg(value_name = "POD[.NS]")]
    proxy: Option<String>,
    /// Only proxies of this namespace.
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

/// `/debug/proxies` of one replica.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    replica: String,
    generation: u64,
    pub proxies: Vec<ProxyStatus>,
}

/// A proxy, and the replica that it is connected to.
#[derive(Clone, Debug, Serialize)]
struct Connected {
    #[serde(flatten)]
    proxy: ProxyStatus,
    connected_to: String,
    /// What the replica has to tell.
    generation: u64,
    states: Vec<State>,
}

/// How it stands with one kind of resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct State {
    kind: Kind,
    state: &'static str,
}

pub async fn run(cluster: &ClusterArgs, args: &ProxyStatusArgs) -> anyhow::Result<u8> {
    let cluster = cluster.connect().await?;
    let (pages, troubles) = ask_all(&cluster).await?;
    let proxies = select(pages, args.proxy.as_deref(), args.namespace.as_deref());
    for trouble in &troubles {
        eprintln!("meshctl: {}", in_full(trouble));
    }
    if let Some(wanted) = &args.proxy
        && proxies.is_empty()
    {
        return Err(Failure::BadData(format!("no proxy `{wanted}` is connected to the controller")).into());
    }
    let now = jiff::Timestamp::now();
    super::print(&args.output.render(&proxies, || table(&proxies, args.proxy.is_some(), now))?)?;
    let bad = proxies.iter().flat_map(|proxy| &proxy.states).any(|state| state.state == REFUSED);
    Ok(if !troubles.is_empty() {
        exit::FAILURE
    } else if bad {
        exit::FOUND_PROBLEMS
    } else {
        exit::OK
    })
}

/// Of every replica, and what went wrong with some. An error if none of them answers.
pub async fn ask_all(cluster: &Cluster) -> anyhow::Result<(Vec<Page>, Vec<anyhow::Error>)> {
    let replicas = cluster.controllers().await?;
    let answers = join_all(replicas.iter().map(|pod| ask(cluster, pod))).await;
    let (mut pages, mut troubles) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(page) => pages.push(page),
            Err(error) => troubles.push(error),
        }
    }
    match troubles.pop() {
        Some(trouble) if pages.is_empty() => Err(trouble),
        trouble => {
            troubles.extend(trouble);
            Ok((pages, troubles))
        }
    }
}

async fn ask(cluster: &Cluster, pod: &PodName) -> anyhow::Result<Page> {
    let body = cluster.page(pod, CONTROLLER_ADMIN, "/debug/proxies").await?;
    Ok(serde_json::from_slice(&body)?)
}

fn select(pages: Vec<Page>, wanted: Option<&str>, namespace: Option<&str>) -> Vec<Connected> {
    let mut all = Vec::new();
    for page in pages {
        for proxy in page.proxies {
            let is_wanted = wanted.is_none_or(|wanted| wanted == proxy.name || wanted == proxy.pod);
            if is_wanted && namespace.is_none_or(|namespace| namespace == proxy.namespace) {
                let states =
                    Kind::ALL.into_iter().map(|kind| State { kind, state: state(&proxy, kind, page.generation) });
                let states = states.collect();
                all.push(Connected { proxy, connected_to: page.replica.clone(), generation: page.generation, states });
            }
        }
    }
    all.sort_by(|a, b| {
        let key = |of: &Connected| (of.proxy.namespace.clone(), of.proxy.pod.clone(), of.proxy.connected_since.clone());
        key(a).cmp(&key(b))
    });
    all
}

const REFUSED: &str = "REFUSED";
/// Most refused resources that are named of each proxy, unless one is asked for.
const NAMED: usize = 20;

fn state(proxy: &ProxyStatus, kind: Kind, generation: u64) -> &'static str {
    match proxy.kinds.get(&kind) {
        Some(status) if !status.subscribed || status.sent == 0 => "NOT SENT",
        None => "NOT SENT",
        Some(status) if !status.refused.is_empty() => REFUSED,
        Some(status) if status.acknowledged < status.sent.max(generation) => "STALE",
        Some(_) => "SYNCED",
    }
}

fn table(proxies: &[Connected], detailed: bool, now: jiff::Timestamp) -> String {
    if proxies.is_empty() {
        return "No proxies are connected.\n".to_owned();
    }
    let mut table = Table::new(&[
        "NAME",
        "NAMESPACE",
        "VERSION",
        "CONNECTED-TO",
        "CONNECTED",
        "CONFIG",
        "ENDPOINTS",
        "SECRETS",
        "LOCALITY",
    ]);
    for Connected { proxy, connected_to, states, .. } in proxies {
        let of = |kind: Kind| {
            let state = states.iter().find(|state| state.kind == kind).map_or("NOT SENT", |state| state.state);
            let since = proxy.kinds.get(&kind).and_then(|status| status.since.as_deref());
            match since.filter(|_| state != "NOT SENT").and_then(|since| age(since, now)) {
                Some(age) => format!("{state} ({age})"),
                None => state.to_owned(),
            }
        };
        table.row([
            proxy.pod.clone(),
            proxy.namespace.clone(),
            proxy.version.clone(),
            connected_to.clone(),
            age(&proxy.connected_since, now).unwrap_or_default(),
            of(Kind::Config),
            of(Kind::Endpoints),
            of(Kind::Secret),
            proxy.locality.clone(),
        ]);
    }
    let mut out = table.render();
    if detailed {
        out.push_str(&details(proxies));
    }
    for Connected { proxy, .. } in proxies {
        for (kind, status) in &proxy.kinds {
            let most = if detailed { usize::MAX } else { NAMED };
            for (name, why) in status.refused.iter().take(most) {
                out.push_str(&format!("\n{} refused {}: {name}: {why}", proxy.name, word(*kind)));
            }
            if let Some(more @ 1..) = status.refused.len().checked_sub(most) {
                out.push_str(&format!("\n{} refused {}: and {more} more", proxy.name, word(*kind)));
            }
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// Generations: what the controller has, what was sent, what is in force.
fn details(proxies: &[Connected]) -> String {
    let mut table = Table::new(&["KIND", "GENERATION", "SENT", "IN FORCE", "STATE"]);
    for connected in proxies {
        for State { kind, state } in &connected.states {
            let status = connected.proxy.kinds.get(kind).cloned().unwrap_or_default();
            table.row([
                word(*kind).to_owned(),
                connected.generation.to_string(),
                status.sent.to_string(),
                status.acknowledged.to_string(),
                (*state).to_owned(),
            ]);
        }
    }
    format!("\n{}", table.render())
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "config",
        Kind::Endpoints => "endpoints",
        Kind::Secret => "secrets",
    }
}

/// `12s`, `3m5s`, `2h4m`, `5d3h`: as kubectl says it.
fn age(since: &str, now: jiff::Timestamp) -> Option<String> {
    let since: jiff::Timestamp = since.parse().ok()?;
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let rest = |of: i64, unit: char| if of == 0 { String::new() } else { format!("{of}{unit}") };
    Some(match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{}", rest(seconds % 60, 's')),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => format!("{hours}h{}", rest(minutes % 60, 'm')),
        28_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    })
}

#[cfg(test)]
#[path = "proxy_status_tests.rs"]
mod tests;

//! `meshctl precheck`: whether the cluster can take an installation, before anything is changed.

mod others;
mod rights;

use clap::Args;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::Client;
use kube::api::DynamicObject;
use serde::Serialize;

use super::cluster::ClusterArgs;
use super::exit;
use super::install::in_our_namespace;
use super::install::namespaces;
use super::install::values::{self, Set};
use super::manifests::{Profile, manifests};
use super::output::{Output, Table};
use super::trouble::{in_full, said};

/// `autoscaling/v2`, `policy/v1` and server-side apply are older; nothing before this has been seen to work.
const MINIMUM: (u32, u32) = (1, 28);

#[derive(Clone, Debug, Args)]
pub struct PrecheckArgs {
    /// What is to be installed.
    #[arg(long, value_enum, default_value_t = Profile::Default)]
    profile: Profile,
    #[arg(long = "set", value_name = "PATH=VALUE", help = "A value of the installation; install --help lists them")]
    sets: Vec<Set>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    message: String,
}

impl Finding {
    fn new(check: &'static str, state: State, message: impl Into<String>) -> Finding {
        Finding { check, state, message: message.into() }
    }
}

pub async fn run(cluster: &ClusterArgs, args: &PrecheckArgs) -> anyhow::Result<u8> {
    in_our_namespace(cluster)?;
    let mut objects = manifests(args.profile)?;
    values::put(&args.sets, args.profile, &mut objects)?;
    let findings = check(&cluster.connect().await?.client, &args.sets, objects).await?;
    super::print(&args.output.render(&findings, || table(&findings))?)?;
    let problem = findings.iter().any(|finding| finding.state == State::Problem);
    Ok(if problem { exit::FOUND_PROBLEMS } else { exit::OK })
}

async fn check(client: &Client, sets: &[Set], mut objects: Vec<DynamicObject>) -> anyhow::Result<Vec<Finding>> {
    // Without it there is nobody to ask the rest, and nothing is found out.
    let mut findings = vec![version(&client.apiserver_version().await.map_err(said)?)];
    let kept = namespaces::keep(client, sets, &mut objects).await;
    findings.extend(match kept {
        Ok(_) => of_namespaces(namespaces::absent(client, &objects).await),
        Err(error) => of_namespaces(Err(error)),
    });
    findings.extend(rights::check(client, &objects).await);
    findings.extend(others::check(client, &objects).await?);
    Ok(findings)
}

/// Of those in which gateways run.
fn of_namespaces(absent: anyhow::Result<Vec<String>>) -> Vec<Finding> {
    const CHECK: &str = "gateway namespaces";
    match absent {
        Ok(absent) if absent.is_empty() => vec![Finding::new(CHECK, State::Ok, "those that are named exist")],
        Ok(absent) => absent.into_iter().map(|message| Finding::new(CHECK, State::Problem, message)).collect(),
        Err(error) => vec![Finding::new(CHECK, State::Warning, format!("cannot tell: {}", in_full(&error)))],
    }
}

fn version(info: &Info) -> Finding {
    // Some providers write `28+`.
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().ok();
    let (state, more) = match (number(&info.major), number(&info.minor)) {
        (Some(major), Some(minor)) if (major, minor) >= MINIMUM => (State::Ok, String::new()),
        (Some(_), Some(_)) => (State::Problem, format!("; it takes {}.{}", MINIMUM.0, MINIMUM.1)),
        _ => (State::Warning, format!("; cannot tell whether that is {}.{} or newer", MINIMUM.0, MINIMUM.1)),
    };
    Finding::new("API server", state, format!("Kubernetes {}{more}", info.git_version))
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new(&["CHECK", "STATE", "MESSAGE"]);
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "PROBLEM",
        };
        table.row([finding.check.to_owned(), state.to_owned(), finding.message.clone()]);
    }
    let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
    let verdict = match problems {
        0 => "Meshgate can be installed.".to_owned(),
        1 => "1 problem is in the way.".to_owned(),
        more => format!("{more} problems are in the way."),
    };
    format!("{}\n{verdict}\n", table.render())
}

#[cfg(test)]
#[path = "precheck_tests.rs"]
mod tests;

//! `meshctl install`: the objects of a profile into the cluster, by server-side apply.

mod apply;
mod conflicts;
pub mod namespaces;
mod rollout;
pub mod values;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use serde_json::json;
use tokio::time::timeout;

use super::cluster::ClusterArgs;
use super::exit::{self, Failure};
use super::installed::{delete, installed};
use super::manifests::{self, NAMESPACE, Name, Profile, kind};
use super::output::Output;
use apply::{Manner, Outcome, apply};
use values::Set;

/// Definitions are there at once, or something is wrong.
const ESTABLISHED: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Args)]
pub struct InstallArgs {
    /// What is installed.
    #[arg(long, value_enum, default_value_t = Profile::Default)]
    profile: Profile,
    #[arg(long = "set", value_name = "PATH=VALUE", help = "A value of the installation; --help lists them", long_help = values::help())]
    sets: Vec<Set>,
    /// Only says what would change; the API server checks it.
    #[arg(long)]
    dry_run: bool,
    /// `yaml` or `json`: prints the objects and asks no cluster.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    /// Removes what is installed and not part of this: of another profile, or of an older version.
    #[arg(long)]
    prune: bool,
    /// Takes over fields that somebody else has set; without it they are named, and nothing is changed.
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Whether and how long a verb waits.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// Whether it waits until all is done.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// How long it waits.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "not a duration such as 90s or 5m".to_owned())
}

pub async fn run(cluster: &ClusterArgs, args: &InstallArgs) -> anyhow::Result<u8> {
    in_our_namespace(cluster)?;
    let mut objects = manifests::manifests(args.profile)?;
    values::put(&args.sets, args.profile, &mut objects)?;
    if args.output != Output::Table {
        super::print(&printed(args.output, &objects)?)?;
        return Ok(exit::OK);
    }
    let cluster = cluster.connect().await?;
    let kept = namespaces::keep(&cluster.client, &args.sets, &mut objects).await?;
    if !kept.is_empty() {
        eprintln!("gateway.namespaces={} stays; `--set gateway.namespaces=` empties it", kept.join(","));
    }
    namespaces::check(&cluster.client, &objects).await?;
    for name in conflicts::leave_theirs(&cluster.client, &mut objects).await? {
        eprintln!("{name} was made by somebody else; `uninstall` will leave it");
    }
    if !args.force_conflicts {
        conflicts::check(&cluster.client, &objects).await?;
    }
    let manner = Manner { dry_run: args.dry_run, force: args.force_conflicts };
    put_in(&cluster.client, &objects, manner).await?;
    clear(&cluster.client, &objects, args).await?;
    if !args.dry_run && args.wait.wait {
        let deployments = objects.iter().filter(|object| kind(object) == "Deployment");
        let deployments = deployments.map(Name::of).collect::<anyhow::Result<Vec<Name>>>()?;
        rollout::wait(&cluster, &deployments, args.wait.timeout).await?;
    }
    Ok(exit::OK)
}

/// The files name one namespace, and roles and webhooks of a second installation would be those of the first.
pub fn in_our_namespace(cluster: &ClusterArgs) -> Result<(), Failure> {
    if cluster.system_namespace == NAMESPACE {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "Meshgate is installed in the namespace {NAMESPACE}, not in {}",
        cluster.system_namespace
    )))
}

/// The objects as documents, or as one list.
fn printed(output: Output, objects: &[DynamicObject]) -> anyhow::Result<String> {
    if output == Output::Json {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        return output.render(&list, String::new);
    }
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&output.render(object, String::new)?);
    }
    Ok(text)
}

/// One after the other, each said as soon as it is done.
async fn put_in(client: &Client, objects: &[DynamicObject], manner: Manner) -> anyhow::Result<()> {
    let mut absent = false;
    let mut defined: Vec<Name> = Vec::new();
    for object in objects {
        let name = Name::of(object)?;
        if !name.is("CustomResourceDefinition") {
            established(client, &std::mem::take(&mut defined)).await?;
        }
        // In a namespace that is not there yet the API server can check nothing.
        let outcome = match (absent, &name.namespace) {
            (true, Some(_)) => Outcome::Created,
            _ => apply(client, object, manner).await?,
        };
        absent |= manner.dry_run && name.is("Namespace") && outcome == Outcome::Created;
        super::print(&told(&name, &outcome, manner.dry_run))?;
        if name.is("CustomResourceDefinition") && !manner.dry_run {
            defined.push(name);
        }
    }
    established(client, &defined).await
}

async fn established(client: &Client, definitions: &[Name]) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let waits = definitions.iter().map(|name| {
        let wait = timeout(ESTABLISHED, await_condition(api.clone(), &name.name, is_crd_established()));
        async move {
            let waited = wait.await.with_context(|| format!("{name}: the API server does not establish it"))?;
            waited.with_context(|| name.to_string())
        }
    });
    try_join_all(waits).await.map(drop)
}

/// A line, and one for each field.
fn told(name: &Name, outcome: &Outcome, dry_run: bool) -> String {
    let (word, fields) = match outcome {
        Outcome::Created => ("created", &[][..]),
        Outcome::Changed(fields) => ("changed", fields.as_slice()),
        Outcome::Unchanged => ("unchanged", &[][..]),
    };
    let mut text = match outcome {
        Outcome::Created | Outcome::Changed(_) if dry_run => format!("{name} would be {word}\n"),
        _ => format!("{name} {word}\n"),
    };
    for field in fields {
        let _ = writeln!(text, "    {field}");
    }
    text
}

/// What is installed and not part of these objects: removed, or named. Definitions and the namespace hold what is the users', and
/// are in every profile.
async fn clear(client: &Client, objects: &[DynamicObject], args: &InstallArgs) -> anyhow::Result<()> {
    let wanted = objects.iter().map(Name::of).collect::<anyhow::Result<Vec<Name>>>()?;
    for name in installed(client).await? {
        if wanted.contains(&name) || name.is("CustomResourceDefinition") || name.is("Namespace") {
            continue;
        }
        if !args.prune {
            eprintln!("{name} is installed and not part of this; --prune removes it");
        } else if args.dry_run {
            super::print(&format!("{name} would be removed\n"))?;
        } else {
            delete(client, &name).await?;
            super::print(&format!("{name} removed\n"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;

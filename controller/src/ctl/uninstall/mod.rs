//! `meshctl uninstall`: takes out what `install` put in, and with `--purge` what the controller and the definitions hold. What stays
//! says no more that it is served.

mod found;

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, stream};
use kube::Client;
use kube::api::DynamicObject;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::cluster::ClusterArgs;
use super::exit::{self, Failure};
use super::install::{WaitArgs, in_our_namespace};
use super::installed::delete;
use super::manifests::Name;
use super::trouble::said;
use crate::status;
use found::{Found, find};

/// Between two looks at what is still there.
const LOOK: Duration = Duration::from_millis(500);
/// Statuses that are cleared at a time.
const AT_A_TIME: usize = 16;
/// So many names of a long list are told.
const FEW: usize = 8;

#[derive(Clone, Debug, Args)]
pub struct UninstallArgs {
    /// Also the definitions that `install` made, and with them all Gateways, VirtualServices and so on of the cluster; the namespace
    /// and all that is in it; the root certificate in each namespace.
    #[arg(long)]
    purge: bool,
    /// Does not ask.
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only says what would be removed.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn run(cluster: &ClusterArgs, args: &UninstallArgs) -> anyhow::Result<u8> {
    in_our_namespace(cluster)?;
    let cluster = cluster.connect().await?;
    let found = find(&cluster.client).await?;
    super::print(&told(&found, args.purge))?;
    let (first, then) = order(&found, args.purge);
    let statuses = found.statuses_to_clear(args.purge);
    if args.dry_run || first.is_empty() && then.is_empty() && statuses == 0 {
        return Ok(exit::OK);
    }
    if !args.yes && !agreed(&found, args.purge)? {
        eprintln!("nothing was removed");
        return Ok(exit::FAILURE);
    }
    let deadline = Instant::now() + args.wait.timeout;
    // What the controller writes goes when it can write no more: it is gone, or at least its rights are.
    let removed = remove(&cluster.client, first, &args.wait, deadline).await;
    let cleared = clear(&cluster.client, &found.kinds_that_go(args.purge)).await;
    removed?;
    remove(&cluster.client, then, &args.wait, deadline).await?;
    cleared.context("statuses still say what nobody keeps true")?;
    Ok(exit::OK)
}

async fn remove(client: &Client, names: Vec<Name>, wait: &WaitArgs, deadline: Instant) -> anyhow::Result<()> {
    for name in &names {
        delete(client, name).await?;
    }
    if wait.wait {
        gone(client, names, deadline).await?;
    }
    Ok(())
}

/// Takes what the controller wrote out of the statuses of what stays. All that can be is cleared; the error is the first one.
async fn clear(client: &Client, going: &[&str]) -> anyhow::Result<()> {
    let told = status::told(client, going).await.map_err(said)?;
    let withdrawn = stream::iter(told).map(|told| async move {
        let name = told.reference();
        told.withdraw(client).await.map_err(said).with_context(|| name.to_string())
    });
    let answers: Vec<anyhow::Result<()>> = withdrawn.buffer_unordered(AT_A_TIME).collect().await;
    answers.into_iter().collect()
}

/// What `install` put in, and after that the rest. Webhooks are first: nothing asks them when the controller is gone.
fn order(found: &Found, purge: bool) -> (Vec<Name>, Vec<Name>) {
    let mut first: Vec<Name> = found.installed.iter().rev().cloned().collect();
    first.sort_by_key(|name| !name.resource.kind.ends_with("WebhookConfiguration"));
    let then = if purge { found.purged().cloned().collect() } else { Vec::new() };
    (first, then)
}

/// What goes and what stays.
fn told(found: &Found, purge: bool) -> String {
    let mut text = String::new();
    let (first, then) = order(found, purge);
    text.push_str(match first.is_empty() && then.is_empty() {
        true => "Nothing that could be removed is installed.\n",
        false => "To be removed:\n",
    });
    for name in first.iter().chain(&then) {
        let _ = writeln!(text, "    {name}");
    }
    match found.statuses_to_clear(purge) {
        0 => {}
        1 => text.push_str("To be cleared: what the status of 1 object says of Meshgate\n"),
        count => {
            let _ = writeln!(text, "To be cleared: what the statuses of {count} objects say of Meshgate");
        }
    }
    if !found.theirs.is_empty() {
        let theirs: Vec<String> = found.theirs.iter().map(Name::to_string).collect();
        let _ = writeln!(text, "To stay, for somebody else made it: {}", few(&theirs));
    }
    if purge {
        text.push_str(&lost(found));
    } else {
        let left: Vec<String> = found.purged().map(Name::to_string).collect();
        if !left.is_empty() {
            let _ = writeln!(text, "To stay, without --purge: {}", few(&left));
        }
    }
    text
}

/// What is the users' and goes with what holds it.
fn lost(found: &Found) -> String {
    let mut text = String::new();
    for (definition, count) in found.objects.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(text, "{definition} takes along {count} object{}", if *count == 1 { "" } else { "s" });
    }
    if let Some(namespace) = found.namespace.as_ref().filter(|_| !found.inside.is_empty()) {
        let _ = writeln!(text, "{namespace} takes along {}", few(&found.inside));
    }
    text
}

fn few(names: &[String]) -> String {
    let mut text = names.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > FEW {
        let _ = write!(text, " and {} more", names.len() - FEW);
    }
    text
}

/// Whoever sits at a terminal is asked. Nobody else can answer: what is the users' then goes only when that was said.
fn agreed(found: &Found, purge: bool) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let lost = if purge { lost(found) } else { String::new() };
        if lost.is_empty() {
            return Ok(true);
        }
        let lost = lost.trim_end().replace('\n', "; ");
        return Err(Failure::Usage(format!("this removes what is not ours; say so with -y. {lost}")).into());
    }
    eprint!("Remove all this? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Until none of them is there; says what is, whenever that changes.
async fn gone(client: &Client, mut names: Vec<Name>, deadline: Instant) -> anyhow::Result<()> {
    let mut told = String::new();
    loop {
        let mut left = Vec::new();
        let mut lines = Vec::new();
        for name in names {
            if let Some(object) = name.api(client).get_opt(&name.name).await.map_err(said)? {
                lines.push(format!("{name}{}", reason(&object)));
                left.push(name);
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let line = few(&lines);
        if told != line {
            eprintln!("still there: {line}");
            told = line;
        }
        if Instant::now() >= deadline {
            anyhow::bail!("not gone in time: {told}");
        }
        sleep(LOOK).await;
        names = left;
    }
}

/// Why it is still there: what a namespace says is left in it, or how many replicas a Deployment has.
fn reason(object: &DynamicObject) -> String {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let text =
        |condition: &Value, field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let remaining = conditions.into_iter().flatten().find(|condition| {
        text(condition, "status") == "True"
            && (text(condition, "type").starts_with("Namespace") || text(condition, "type") == "Terminating")
    });
    if let Some(condition) = remaining {
        return format!(" ({})", text(condition, "message"));
    }
    match object.data.pointer("/status/replicas").and_then(Value::as_u64) {
        Some(replicas) => format!(" ({replicas} pod{} to end)", if replicas == 1 { "" } else { "s" }),
        None => String::new(),
    }
}

#[cfg(test)]
#[path = "uninstall_tests.rs"]
mod tests;

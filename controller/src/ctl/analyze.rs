//! `meshctl analyze`: what is wrong with objects, in the cluster, in files, or in the cluster once the files were applied.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use mesh_core::diag::{self, Diagnostic, Verdict};
use serde::Serialize;

use super::cluster::ClusterArgs;
use super::exit::{self, Failure};
use super::output::Output;
use super::picture::{self, Depth, GatewayArgs, Picture, Sources};
use crate::kube::Unavailable;

#[derive(Clone, Debug, Args)]
pub struct AnalyzeArgs {
    /// Files or directories with objects in YAML or JSON; `-` is standard input.
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// The same.
    #[arg(short = 'f', long = "file", value_name = "FILE", action = clap::ArgAction::Append)]
    files: Vec<PathBuf>,
    /// Only what is wrong with objects of this namespace; and the namespace of objects in files that do not say theirs.
    #[arg(short, long, value_name = "NS", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Whether the cluster's objects are looked at; files come on top of them [default: true, unless there are files and no
    /// kubeconfig]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true,
        action = clap::ArgAction::Set)]
    use_kube: Option<bool>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub async fn run(cluster: &ClusterArgs, args: &AnalyzeArgs) -> anyhow::Result<u8> {
    let files: Vec<PathBuf> = args.paths.iter().chain(&args.files).cloned().collect();
    let use_kube = match args.use_kube {
        Some(wanted) => wanted,
        None => files.is_empty() || !is_alone(cluster).await,
    };
    if files.is_empty() && !use_kube {
        return Err(
            Failure::Usage("without the cluster there must be files: meshctl analyze -f FILE".to_owned()).into()
        );
    }
    let namespace = match (&args.namespace, use_kube) {
        (Some(namespace), _) => namespace.clone(),
        (None, true) => cluster.connect().await?.client.default_namespace().to_owned(),
        (None, false) => "default".to_owned(),
    };
    let sources = Sources { files: &files, cluster, use_cluster: use_kube, default_namespace: &namespace };
    let picture = picture::take(&sources, &args.gateway, Depth::Analysis).await;
    let picture = picture.inspect_err(|_| {
        if use_kube && !files.is_empty() {
            eprintln!("meshctl: --use-kube=false looks at the files alone");
        }
    })?;
    picture.unavailable.iter().for_each(|kind| eprintln!("meshctl: {kind}"));
    picture.assumed.iter().for_each(|note| eprintln!("meshctl: {note}"));
    // Files alone are all looked at, as long as no namespace is asked for.
    let only = (!args.all_namespaces && (use_kube || args.namespace.is_some())).then_some(namespace.as_str());
    let (diagnostics, objects) = select(&picture, only);
    let color = std::io::stdout().is_terminal();
    let report = report(&diagnostics, &picture.unavailable);
    super::print(&args.output.render(&report, || diag::text(&diagnostics, objects, color))?)?;
    Ok(match diag::verdict(&diagnostics) {
        Verdict::Fine if picture.is_partial() => exit::FAILURE,
        Verdict::Fine => exit::OK,
        Verdict::BadData => exit::BAD_DATA,
        Verdict::Problems => exit::FOUND_PROBLEMS,
    })
}

/// Whether there is no cluster to ask, and none was meant: then files are looked at by themselves, and it is said.
async fn is_alone(cluster: &ClusterArgs) -> bool {
    let Some(why) = cluster.is_missing().await else { return false };
    eprintln!("meshctl: {why}; only the files are looked at");
    true
}

/// The shape of `meshgate check`, and what it is not about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    #[serde(flatten)]
    report: diag::Report<'a>,
    /// Kinds that may not be listed: nothing is said of their objects, and of what they refer to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_looked_at: Vec<NotLookedAt<'a>>,
}

#[derive(Debug, Serialize)]
struct NotLookedAt<'a> {
    kind: &'a str,
    reason: &'a str,
}

fn report<'a>(diagnostics: &'a [Diagnostic], unavailable: &'a [Unavailable]) -> Report<'a> {
    let hidden = unavailable.iter().filter(|kind| !kind.missing);
    let not_looked_at = hidden.map(|kind| NotLookedAt { kind: &kind.kind, reason: &kind.reason }).collect();
    Report { report: diag::report(diagnostics), not_looked_at }
}

/// What is said of a namespace, and how many objects it has. What is written in a file, or belongs to nothing, is always said.
fn select(picture: &Picture, namespace: Option<&str>) -> (Vec<Diagnostic>, usize) {
    let Some(namespace) = namespace else { return (picture.diagnostics.clone(), picture.objects.len()) };
    let concerns = |diagnostic: &&Diagnostic| {
        let object = diagnostic.object.as_ref();
        diagnostic.position.is_some() || object.is_none_or(|object| &*object.namespace == namespace)
    };
    let diagnostics = picture.diagnostics.iter().filter(concerns).cloned().collect();
    (diagnostics, picture.objects.iter().filter(|object| &*object.namespace == namespace).count())
}

#[cfg(test)]
#[path = "analyze_tests.rs"]
mod tests;

//! `meshctl diff`: which requests have another outcome with other files, each with an example that was asked of both tables.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use mesh_core::analyze::{Asked, Change, Differences, Outcome, Side, differences};
use mesh_core::diag::{self, Verdict};
use mesh_core::model::{HostPattern, ListenerProtocol, ResourceSet, TlsTermination};

use super::cluster::ClusterArgs;
use super::exit;
use super::output::Output;
use super::picture::{self, Depth, GatewayArgs, Picture, Sources};

#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// File or directory with the objects as they are; `-` is standard input.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The same as they are to be.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Namespace of objects that do not say theirs.
    #[arg(short, long, value_name = "NS", default_value = "default")]
    namespace: String,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub async fn run(cluster: &ClusterArgs, args: &DiffArgs) -> anyhow::Result<u8> {
    let mut pictures = Vec::new();
    for path in [&args.old, &args.new] {
        let files = std::slice::from_ref(path);
        let sources = Sources { files, cluster, use_cluster: false, default_namespace: &args.namespace };
        let picture = picture::take(&sources, &args.gateway, Depth::Tables).await?;
        picture.assumed.iter().for_each(|note| eprintln!("meshctl: {}: {note}", path.display()));
        hint(&path.display().to_string(), &picture);
        pictures.push(picture);
    }
    let [old, new] = pictures.as_slice() else { return Ok(exit::FAILURE) };
    if [old, new].iter().any(|picture| diag::verdict(&picture.diagnostics) == Verdict::BadData) {
        // What cannot be read may be what is different.
        old.unreadable().chain(new.unreadable()).for_each(|diagnostic| eprintln!("meshctl: {diagnostic}"));
        return Ok(exit::BAD_DATA);
    }
    let found = compared(old, new);
    if old.set.authorization != new.set.authorization || old.set.authentication != new.set.authentication {
        eprintln!("meshctl: policies are different, too; what they allow is not compared");
    }
    if old.set.rate_limits != new.set.rate_limits {
        eprintln!("meshctl: rate limits are different, too; they are not compared");
    }
    if tls(&old.set) != tls(&new.set) || old.set.secrets != new.set.secrets {
        eprintln!("meshctl: TLS settings of servers, or secrets, are different, too; they are not compared");
    }
    if found == Differences::default() && old.set.destinations != new.set.destinations {
        eprintln!("meshctl: destinations are different; the settings of those that only get copies are not compared");
    }
    super::print(&args.output.render(&found, || text(&found))?)?;
    Ok(if found == Differences::default() { exit::OK } else { exit::FOUND_PROBLEMS })
}

/// What servers do before a request can be read.
fn tls(set: &ResourceSet) -> Vec<(&[HostPattern], &TlsTermination)> {
    let servers = set.listeners.values().filter_map(|listener| match &listener.protocol {
        ListenerProtocol::Tls { servers } => Some(servers),
        _ => None,
    });
    servers.flatten().map(|server| (server.hosts.as_slice(), &server.tls)).collect()
}

fn compared(old: &Picture, new: &Picture) -> Differences {
    differences(&side(old), &side(new))
}

fn side(picture: &Picture) -> Side<'_> {
    Side { world: &picture.world, set: &picture.set, snapshot: &picture.snapshot }
}

/// What is wrong has lost its effect, and is compared as that.
fn hint(path: &str, picture: &Picture) {
    let errors = picture.diagnostics.iter().filter(|diagnostic| diagnostic.severity == diag::Severity::Error).count();
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        eprintln!("meshctl: {path}: the objects have {errors} error{plural}; see meshctl analyze");
    }
}

fn text(found: &Differences) -> String {
    let mut out = String::new();
    for change in &found.changes {
        one(&mut out, change);
    }
    for place in &found.unknown {
        let _ = writeln!(out, "? {place}: there may be more; expressions or tables are too large to tell\n");
    }
    let count = found.changes.len();
    let _ = match count {
        0 if found.unknown.is_empty() => writeln!(out, "no request changes its outcome"),
        1 => writeln!(out, "1 change"),
        _ => writeln!(out, "{count} changes"),
    };
    out
}

fn one(out: &mut String, change: &Change) {
    let asked = match &change.request {
        Asked::Request(example) => example.to_string(),
        Asked::Connection { sni: Some(name) } => format!("TLS connection for {name}"),
        Asked::Connection { sni: None } => "connection".to_owned(),
    };
    let _ = writeln!(out, "{asked}  (port {})", change.port);
    let _ = writeln!(out, "  - {}", outcome(&change.old));
    let _ = writeln!(out, "  + {}", outcome(&change.new));
    let _ = writeln!(out, "  differs in: {}", change.differs_in.join(", "));
    if !change.also_for.is_empty() {
        let _ = writeln!(out, "  the same for: {}", change.also_for.join(", "));
    }
    out.push('\n');
}

/// `respond 200, by default/a[0] (VirtualService/default/a spec.http[0], a.yaml:12)`
fn outcome(outcome: &Outcome) -> String {
    let mut said = outcome.decision.clone();
    if let Some(object) = &outcome.object {
        let field = outcome.field.as_ref().map(|field| format!(" {field}")).unwrap_or_default();
        let _ = write!(said, ", by {object}{field}");
    }
    if let (Some(file), Some(line)) = (&outcome.file, outcome.line) {
        let _ = write!(said, " ({file}:{line})");
    }
    said
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;

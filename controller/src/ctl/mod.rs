//! `meshctl`: one file per verb. A verb asks, prints, and yields an exit code; what it prints for people is a pure function of
//! what it was told.

mod analyze;
mod cluster;
mod describe;
mod diff;
pub mod exit;
mod explain;
mod files;
mod inject;
mod install;
mod installed;
mod manifests;
mod output;
mod picture;
mod precheck;
mod proxy_config;
mod proxy_status;
mod trouble;
mod uninstall;
mod version;

use std::io::Write as _;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use cluster::ClusterArgs;
use trouble::in_full;

/// Installs, asks and checks Meshgate.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts Meshgate into the cluster, or brings it to this version.
    Install(install::InstallArgs),
    /// Takes out what `install` put in.
    Uninstall(uninstall::UninstallArgs),
    /// Whether the cluster can take Meshgate, and we may put it in.
    Precheck(precheck::PrecheckArgs),
    /// Which versions run: this program, the controller, the proxies.
    Version(version::VersionArgs),
    /// How far each proxy is with what the controller told it.
    #[command(visible_alias = "ps")]
    ProxyStatus(proxy_status::ProxyStatusArgs),
    /// What a gateway or a sidecar serves, asked of itself.
    #[command(visible_alias = "pc")]
    ProxyConfig(proxy_config::ProxyConfigArgs),
    /// Reads objects of the cluster and of files, and says what is wrong with them.
    Analyze(analyze::AnalyzeArgs),
    /// Where a request would go, and why: at a running gateway, by the objects of the cluster, or by files.
    Explain(explain::ExplainArgs),
    /// Which requests have another outcome with other files: exit code 79 if there are any, 0 if there are none.
    Diff(diff::DiffArgs),
    /// Adds sidecars to the pods in files, as the webhook does when pods are created.
    #[command(visible_alias = "kube-inject")]
    Inject(inject::InjectArgs),
    /// What istioctl has under this name.
    #[command(visible_alias = "experimental")]
    X(Experimental),
}

#[derive(Debug, Args)]
struct Experimental {
    #[command(subcommand)]
    command: ExperimentalCommand,
}

#[derive(Debug, Subcommand)]
enum ExperimentalCommand {
    /// What of the mesh applies to a pod.
    Describe(describe::DescribeArgs),
}

/// Does what the command line says, and yields the exit code. Everything is printed already.
pub async fn run<I>(arguments: I) -> u8
where
    I: IntoIterator,
    I::Item: Into<std::ffi::OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::OK,
                _ => exit::USAGE,
            };
        }
    };
    cli.act().await.unwrap_or_else(|error| {
        eprintln!("meshctl: {}", in_full(&error));
        exit::code(&error)
    })
}

impl Cli {
    /// The exit code, of a verb that did what it should.
    async fn act(self) -> anyhow::Result<u8> {
        match self.command {
            Command::Install(args) => install::run(&self.cluster, &args).await,
            Command::Uninstall(args) => uninstall::run(&self.cluster, &args).await,
            Command::Precheck(args) => precheck::run(&self.cluster, &args).await,
            Command::Version(args) => version::run(&self.cluster, &args).await,
            Command::ProxyStatus(args) => proxy_status::run(&self.cluster, &args).await,
            Command::ProxyConfig(args) => proxy_config::run(&self.cluster, &args).await,
            Command::Analyze(args) => analyze::run(&self.cluster, &args).await,
            Command::Explain(args) => explain::run(&self.cluster, &args).await,
            Command::Diff(args) => diff::run(&self.cluster, &args).await,
            Command::Inject(args) => inject::run(&args),
            Command::X(Experimental { command: ExperimentalCommand::Describe(args) }) => {
                describe::run(&self.cluster, &args).await
            }
        }
    }
}

/// To standard output. A reader that went away is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

//! The sidecar's binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateway::sidecar::redirect::{self, RedirectArgs};
use gateway::{bootstrap, exit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A sidecar proxy that reads Istio's API.
#[derive(Debug, Parser)]
#[command(name = "meshgate-sidecar", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Redirect(Box<RedirectArgs>),
}

fn main() -> ExitCode {
    let command = match bootstrap::parse::<Cli, _>(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(code) => return ExitCode::from(code),
    };
    let result = match command {
        Command::Redirect(args) => redirect::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("meshgate-sidecar: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}

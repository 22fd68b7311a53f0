//! The sidecar's binary.

use std::process::ExitCode;

use gateway::bootstrap::{self, SidecarCli, SidecarCommand};
use gateway::sidecar::{call, redirect};
use gateway::{app, exit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match bootstrap::parse::<SidecarCli, _>(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(code) => return ExitCode::from(code),
    };
    let result = match command {
        SidecarCommand::Run(args) => app::run(&args.start()),
        SidecarCommand::Wait(args) => call::wait(&args),
        SidecarCommand::Drain(args) => call::drain(&args),
        SidecarCommand::Redirect(args) => redirect::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("meshgate-sidecar: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}

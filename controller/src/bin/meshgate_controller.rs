//! The controller process.

use std::io::Write as _;

use clap::Parser as _;
use controller::options::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Crds) => Ok(std::io::stdout().write_all(controller::crds::yaml()?.as_bytes())?),
        None => controller::app::run(cli.options).await,
    }
}

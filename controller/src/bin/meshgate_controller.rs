//! The controller process.

use clap::Parser as _;
use controller::options::Options;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    controller::app::run(Options::parse()).await
}

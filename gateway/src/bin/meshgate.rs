//! The edge gateway's binary.

use std::process::ExitCode;

use gateway::bootstrap::{self, Cli, Command, OutputFormat};
use gateway::exit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match bootstrap::parse::<Cli, _>(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(code) => return ExitCode::from(code),
    };
    let result = match command {
        Command::Run(args) => match args.check() {
            Ok(()) => gateway::app::run(&args.start()),
            Err(wrong) => {
                eprintln!("meshgate: {wrong}");
                return ExitCode::from(exit::USAGE);
            }
        },
        Command::Check(args) => gateway::check::run(args.files_options(), args.output == OutputFormat::Json),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("meshgate: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}

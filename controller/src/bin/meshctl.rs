//! The command line for operators.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    ExitCode::from(controller::ctl::run(std::env::args_os()).await)
}

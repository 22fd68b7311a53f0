//! Pages that ask the process for something.

use http::StatusCode;

use super::page::{Answer, Ask, text};
use super::{Admin, Command};

/// `POST /quitquitquit`
pub fn quit(admin: &Admin, _: &Ask) -> Answer {
    send(admin, Command::Quit)
}

/// `POST /drain_listeners`
pub fn drain_listeners(admin: &Admin, _: &Ask) -> Answer {
    send(admin, Command::DrainListeners)
}

fn send(admin: &Admin, command: Command) -> Answer {
    match admin.commands.send(command) {
        Ok(()) => text(StatusCode::OK, "OK\n"),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the process is ending already\n"),
    }
}

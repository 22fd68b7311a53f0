//! `/ready`, `/healthz/ready`: 200 when traffic is served; otherwise what is waited for. One listener of several that cannot be opened
//! takes nothing away from who is served by the others (Envoy refuses that listener, and is ready); where none can be, nobody is
//! to be sent here.

use http::StatusCode;

use super::page::{Answer, Ask, text};
use super::{Admin, Phase};
use crate::source::ConnectionCell;

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    answer(admin, starting)
}

/// For everybody: without addresses and paths.
pub fn brief(admin: &Admin, _: &Ask) -> Answer {
    answer(admin, |admin| {
        let reason = admin.connection.as_ref().and_then(|connection| connection.get().reason);
        let reason = reason.map(|reason| format!("controller: {reason}\n")).unwrap_or_default();
        format!("INITIALIZING\n{reason}")
    })
}

fn answer(admin: &Admin, starting: impl Fn(&Admin) -> String) -> Answer {
    match admin.readiness.phase() {
        Phase::Live if admin.listeners.is_deaf(&admin.cells.live.load()) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "NOT LISTENING\n")
        }
        Phase::Live => text(StatusCode::OK, "LIVE\n"),
        Phase::Starting => text(StatusCode::SERVICE_UNAVAILABLE, starting(admin)),
        Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"),
    }
}

/// With what is in the way to the controller.
fn starting(admin: &Admin) -> String {
    let mut answer = "INITIALIZING\n".to_owned();
    let Some(connection) = admin.connection.as_ref().map(ConnectionCell::get) else { return answer };
    if let Some(error) = connection.last_error {
        answer.push_str(&format!("controller: {error}\n"));
    }
    if let Some(help) = connection.help {
        answer.push_str(&format!("help: {help}\n"));
    }
    answer
}

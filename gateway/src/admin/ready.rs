//! `/ready`, `/healthz/ready`: 200 when traffic is served.

use http::StatusCode;

use super::page::{Answer, Ask, text};
use super::{Admin, Phase};

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    match admin.readiness.phase() {
        Phase::Live => text(StatusCode::OK, "LIVE\n"),
        Phase::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "INITIALIZING\n"),
        Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"),
    }
}

//! `/logging`: shows the log filter; `POST` with `?level=debug` or `?filter=gateway::store=trace,info` changes it.

use http::StatusCode;

use super::Admin;
use super::page::{Answer, Ask, text};

pub fn page(admin: &Admin, ask: &Ask) -> Answer {
    let filter = ask.get("level").or_else(|| ask.get("filter"));
    if filter.is_some()
        && let Err(refusal) = ask.may_change()
    {
        return *refusal;
    }
    let Some(logging) = &admin.logging else {
        return text(StatusCode::NOT_IMPLEMENTED, "logging is not this process's own\n");
    };
    if let Some(filter) = filter
        && let Err(error) = logging.set(filter)
    {
        return text(StatusCode::BAD_REQUEST, format!("{error}\n"));
    }
    text(StatusCode::OK, format!("{}\n", logging.current()))
}

//! `/controller`

use http::StatusCode;
use serde::Serialize;

use super::Admin;
use super::page::{Answer, Ask, json, text, time};
use crate::source::Connection;

#[derive(Serialize)]
struct Page {
    #[serde(flatten)]
    connection: Connection,
    last_response: Option<String>,
}

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    let Some(cell) = &admin.connection else {
        return text(StatusCode::OK, "configuration comes from files\n".to_owned());
    };
    let connection = cell.get();
    json(&Page { last_response: connection.last_response.map(time), connection })
}

//! `/listeners`: `key::address` per line as Envoy prints it, or JSON with counters.

use std::fmt::Write as _;

use http::StatusCode;

use super::Admin;
use super::page::{Answer, Ask, json, text};

pub fn page(admin: &Admin, ask: &Ask) -> Answer {
    let listeners = admin.listeners.status();
    if ask.wants_json() {
        return json(&serde_json::json!({ "listeners": listeners }));
    }
    let mut out = String::new();
    for listener in listeners {
        let _ = writeln!(out, "{}::{}", listener.key, listener.address);
    }
    text(StatusCode::OK, out)
}

//! `/config_dump`: the model that is served, with the names of the objects it comes from. Private keys are redacted.
//! `?resource=routes` yields one type of resources only.

use std::collections::BTreeMap;

use http::StatusCode;
use mesh_core::model::{Key, Secret};
use serde_json::{Map, Value};

use super::Admin;
use super::page::{Answer, Ask, json, text, time};

pub fn page(admin: &Admin, ask: &Ask) -> Answer {
    let status = admin.status.load();
    let secrets: BTreeMap<&Key, Secret> =
        status.set.secrets.iter().map(|(key, secret)| (key, secret.redacted())).collect();
    let set = &status.set;
    let parts = [
        ("listeners", serde_json::to_value(&set.listeners)),
        ("routes", serde_json::to_value(&set.routes)),
        ("destinations", serde_json::to_value(&set.destinations)),
        ("endpoints", serde_json::to_value(&set.endpoints)),
        ("secrets", serde_json::to_value(secrets)),
        ("authorization", serde_json::to_value(&set.authorization)),
        ("authentication", serde_json::to_value(&set.authentication)),
        ("rate_limits", serde_json::to_value(&set.rate_limits)),
        ("dns", serde_json::to_value(&set.dns)),
        ("challenges", serde_json::to_value(&set.challenges)),
    ];
    let mut dump = Map::new();
    dump.insert("generation".to_owned(), status.generation.into());
    dump.insert("published".to_owned(), time(status.published).into());
    let objects: Vec<Value> = status.objects().iter().map(|object| object.to_string().into()).collect();
    dump.insert("objects".to_owned(), objects.into());
    for (name, value) in parts {
        match value {
            Ok(value) => drop(dump.insert(name.to_owned(), value)),
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{name}: {error}\n")),
        }
    }
    match ask.get("resource") {
        None => json(&dump),
        Some(name) => match dump.get(name) {
            Some(value) => json(value),
            None => text(StatusCode::BAD_REQUEST, format!("no resource `{name}`\n")),
        },
    }
}

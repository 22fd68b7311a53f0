//! `/metrics`, `/stats/prometheus`

use http::StatusCode;

use super::Admin;
use super::page::{Answer, Ask, with_type};
use crate::sidecar::agent::merge;

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    answer(own(admin))
}

/// Those of the application beside ours.
pub fn with_application(admin: &Admin, application: &str) -> Answer {
    answer(merge(&own(admin), application))
}

fn own(admin: &Admin) -> String {
    let status = admin.status.load();
    admin.observe.own.set_objects(status.objects().iter().map(|object| &*object.kind));
    admin.observe.metrics_text()
}

fn answer(text: String) -> Answer {
    with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

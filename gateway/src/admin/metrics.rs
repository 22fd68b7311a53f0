//! `/metrics`, `/stats/prometheus`

use http::StatusCode;

use super::Admin;
use super::page::{Answer, Ask, with_type};

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    let status = admin.status.load();
    admin.observe.own.set_objects(status.objects().iter().map(|object| &*object.kind));
    with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", admin.observe.metrics_text())
}

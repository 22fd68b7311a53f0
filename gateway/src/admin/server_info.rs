//! `/server_info`

use serde::Serialize;

use super::page::{Answer, Ask, json, time};
use super::{Admin, Info, Phase};
use crate::observe::hostname;

#[derive(Serialize)]
struct ServerInfo<'a> {
    version: &'static str,
    state: &'static str,
    uptime_seconds: u64,
    pid: u32,
    hostname: &'static str,
    generation: u64,
    published: String,
    #[serde(flatten)]
    info: &'a Info,
}

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    let status = admin.status.load();
    json(&ServerInfo {
        version: env!("CARGO_PKG_VERSION"),
        state: match admin.readiness.phase() {
            Phase::Starting => "INITIALIZING",
            Phase::Live => "LIVE",
            Phase::Draining => "DRAINING",
        },
        uptime_seconds: admin.info.started.map_or(0, |started| started.elapsed().as_secs()),
        pid: std::process::id(),
        hostname: hostname(),
        generation: status.generation,
        published: time(status.published),
        info: &admin.info,
    })
}

//! `/certs`: certificates that are served. Keys are not part of it.

use mesh_core::model::CertificateSource;
use serde::Serialize;

use super::Admin;
use super::page::{Answer, Ask, json};
use crate::tls::certs::CertificateInfo;

#[derive(Serialize)]
struct Entry<'a> {
    source: String,
    days_left: i64,
    #[serde(flatten)]
    info: &'a CertificateInfo,
}

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    let table = admin.cells.certificates.load();
    let now = jiff::Timestamp::now().as_second();
    let mut entries: Vec<Entry<'_>> = table
        .iter()
        .map(|(source, certificate)| Entry {
            source: match source {
                CertificateSource::Secret(key) => key.to_string(),
                CertificateSource::Files { certificate, .. } => certificate.clone(),
            },
            days_left: certificate.info.not_after.saturating_sub(now).div_euclid(86_400),
            info: &certificate.info,
        })
        .collect();
    entries.sort_by(|a, b| a.source.cmp(&b.source));
    json(&serde_json::json!({ "certificates": entries }))
}

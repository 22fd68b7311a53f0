//! `/certs`: certificates that are served, or shown to destinations, where those stand that are ordered, CAs that clients or destinations are verified with, and who this proxy is in the mesh. Keys are not part of it.

use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::certificate::ClientTrust;
use mesh_core::model::{AuthoritySource, Origination};
use serde::Serialize;

use super::Admin;
use super::page::{Answer, Ask, json};
use crate::acme::source_name;
use crate::live::Live;
use crate::tls::certs::CertificateInfo;
use crate::tls::origination::OriginationClient;
use crate::tls::provider::hex;
use crate::tls::renewal::RenewalHandle;
use crate::tls::workload::{Root, Workload};

#[derive(Serialize)]
struct Entry<'a> {
    source: String,
    days_left: i64,
    #[serde(flatten)]
    info: &'a CertificateInfo,
}

/// Of the mesh.
#[derive(Serialize)]
struct Own<'a> {
    /// Grows when the certificate, the roots or the trust domains change.
    generation: u64,
    trust_domains: &'a [std::sync::Arc<str>],
    roots: &'a [Root],
    certificate: Option<OwnCertificate<'a>>,
    renewals: u64,
    /// When a new one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_renewal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'static str>,
}

#[derive(Serialize)]
struct OwnCertificate<'a> {
    id: String,
    sha256: String,
    seconds_left: i64,
    #[serde(flatten)]
    info: &'a CertificateInfo,
}

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    let table = admin.cells.certificates.load();
    let now = jiff::Timestamp::now().as_second();
    let mut entries: Vec<Entry<'_>> =
        table.iter().map(|(source, certificate)| entry(source_name(source), &certificate.info, now)).collect();
    let live = admin.cells.live.load();
    let originations = originations(&live);
    let (shown, believed) = (originations.iter().flat_map(shown), originations.iter().flat_map(believed));
    let entry = |(source, info)| entry(source, info, now);
    entries.extend(shown.map(entry));
    entries.sort_by(|a, b| a.source.cmp(&b.source));
    entries.dedup_by(|a, b| a.source == b.source && a.info == b.info);
    let mut authorities: Vec<Entry<'_>> = table.trusts().flat_map(|trust| authorities(trust, now)).collect();
    authorities.extend(believed.map(entry));
    authorities.sort_by(|a, b| (&a.source, &a.info.serial).cmp(&(&b.source, &b.info.serial)));
    authorities.dedup_by(|a, b| a.source == b.source && a.info == b.info);
    let mut page = serde_json::json!({ "certificates": entries, "authorities": authorities });
    if let (Some(orders), Some(page)) = (admin.orders.get(), page.as_object_mut()) {
        let orders = orders.get();
        if !orders.orders.is_empty() {
            page.insert("acme".to_owned(), serde_json::json!(*orders));
        }
    }
    if let (Some(renewal), Some(page)) = (&admin.renewal, page.as_object_mut()) {
        page.insert("workload".to_owned(), serde_json::json!(own(&admin.cells.workload.load(), renewal)));
    }
    json(&page)
}

/// How TLS is spoken with destinations, where it can be.
fn originations(live: &Live) -> Vec<(&Origination, Arc<OriginationClient>)> {
    let cells = live.clusters.iter().filter_map(|cluster| cluster.origination.as_ref());
    cells.filter_map(|cell| Some((cell.model(), cell.client().ok()?))).collect()
}

fn shown<'a>((model, client): &'a (&Origination, Arc<OriginationClient>)) -> Option<(String, &'a CertificateInfo)> {
    Some((source_name(model.certificate.as_ref()?), &client.shown.as_ref()?.info))
}

fn believed<'a>(
    (model, client): &'a (&Origination, Arc<OriginationClient>),
) -> impl Iterator<Item = (String, &'a CertificateInfo)> {
    let source = authority_name(model.authorities.as_ref());
    client.authorities.iter().map(move |info| (source.clone(), info))
}

fn entry(source: String, info: &CertificateInfo, now: i64) -> Entry<'_> {
    Entry { source, days_left: info.not_after.saturating_sub(now).div_euclid(86_400), info }
}

fn authority_name(source: Option<&AuthoritySource>) -> String {
    match source {
        Some(AuthoritySource::Secret(key)) => key.to_string(),
        Some(AuthoritySource::Files { certificates, .. }) => certificates.clone(),
        None => String::new(),
    }
}

/// CAs that clients are verified with.
fn authorities(trust: &ClientTrust, now: i64) -> impl Iterator<Item = Entry<'_>> {
    let source = authority_name(trust.demand().authorities.as_ref());
    trust.authorities.iter().map(move |info| entry(source.clone(), info, now))
}

fn own<'a>(workload: &'a Workload, renewal: &RenewalHandle) -> Own<'a> {
    let state = renewal.get();
    let at = |time: SystemTime| jiff::Timestamp::try_from(time).ok().map(|time| time.to_string());
    Own {
        generation: workload.generation,
        trust_domains: workload.trust().domains(),
        roots: &workload.roots,
        certificate: workload.last_certificate().map(|certificate| OwnCertificate {
            id: certificate.id.to_string(),
            sha256: hex(&certificate.identity.hash),
            seconds_left: certificate.seconds_left(SystemTime::now()),
            info: certificate.info(),
        }),
        renewals: state.renewals,
        next_renewal: state.next.and_then(at),
        last_error: state.last_error,
        help: state.help,
    }
}

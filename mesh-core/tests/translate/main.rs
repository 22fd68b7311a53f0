//! `translate` seen from outside: whole files in, readable text out; many objects; cases of third parties.

// What fails in a test may panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod golden;
mod scale;
mod third_party;

use std::collections::BTreeMap;

use mesh_core::model::{ProxyInfo, Role};

fn ingress() -> ProxyInfo {
    ProxyInfo {
        id: "edge".to_owned(),
        role: Role::Edge,
        namespace: "istio-system".to_owned(),
        labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
        service_account: "edge".to_owned(),
        locality: String::new(),
        addresses: Vec::new(),
    }
}

//! `translate` seen from outside: whole files in, readable text out; many objects; cases of third parties.

// What fails in a test may panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod golden;
mod scale;
mod third_party;

use mesh_core::model::{ProxyInfo, Role};

fn ingress() -> ProxyInfo {
    ProxyInfo::edge("edge", "istio-system", [("istio".to_owned(), "ingressgateway".to_owned())].into())
}

fn productpage() -> ProxyInfo {
    let labels = [("app".to_owned(), "productpage".to_owned()), ("version".to_owned(), "v1".to_owned())];
    ProxyInfo { role: Role::Sidecar, ..ProxyInfo::edge("productpage-v1", "default", labels.into()) }
}

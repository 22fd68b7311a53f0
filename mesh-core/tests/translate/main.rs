//! `translate` seen from outside: whole files in, readable text out; many objects; cases of third parties.

// What fails in a test may panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod analysis;
mod golden;
mod scale;
mod third_party;

use mesh_core::model::ProxyInfo;

fn ingress() -> ProxyInfo {
    ProxyInfo::edge("edge", "istio-system", [("istio".to_owned(), "ingressgateway".to_owned())].into())
}

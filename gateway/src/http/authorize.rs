//! Whether a request may be done: what the policies say of it.

use mesh_core::snapshot::{Authorizer, Facts, PeerFacts, Ruling};

use super::exchange::Exchange;
use super::failure::Failure;
use crate::tls::peer_verify::Identity;

/// An error: it is denied.
pub(super) fn authorize(authorizer: &Authorizer, exchange: &Exchange) -> Result<(), Failure> {
    if authorizer.is_empty() {
        return Ok(());
    }
    let ruling = authorizer.decide(&facts(exchange));
    match ruling {
        Ruling::Allowed => Ok(()),
        Ruling::Denied(_) => Err(Failure::Denied { details: ruling.details() }),
        Ruling::Ask(..) => Err(Failure::NotAsked),
    }
}

fn facts(exchange: &Exchange) -> Facts<'_> {
    let info = &exchange.peer.info;
    Facts {
        request: Some(exchange.request()),
        peer: info.tls.as_ref().and_then(|tls| tls.peer.as_deref()).map(peer),
        source: Some(info.peer.ip()),
        remote: Some(exchange.remote),
        local: Some(info.local),
        sni: info.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
    }
}

/// Without a SPIFFE id, a certificate's first name stands for its owner, as with Envoy.
fn peer(identity: &Identity) -> PeerFacts<'_> {
    let other = || identity.uris.first().or(identity.dns.first()).map_or(&*identity.subject, |name| &**name);
    PeerFacts { principal: identity.principal().unwrap_or_else(other), id: identity.id.as_ref() }
}

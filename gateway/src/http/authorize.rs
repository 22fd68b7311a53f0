//! Whether a request may be done: what the policies say of it.

use mesh_core::snapshot::{Authorizer, Facts, Ruling};

use super::exchange::Exchange;
use super::failure::Failure;
use crate::listen::Direction;
use crate::tls::peer_verify::Identity;

/// An error: it is denied.
pub(super) fn authorize(authorizer: &Authorizer, exchange: &Exchange) -> Result<(), Failure> {
    // Policies of a workload are about what arrives there.
    if authorizer.is_empty() || exchange.peer.info.direction() == Some(Direction::Outbound) {
        return Ok(());
    }
    // Whoever else decides was asked before.
    match authorizer.decide_alone(&facts(exchange)) {
        Ruling::Allowed => Ok(()),
        ruling => Err(Failure::Denied { details: ruling.details() }),
    }
}

pub(super) fn facts(exchange: &Exchange) -> Facts<'_> {
    let info = &exchange.peer.info;
    Facts {
        request: Some(exchange.request()),
        peer: info.tls.as_ref().and_then(|tls| tls.peer.as_deref()).and_then(Identity::facts),
        source: Some(info.peer.ip()),
        remote: Some(exchange.remote),
        local: Some(info.local),
        sni: info.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
    }
}

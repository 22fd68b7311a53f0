//! Where a request comes from and who answers it: what proxies of the mesh tell each other in its headers, and in those of the
//! answer.

use http::HeaderMap;

use super::engine::Engine;
use super::exchange::Exchange;
use crate::peer_metadata;

impl Engine {
    /// Proxies of the mesh are told whose request it is, and nobody else.
    pub(super) fn tell_workload(&self, exchange: &mut Exchange) {
        let Some(own) = self.settings.metadata.as_ref().filter(|_| !exchange.peer.is_inbound()) else { return };
        if exchange.outcome.upstream_peer.is_some() {
            own.tell(&mut exchange.head.headers);
        } else {
            peer_metadata::strip(&mut exchange.head.headers);
        }
    }

    /// A client of the mesh that said whose request it is hears who answers.
    pub(super) fn answer_metadata(&self, exchange: &Exchange, headers: &mut HeaderMap) {
        if let Some(own) = self.settings.metadata.as_ref().filter(|_| exchange.tells) {
            own.tell(headers);
        }
    }
}

/// Where the endpoint runs, if only itself can say so.
pub(super) fn hear_workload(headers: &mut HeaderMap, exchange: &mut Exchange) {
    let outcome = &mut exchange.outcome;
    if let Some(said) = &outcome.upstream_said {
        outcome.upstream_workload = said.take(headers, outcome.upstream_peer.as_deref());
    }
}

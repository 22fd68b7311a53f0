//! A host that a sidecar's tables lack: it is asked for, and the request goes on with the tables that have the answer.

use std::sync::Arc;

use mesh_core::model::Key;
use mesh_core::snapshot::{CompiledOutbound, CompiledProtocol};

use super::exchange::Exchange;
use super::failure::Failure;
use crate::live::{Cells, Live};

/// What has to be asked for before the request is routed.
pub(super) fn lacks(live: &Live, exchange: &Exchange) -> Option<Key> {
    outbound(live, exchange)?.lacks_host(exchange.peer.info.local, &exchange.head.authority)
}

/// Waits for the answer. Without one a request that goes to an address of services fails, for all that is known is that nobody must
/// guess; one that goes elsewhere is one to a host that nobody knows.
pub(super) async fn ask(cells: &Cells, name: &Key, exchange: &Exchange) -> Result<Arc<Live>, Failure> {
    let answered = cells.demand.ask(name, || lacks(&cells.live.load(), exchange).is_none()).await;
    let live = cells.live.load_full();
    let is_near = || outbound(&live, exchange).is_some_and(|outbound| outbound.is_near(exchange.peer.info.local.ip()));
    if !answered && is_near() {
        return Err(Failure::NotAnswered);
    }
    Ok(live)
}

fn outbound<'l>(live: &'l Live, exchange: &Exchange) -> Option<&'l CompiledOutbound> {
    match &live.snapshot.listeners.get(&exchange.peer.info.listener)?.protocol {
        CompiledProtocol::Outbound(outbound) => Some(outbound),
        _ => None,
    }
}

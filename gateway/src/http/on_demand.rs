//! A host that a sidecar's tables lack: it is asked for, and the request goes on with the tables that have the answer.

use mesh_core::model::{Key, asked_address};
use mesh_core::snapshot::{CompiledOutbound, CompiledProtocol};

use super::exchange::Exchange;
use super::failure::Failure;
use crate::live::{Cells, Live};

/// What has to be asked for before the request is routed: whose address it goes to, and whom its authority means.
pub(super) fn lacks(live: &Live, exchange: &Exchange) -> Option<Key> {
    let (outbound, original) = (outbound(live, exchange)?, exchange.peer.info.local);
    if outbound.lacks_address(original.ip()) {
        return Some(asked_address(original.ip()));
    }
    outbound.lacks_host(original, &exchange.head.authority)
}

/// Waits for the answer. Without one the request fails, wherever it goes: it may be for a service, and would pass by what is said about
/// that, in clear.
pub(super) async fn ask(cells: &Cells, exchange: &Exchange) -> Result<(), Failure> {
    while let Some(name) = lacks(&cells.live.load(), exchange) {
        if !cells.demand.ask(&name, || lacks(&cells.live.load(), exchange).as_ref() != Some(&name)).await {
            return Err(Failure::NotAnswered);
        }
    }
    Ok(())
}

fn outbound<'l>(live: &'l Live, exchange: &Exchange) -> Option<&'l CompiledOutbound> {
    match &live.snapshot.listeners.get(&exchange.peer.info.listener)?.protocol {
        CompiledProtocol::Outbound(outbound) => Some(outbound),
        _ => None,
    }
}

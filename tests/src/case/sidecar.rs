//! What the tables of a sidecar do with a connection: to `IP:PORT`, to `NAME:PORT` of a name that the sidecar answers, to `:PORT` of
//! an address that nobody has, or to `inbound:PORT` of the workload itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use mesh_core::model::{DestinationRef, ListenAddress, MtlsMode, PASSTHROUGH, UnknownDestination};
use mesh_core::snapshot::{CompiledProtocol, HostTable};
use mesh_core::testing;

use super::memory::Tables;

/// An address that no service has.
pub(super) const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

#[derive(Clone, Copy)]
pub(super) enum Captured<'t> {
    Http {
        routes: &'t Arc<HostTable>,
        original: SocketAddr,
        /// At the workload, rather than leaving it.
        arrives: bool,
    },
    /// Key of the destination.
    Bytes { key: &'t str, original: SocketAddr },
    /// It is closed.
    Refused,
    /// Nobody listens on that Unix socket.
    NotOpen,
}

/// Where a workload connects.
pub(super) fn address(to: &str) -> anyhow::Result<ListenAddress> {
    match to.strip_prefix(':') {
        Some(port) => Ok(SocketAddr::new(NOBODY.into(), port.parse().context("`to` is not `:PORT`")?).into()),
        None => to.parse().context("`to` is not `IP:PORT`, `unix:///path` or `unix://@name`"),
    }
}

pub(super) fn find<'t>(
    tables: &'t Tables,
    request: &testing::Request,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Captured<'t>> {
    let protocols = tables.snapshot.listeners.values().map(|listener| &listener.protocol);
    if let Some(port) = request.to.strip_prefix("inbound:") {
        let port: u16 = port.parse().context("`to` is not `inbound:PORT`")?;
        let inbound = protocols.filter_map(|protocol| match protocol {
            CompiledProtocol::Inbound(inbound) => Some(inbound),
            _ => None,
        });
        let found = inbound.last().context("nothing arrives")?.port(port);
        let original = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        return Ok(match found.port.mtls {
            MtlsMode::Strict => Captured::Refused,
            _ => Captured::Http { routes: &found.routes, original, arrives: true },
        });
    }
    let to = address(&request.to).or_else(|error| resolve(tables, &request.to).map(Into::into).ok_or(error))?;
    let listeners = tables.snapshot.listeners.values();
    let outbound = listeners.filter_map(|compiled| match &compiled.protocol {
        CompiledProtocol::Outbound(outbound) => Some((&compiled.listener, outbound)),
        _ => None,
    });
    // Who calls where the sidecar listens itself is not redirected.
    let (direct, redirected): (Vec<_>, Vec<_>) = outbound.partition(|(listener, _)| !listener.is_redirected());
    let own = direct.into_iter().find(|(listener, _)| listener.address == to);
    let (_, outbound) = match (own, to.socket()) {
        (None, None) => return Ok(Captured::NotOpen),
        (own, _) => own.or_else(|| redirected.into_iter().next()).context("nothing leaves")?,
    };
    let original = to.socket().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    let found = outbound.find(original);
    if let (Some(routes), None) = (found.routes(&request.host), &request.tls) {
        return Ok(Captured::Http { routes, original, arrives: false });
    }
    let sni = request.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    let Some(tcp) = found.tcp(sni) else {
        return Ok(match found.unknown() {
            UnknownDestination::Passthrough => Captured::Bytes { key: PASSTHROUGH, original },
            UnknownDestination::Proxy(key) => Captured::Bytes { key, original },
            UnknownDestination::Refuse => Captured::Refused,
        });
    };
    let mut at = random.u32(0..tcp.destinations.iter().map(|one| one.weight).sum::<u32>().max(1));
    for one in &tcp.destinations {
        if at < one.weight {
            return Ok(match &one.destination {
                DestinationRef::Known(key) => Captured::Bytes { key, original },
                DestinationRef::Unknown(_) => Captured::Refused,
            });
        }
        at -= one.weight;
    }
    Ok(Captured::Refused)
}

/// The first address of a name that the sidecar answers.
fn resolve(tables: &Tables, to: &str) -> Option<SocketAddr> {
    let (name, port) = to.rsplit_once(':')?;
    let found = tables.snapshot.dns.find(name, None)?;
    Some(SocketAddr::new(*found.name.addresses.first()?, port.parse().ok()?))
}

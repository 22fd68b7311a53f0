//! What the listeners of a sidecar do, as rows of a table: by where connections are going.

use mesh_core::model::{
    BLACK_HOLE, DestinationRef, Inbound, InboundPort, InboundProtocol, Listener, MtlsMode, Outbound, OutboundTcp,
    PASSTHROUGH, UnknownDestination, WeightedDestination,
};

use super::tables::Served;

pub fn outbound<'l>(listener: &'l Listener, outbound: &'l Outbound) -> Vec<Served<'l>> {
    let everywhere = listener.address.host();
    let mut rows: Vec<Served<'l>> = outbound.tcp.iter().flat_map(|tcp| connections(tcp, &everywhere)).collect();
    for (port, http) in &outbound.http {
        let protocol = if http.detect { "HTTP (detected)" } else { "HTTP" };
        let row = |matches: String, routes: &str| Served {
            address: everywhere.clone(),
            port: *port,
            matches,
            destination: format!("Route: {routes}"),
            origin: &listener.origin,
        };
        rows.extend(http.by_port.iter().map(|(named, routes)| row(format!("{protocol} for port {named}"), routes)));
        rows.push(row(protocol.to_owned(), &http.routes));
    }
    rows.push(Served {
        address: listener.address.to_string(),
        port: listener.port,
        matches: "ALL".to_owned(),
        destination: match &outbound.unknown {
            UnknownDestination::Passthrough => format!("Cluster: {PASSTHROUGH}"),
            UnknownDestination::Proxy(key) => format!("Cluster: {key}"),
            UnknownDestination::Refuse => format!("{BLACK_HOLE} (closed)"),
        },
        origin: &listener.origin,
    });
    rows
}

fn connections<'l>(tcp: &'l OutboundTcp, everywhere: &str) -> Vec<Served<'l>> {
    let names: Vec<String> = tcp.sni.iter().map(ToString::to_string).collect();
    let addresses = match tcp.networks.as_slice() {
        [] => vec![everywhere.to_owned()],
        networks => networks.iter().map(ToString::to_string).collect(),
    };
    let row = |address: String, matches: String, destination: String| Served {
        address,
        port: tcp.port,
        matches,
        destination,
        origin: &tcp.origin,
    };
    let mut rows = Vec::new();
    for address in addresses {
        if let Some(routes) = &tcp.routes {
            rows.push(row(address.clone(), "HTTP (detected)".to_owned(), format!("Route: {routes}")));
        }
        let matches = if names.is_empty() { "ALL".to_owned() } else { format!("SNI: {}", names.join(",")) };
        rows.push(row(address, matches, weighted(&tcp.destinations)));
    }
    rows
}

/// `Cluster: outbound|80||a, b (unknown)`
pub fn weighted(destinations: &[WeightedDestination]) -> String {
    let names = destinations.iter().map(|one| match &one.destination {
        DestinationRef::Known(key) => format!("Cluster: {key}"),
        DestinationRef::Unknown(key) => format!("{key} (unknown)"),
    });
    names.collect::<Vec<_>>().join(", ")
}

pub fn inbound<'l>(listener: &'l Listener, inbound: &'l Inbound) -> Vec<Served<'l>> {
    let row = |address: String, port: u16, settings: &InboundPort| Served {
        address,
        port,
        matches: match settings.tls {
            Some(_) => format!("TLS, {} inside", protocol(settings.protocol)),
            None => format!("{}, mTLS {}", protocol(settings.protocol), mode(settings.mtls)),
        },
        destination: match settings.protocol {
            InboundProtocol::Http => format!("Route: {}", settings.routes),
            InboundProtocol::Tcp | InboundProtocol::Detect => format!("Cluster: {}", settings.destination),
        },
        origin: &listener.origin,
    };
    let everywhere = listener.address.host();
    let ports = inbound.ports.iter().map(|(port, settings)| row(everywhere.clone(), *port, settings));
    ports.chain([row(listener.address.to_string(), listener.port, &inbound.others)]).collect()
}

fn protocol(protocol: InboundProtocol) -> &'static str {
    match protocol {
        InboundProtocol::Http => "HTTP",
        InboundProtocol::Tcp => "TCP",
        InboundProtocol::Detect => "detected",
    }
}

fn mode(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Strict => "STRICT",
        MtlsMode::Disable => "DISABLE",
    }
}

//! What a workload is called for by the word of its Sidecar (`ingress`): the ports that it names and no others, each led to where
//! the workload listens.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Context;
use super::client_demand::client_demand;
use super::inbound::Target;
use super::peer_authentication::PeerModes;
use super::server_tls::{authority_files, files, versions};
use super::sidecar_scope::TAKEN;
use crate::api::{self, CaptureMode, ConnectionPool, IngressListener, ServerTls, ServerTlsMode};
use crate::diag;
use crate::model::{ClientDemand, EndpointAddress, HostPattern, MtlsMode, Serves, TlsServer};
use crate::world::{Entry, Protocol};

/// A port that the Sidecar names.
pub(super) struct Ingress<'a> {
    pub number: u16,
    pub protocol: Protocol,
    pub leads_to: LeadsTo,
    /// Where it is listened on without that anything is redirected there.
    pub own: Option<SocketAddr>,
    pub pool: Option<&'a ConnectionPool>,
    /// Where TLS ends that is not of the mesh.
    pub tls: Option<TlsServer>,
}

/// Where the workload listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeadsTo {
    /// Where the client was going.
    Same,
    /// At another port of the same address.
    Port(u16),
    Address(EndpointAddress),
}

impl<'a> Ingress<'a> {
    /// Of a port that the Sidecar does not name.
    pub fn of_service(number: u16, protocol: Protocol, pool: Option<&'a ConnectionPool>) -> Ingress<'a> {
        Ingress { number, protocol, leads_to: LeadsTo::Same, own: None, pool, tls: None }
    }
}

impl Context<'_> {
    /// None: the Sidecar says nothing of it.
    pub(super) fn ingress<'e>(
        &mut self,
        entry: &'e Entry<api::Sidecar>,
        modes: &PeerModes,
    ) -> Option<Vec<Ingress<'e>>> {
        let listeners = &entry.spec.ingress;
        let mut read = |listener| self.ingress_listener(entry, listener, modes);
        (!listeners.is_empty()).then(|| listeners.iter().filter_map(&mut read).collect())
    }

    fn ingress_listener<'e>(
        &mut self,
        entry: &'e Entry<api::Sidecar>,
        listener: &'e IngressListener,
        modes: &PeerModes,
    ) -> Option<Ingress<'e>> {
        let number = u16::try_from(listener.port.number()).ok()?;
        let at = format!("spec.ingress[{}]", listener.index);
        let tls = listener.tls.as_ref().and_then(|tls| self.ingress_tls(entry, listener, tls, modes.of(number)));
        let is_own = listener.capture_mode == Some(CaptureMode::None);
        let mut own = is_own.then(|| self.own_address(entry, listener, number)).flatten();
        let leads_to = leads_to(listener, number);
        if own.is_some() && leads_to == LeadsTo::Same {
            let message = "the sidecar is to listen here itself, and the workload at the same port: it does not, and has the port redirected";
            let help = "say where the workload listens, on another port".to_owned();
            let field = format!("{at}.defaultEndpoint");
            self.findings.report(diag::SIDECAR_NOT_BUILT, entry, &field, message.to_owned(), Some(help));
            own = None;
        }
        Some(Ingress {
            number,
            protocol: match (spoken(listener.port.protocol), &tls) {
                // What is inside.
                (Protocol::Https, Some(_)) => Protocol::Http,
                (Protocol::Tls, Some(_)) => Protocol::Tcp,
                (spoken, _) => spoken,
            },
            leads_to,
            own,
            tls,
            pool: listener.connection_pool.as_ref().or(entry.spec.inbound_connection_pool.as_ref()),
        })
    }

    /// None: it is handed on to the workload as it comes.
    fn ingress_tls(
        &mut self,
        entry: &Entry<api::Sidecar>,
        listener: &IngressListener,
        tls: &ServerTls,
        mtls: MtlsMode,
    ) -> Option<TlsServer> {
        let at = format!("spec.ingress[{}].tls", listener.index);
        let mode = tls.mode.unwrap_or_default();
        if matches!(mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough) {
            return None;
        }
        if mtls != MtlsMode::Disable {
            let message =
                "the port takes mutual TLS of the mesh, and other TLS is handed on to the workload as it comes";
            let help =
                "a PeerAuthentication that says DISABLE for the port lets it end here (`portLevelMtls`)".to_owned();
            self.findings.report(diag::FIELD_DOUBTFUL, entry, &at, message.to_owned(), Some(help));
            return None;
        }
        let mut termination = versions(tls);
        termination.certificates.extend(files(&tls.server_certificate, &tls.private_key));
        termination.clients =
            client_demand(tls).map(|demand| Arc::new(ClientDemand { authorities: authority_files(tls), ..demand }));
        Some(TlsServer {
            hosts: vec![HostPattern::Any],
            serves: Serves::Http,
            tls: termination,
            routes: format!("inbound|{}||", listener.port.number()).into(),
            origin: entry.reference.clone(),
            server_index: u32::try_from(listener.index).unwrap_or(u32::MAX),
        })
    }

    /// None: it is the sidecar's own.
    fn own_address(
        &mut self,
        entry: &Entry<api::Sidecar>,
        listener: &IngressListener,
        number: u16,
    ) -> Option<SocketAddr> {
        if TAKEN.contains(&number) {
            let message = format!("{number} is a port of the sidecar itself, which cannot listen there for others");
            let field = format!("spec.ingress[{}].port.number", listener.index);
            self.findings.report(diag::SIDECAR_NOT_BUILT, entry, &field, message, None);
            return None;
        }
        let bind: Option<IpAddr> = listener.bind.as_deref().and_then(|bind| bind.parse().ok());
        Some(SocketAddr::new(bind.unwrap_or_else(|| super::ports::wildcard(self.proxy)), number))
    }
}

/// Validation has seen to it that it can be read.
fn leads_to(listener: &IngressListener, number: u16) -> LeadsTo {
    let written = listener.default_endpoint.as_deref().unwrap_or_default();
    if let Some(path) = written.strip_prefix("unix://") {
        return LeadsTo::Address(EndpointAddress::Unix(path.into()));
    }
    let Ok(address) = written.parse::<SocketAddr>() else {
        // Absent, or `:PORT`, which says no more (as Istio has it).
        return LeadsTo::Same;
    };
    match address.port() {
        _ if !address.ip().is_unspecified() => LeadsTo::Address(EndpointAddress::Socket(address)),
        port if port == number => LeadsTo::Same,
        port => LeadsTo::Port(port),
    }
}

/// As a service's port would say it.
fn spoken(protocol: Option<api::Protocol>) -> Protocol {
    match protocol {
        None => Protocol::Auto,
        Some(api::Protocol::Http | api::Protocol::HttpProxy) => Protocol::Http,
        Some(api::Protocol::Http2) => Protocol::Http2,
        Some(api::Protocol::Grpc) => Protocol::Grpc,
        Some(api::Protocol::GrpcWeb) => Protocol::GrpcWeb,
        Some(api::Protocol::Https) => Protocol::Https,
        Some(api::Protocol::Tls) => Protocol::Tls,
        Some(
            api::Protocol::Tcp
            | api::Protocol::Udp
            | api::Protocol::Mongo
            | api::Protocol::Redis
            | api::Protocol::Mysql,
        ) => Protocol::Tcp,
    }
}

impl Target<'_> {
    /// Of a port that no service has: it is called after the Sidecar.
    pub(super) fn of_sidecar(entry: &Entry<api::Sidecar>) -> Target<'static> {
        let (name, namespace) = (&entry.reference.name, &entry.reference.namespace);
        Target {
            host: format!("{name}.{namespace}").into(),
            name: Arc::clone(name),
            namespace: Arc::clone(namespace),
            protocol: Protocol::Auto,
            origin: entry.reference.clone(),
            pool: None,
        }
    }
}

#[cfg(test)]
#[path = "ingress_tests.rs"]
mod tests;

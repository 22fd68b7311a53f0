//! One `servers[]` entry of a Gateway: what kind it is and which hosts it opens.

use std::sync::Arc;

use crate::api::{Gateway, Protocol, Server, ServerTlsMode};
use crate::model::HostPattern;
use crate::world::{Entry, hostname};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Clear text HTTP of any version.
    Http,
    /// HTTP in TLS that ends here.
    Https,
    /// Something else in TLS that ends here.
    TlsBytes,
    /// TLS that goes on as it comes.
    Passthrough,
    /// The same, to the service that the server name says.
    AutoPassthrough,
    /// Clear text that is not HTTP.
    Tcp,
    /// A TLS protocol without `tls`.
    WithoutTls,
}

impl Kind {
    pub fn of(server: &Server) -> Kind {
        let protocol = server.port.protocol;
        if protocol.is_http() {
            return Kind::Http;
        }
        let Some(tls) = &server.tls else {
            return if protocol.is_tls() { Kind::WithoutTls } else { Kind::Tcp };
        };
        match (protocol, tls.mode.unwrap_or_default()) {
            (_, ServerTlsMode::Passthrough) => Kind::Passthrough,
            (_, ServerTlsMode::AutoPassthrough) => Kind::AutoPassthrough,
            (Protocol::Https, _) => Kind::Https,
            _ => Kind::TlsBytes,
        }
    }

    pub fn is_tls(self) -> bool {
        self.terminates() || matches!(self, Kind::Passthrough | Kind::AutoPassthrough)
    }

    /// TLS ends here.
    pub fn terminates(self) -> bool {
        matches!(self, Kind::Https | Kind::TlsBytes)
    }

    /// What is inside is not looked into, and VirtualServices say where it goes.
    pub fn is_bytes(self) -> bool {
        matches!(self, Kind::Tcp | Kind::TlsBytes | Kind::Passthrough)
    }

    pub fn is_served(self) -> bool {
        self != Kind::WithoutTls
    }
}

/// `host`, `ns/host`, `./host` or `*/host` of a server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServerHost {
    pub pattern: HostPattern,
    /// The only namespace whose VirtualServices may use it.
    pub namespace: Option<Arc<str>>,
}

impl ServerHost {
    pub fn read(text: &str, gateway_namespace: &Arc<str>) -> ServerHost {
        let (namespace, host) = match text.split_once('/') {
            None | Some(("*", _)) => (None, text.split_once('/').map_or(text, |(_, host)| host)),
            Some((".", host)) => (Some(Arc::clone(gateway_namespace)), host),
            Some((namespace, host)) => (Some(namespace.into()), host),
        };
        ServerHost { pattern: hostname::pattern(host), namespace }
    }

    pub fn admits(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// A server with its Gateway.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub gateway: Arc<Entry<Gateway>>,
    pub server: Server,
    pub kind: Kind,
    pub hosts: Vec<ServerHost>,
}

impl Slot {
    pub fn new(gateway: &Arc<Entry<Gateway>>, server: &Server) -> Slot {
        let hosts = server.hosts.iter().map(|host| ServerHost::read(host, gateway.namespace())).collect();
        Slot { gateway: Arc::clone(gateway), server: server.clone(), kind: Kind::of(server), hosts }
    }

    /// The same server of the same version of a Gateway.
    pub fn is(&self, other: &Slot) -> bool {
        Arc::ptr_eq(&self.gateway, &other.gateway) && self.server.index == other.server.index
    }

    /// `spec.servers[1].port`
    pub fn field(&self, below: &str) -> String {
        format!("spec.servers[{}]{below}", self.server.index)
    }

    /// `Gateway default/shop, server 1`, and ` (name)` where it has one, for messages.
    pub fn title(&self) -> String {
        let reference = &self.gateway.reference;
        let name = self.server.name.as_deref().filter(|name| !name.is_empty());
        let name = name.map_or_else(String::new, |name| format!(" ({name})"));
        format!("Gateway {}/{}, server {}{name}", reference.namespace, reference.name, self.server.index)
    }

    /// The port that the user wrote.
    pub fn number(&self) -> u16 {
        u16::try_from(self.server.port.number).unwrap_or_default()
    }

    /// Whether requests in clear text are sent to https.
    pub fn redirects(&self) -> bool {
        self.kind == Kind::Http && self.server.tls.as_ref().is_some_and(|tls| tls.https_redirect == Some(true))
    }
}

//! Which certificates a set asks for, and who can give them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::certificate::servers;
use crate::model::{ListenerProtocol, ResourceSet};
use crate::object::ObjectRef;

/// Who signs for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// A CA of this machine's own: nobody else can vouch for the name.
    Local,
    /// The CA whose directory is configured.
    Directory,
}

/// A certificate that is to be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The host that it is for, in lower case.
    pub host: Arc<str>,
    /// Some listener of who serves it takes HTTP in clear text, so files can be shown there.
    pub http: bool,
    /// The Gateway that asks for it first.
    pub origin: ObjectRef,
    /// The server in it.
    pub field: String,
}

/// All that is to be ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// By host; by key of the secret, where it is to be kept in one.
    pub names: BTreeMap<Arc<str>, Want>,
}

/// What the servers of a set want to be ordered.
#[must_use]
pub fn wants(set: &ResourceSet) -> Wants {
    let is_http = |protocol: &ListenerProtocol| matches!(protocol, ListenerProtocol::Http { .. });
    let http = set.listeners.values().any(|listener| is_http(&listener.protocol));
    let mut names = BTreeMap::new();
    for server in servers(set) {
        for source in &server.tls.certificates {
            let Some(host) = source.ordered_for() else { continue };
            let want = || Want { host: Arc::clone(host), http, origin: server.origin.clone(), field: server.field() };
            names.entry(Arc::clone(source.secret().unwrap_or(host))).or_insert_with(want);
        }
    }
    Wants { names }
}

/// Names that nobody owns (RFC 6761, RFC 6762, RFC 8375, and `.internal`, which ICANN keeps for private use).
const PRIVATE: [&str; 4] = ["local", "internal", "home.arpa", "localdomain"];

/// Who can give a certificate for this name. `own`: the directory was named by its URL, so it may be that of an organisation, which
/// knows names that nobody else does; what every machine has for itself it does not know either.
#[must_use]
pub fn authority(name: &str, own: bool) -> Authority {
    let below = |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    let is_machines = below("localhost") || name.parse::<IpAddr>().is_ok();
    let is_private = !name.contains('.') || PRIVATE.into_iter().any(below);
    if is_machines || (is_private && !own) { Authority::Local } else { Authority::Directory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names_are_signed_here() {
        for name in ["localhost", "a.localhost", "127.0.0.1", "::1", "192.168.1.7"] {
            assert_eq!((authority(name, false), authority(name, true)), (Authority::Local, Authority::Local), "{name}");
        }
        for name in ["printer.local", "a.b.internal", "nas", "x.home.arpa"] {
            assert_eq!(authority(name, false), Authority::Local, "{name}");
            assert_eq!(authority(name, true), Authority::Directory, "{name}: an organisation's CA may know it");
        }
        for name in ["a.example", "notlocalhost.com", "local.example", "xlocal.org", "internal.example"] {
            assert_eq!(authority(name, false), Authority::Directory, "{name}");
        }
    }
}

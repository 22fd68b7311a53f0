//! What is wrong with the certificates of a set, in the words that gateway, controller and `meshctl` share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;

use super::{AuthorityPem, Certificate, CertificateInfo, ClientTrust, Pem, load};
use crate::diag::{self, Diagnostic};
use crate::model::{
    AuthoritySource, CertificateSource, ClientDemand, HostPattern, ListenerProtocol, ResourceSet, Secret, TlsServer,
};
use crate::object::ObjectRef;

/// What diagnostics about a certificate name.
pub struct Origin<'a> {
    pub object: &'a ObjectRef,
    pub field: String,
    /// `secret a/b`, `certificate FILE`
    pub what: String,
}

impl<'a> Origin<'a> {
    #[must_use]
    pub fn secret(secret: &'a Secret) -> Origin<'a> {
        Origin { object: &secret.origin, field: String::new(), what: format!("secret {}", secret.key) }
    }

    #[must_use]
    pub fn authorities(secret: &'a Secret) -> Origin<'a> {
        Origin { what: format!("CA certificates of secret {}", secret.key), ..Origin::secret(secret) }
    }

    fn about(&self, code: diag::Code, text: &str) -> Diagnostic {
        Diagnostic::new(code, format!("{}: {text}", self.what)).object(self.object).field(self.field.clone())
    }

    /// It cannot be used.
    #[must_use]
    pub fn broken(&self, error: &str, had_good: bool) -> Diagnostic {
        self.about(diag::CERTIFICATE_UNUSABLE, error).help(if had_good {
            "the last good certificate stays in use"
        } else {
            "connections for servers that have no other certificate are closed"
        })
    }

    /// Clients cannot be verified with it.
    #[must_use]
    pub fn unbelievable(&self, error: &str, had_good: bool) -> Diagnostic {
        self.about(diag::CERTIFICATE_UNUSABLE, error).help(if had_good {
            "the last good CA certificates stay in use"
        } else {
            "connections for servers that verify clients with it are closed"
        })
    }

    /// What is wrong with the time for which it is valid, if anything.
    #[must_use]
    pub fn doubt(&self, info: &CertificateInfo, now: SystemTime) -> Option<Diagnostic> {
        info.doubt(now).map(|doubt| self.about(diag::CERTIFICATE_TIME, &doubt))
    }
}

/// Certificate and key of a secret.
#[must_use]
pub fn pem_of(secret: &Secret) -> Pem {
    Pem { certificate: secret.certificate_pem.clone().into(), private_key: secret.private_key_pem.clone().into() }
}

/// CA certificates and revocation lists of a secret.
#[must_use]
pub fn authorities_of(secret: &Secret) -> AuthorityPem {
    AuthorityPem { certificates: secret.authorities_pem.clone().into(), revoked: secret.revoked_pem.clone().into() }
}

/// What servers ask of their clients, each once, with the first server that asks it.
pub fn demands(set: &ResourceSet) -> BTreeMap<&Arc<ClientDemand>, &TlsServer> {
    let mut all = BTreeMap::new();
    for server in servers(set) {
        if let Some(demand) = &server.tls.clients {
            all.entry(demand).or_insert(server);
        }
    }
    all
}

/// The servers of a set that terminate TLS.
pub fn servers(set: &ResourceSet) -> impl Iterator<Item = &TlsServer> {
    set.listeners.values().flat_map(|listener| {
        let (servers, inbound) = match &listener.protocol {
            ListenerProtocol::Tls { servers } => (servers.as_slice(), None),
            ListenerProtocol::Inbound(inbound) => (&[][..], Some(inbound)),
            ListenerProtocol::Http { .. } | ListenerProtocol::Tcp { .. } | ListenerProtocol::Outbound(_) => {
                (&[][..], None)
            }
        };
        let ports = inbound.into_iter().flat_map(|inbound| inbound.ports.values());
        servers.iter().chain(ports.filter_map(|port| port.tls.as_ref()))
    })
}

/// Hosts of servers for which no certificate of the server is valid: clients will refuse them.
pub fn check_hosts<'a>(
    set: &ResourceSet,
    info: impl Fn(&CertificateSource) -> Option<&'a CertificateInfo>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for server in servers(set) {
        let entries: Vec<_> = server.tls.certificates.iter().filter_map(&info).collect();
        if entries.is_empty() {
            continue;
        }
        // What is ordered may come; until then who orders it says where that stands.
        let is_ordered = |host: &HostPattern| match host {
            HostPattern::Exact(host) => server.tls.certificates.iter().any(|source| source.ordered_for() == Some(host)),
            // That it cannot be was said already.
            HostPattern::Suffix(_) | HostPattern::Any => server.tls.orders(),
        };
        let covered = |host: &HostPattern| entries.iter().any(|entry| entry.covers(host));
        for host in server.hosts.iter().filter(|host| !covered(host) && !is_ordered(host)) {
            diagnostics.push(
                Diagnostic::new(diag::CERTIFICATE_HOST, format!("no certificate is valid for the host {host}"))
                    .object(&server.origin)
                    .field(server.field())
                    .help("clients that connect with this name will refuse the certificate"),
            );
        }
    }
}

/// What a gateway that starts with these secrets would find out about them. Files that servers name are the gateway's.
#[must_use]
pub fn check_secrets(set: &ResourceSet, now: SystemTime, provider: &Arc<CryptoProvider>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut usable: HashMap<CertificateSource, Arc<Certificate>> = HashMap::new();
    for secret in set.secrets.values().filter(|secret| secret.has_pair()) {
        let origin = Origin::secret(secret);
        match load(&pem_of(secret), None, provider) {
            Ok(certificate) => {
                diagnostics.extend(origin.doubt(&certificate.info, now));
                usable.insert(CertificateSource::Secret(Arc::clone(&secret.key)), certificate);
            }
            Err(error) => diagnostics.push(origin.broken(&error, false)),
        }
    }
    for demand in demands(set).into_keys() {
        let Some(AuthoritySource::Secret(key)) = &demand.authorities else { continue };
        let Some(secret) = set.secrets.get(key).filter(|secret| !secret.authorities_pem.is_empty()) else { continue };
        let origin = Origin::authorities(secret);
        match ClientTrust::load(demand, &authorities_of(secret), None, provider) {
            Ok(trust) => diagnostics.extend(trust.authorities.iter().filter_map(|info| origin.doubt(info, now))),
            Err(error) => diagnostics.push(origin.unbelievable(&error, false)),
        }
    }
    check_hosts(set, |source| usable.get(source).map(|certificate| &certificate.info), &mut diagnostics);
    diagnostics
}

//! Certificates that a Gateway wants to have ordered (ACME): for which hosts of a server, and in which secret the controller keeps
//! them where the proxy does not order itself.

use std::sync::Arc;

use super::Context;
use super::server::Slot;
use super::server_tls::{files, pair_of, secret_place};
use crate::acme::{CHALLENGE, HOST, OURS};
use crate::api::{ACME, ServerTls, ServerTlsMode, kube};
use crate::attribute;
use crate::diag;
use crate::model::{CertificateSource, Challenge, HostPattern, Key};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry};

/// Before the host, as the name of a secret that no server names.
const DERIVED: &str = "acme-";

impl Context<'_> {
    /// What is ordered for the server's hosts, each for itself, so that one that fails takes no other down. None: its certificate
    /// comes from elsewhere.
    pub(super) fn ordered(&mut self, slot: &Slot, tls: &ServerTls) -> Option<Vec<CertificateSource>> {
        let annotation = slot.gateway.meta.annotations.get(ACME)?;
        if attribute::boolean(annotation) != Some(true)
            || tls.mode.unwrap_or_default() != ServerTlsMode::Simple
            || self.has_certificate(slot, tls)
        {
            return None;
        }
        let own = &self.proxy.namespace;
        let named = tls.credential_names.iter().chain(&tls.credential_name).find(|name| !name.is_empty());
        let named = named.map(|name| secret_place(name, own));
        if !self.proxy.orders && named.is_some_and(|(namespace, _)| namespace != own) {
            // Nobody reads it there.
            return None;
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        for (index, host) in slot.hosts.iter().enumerate() {
            match &host.pattern {
                HostPattern::Exact(name) if names.contains(name) => {}
                HostPattern::Exact(name) => names.push(Arc::clone(name)),
                pattern => self.wildcard(slot, index, pattern),
            }
        }
        if self.proxy.orders {
            return Some(names.into_iter().map(CertificateSource::Ordered).collect());
        }
        // One secret holds one certificate, and each host has its own.
        let named = named.map(|(_, name)| name).filter(|_| names.len() == 1 && slot.hosts.len() == 1);
        let issued = names.into_iter().filter_map(|host| {
            let name = named.map_or_else(|| format!("{DERIVED}{host}"), str::to_owned);
            self.issued(slot, host, &name)
        });
        Some(issued.collect())
    }

    /// What the controller keeps there. One that is somebody else's is not served in its place: who orders says so. None: another host has
    /// a certificate there, so this one wants none.
    fn issued(&mut self, slot: &Slot, host: Arc<str>, name: &str) -> Option<CertificateSource> {
        let namespace = &self.proxy.namespace;
        let key: Key = format!("{namespace}/{name}").into();
        self.reads.note(Cell::Object(ObjectRef::new("Secret", namespace, name)));
        if let Some(entry) = self.world.secret(namespace, name).filter(|entry| is_ours(entry)) {
            let other = entry.meta.annotations.get(HOST).filter(|other| ***other != *host);
            // Where none is yet, an order for a host that nobody has any more may have failed: that is in nobody's way.
            if let Some(other) = other.filter(|_| pair_of(entry).is_some()) {
                let message = format!(
                    "the secret `{key}` holds the certificate of {other}, and one secret holds one certificate: there is none for {host}"
                );
                let help = format!(
                    "give the server a `credentialName` of its own, or delete the secret if {other} is served no more"
                );
                let field = slot.field(".tls.credentialName");
                self.findings.report(diag::ORDER_IMPOSSIBLE, &slot.gateway, &field, message, Some(help));
                return None;
            }
            self.take_pair(&key, entry);
            let challenge = entry.meta.annotations.get(CHALLENGE).filter(|_| other.is_none());
            if let Some(proof) = challenge.and_then(|text| serde_json::from_str(text).ok()) {
                let (key, origin) = (Arc::clone(&key), entry.reference.clone());
                let challenge = Challenge { key: Arc::clone(&key), host: Arc::clone(&host), proof, origin };
                self.challenges.insert(key, Arc::new(challenge));
            }
        }
        Some(CertificateSource::Issued { host, secret: key })
    }

    /// Whether one that it names is there, and comes from elsewhere.
    fn has_certificate(&mut self, slot: &Slot, tls: &ServerTls) -> bool {
        let listed =
            tls.tls_certificates.iter().any(|pair| files(&pair.server_certificate, &pair.private_key).is_some());
        if listed || files(&tls.server_certificate, &tls.private_key).is_some() {
            return true;
        }
        let names = tls.credential_names.iter().chain(&tls.credential_name).filter(|name| !name.is_empty());
        let mut found = false;
        for name in names {
            let (namespace, name) = secret_place(name, &self.proxy.namespace);
            self.reads.note(Cell::Object(ObjectRef::new("Secret", namespace, name)));
            let Some(entry) = self.world.secret(namespace, name) else { continue };
            if self.proxy.orders {
                found = true;
            } else if !is_ours(entry) {
                found = true;
                let field = format!("metadata.annotations.{ACME}");
                let message = format!(
                    "the secret `{namespace}/{name}` is not one of those that the controller writes: it is served as it is, and nothing is ordered"
                );
                let help = "delete it, or name another one, to have a certificate ordered".to_owned();
                self.findings.report(diag::ORDER_NOT_NEEDED, &slot.gateway, &field, message, Some(help));
            }
        }
        found
    }

    fn wildcard(&mut self, slot: &Slot, index: usize, pattern: &HostPattern) {
        let field = slot.field(&format!(".hosts[{index}]"));
        let message = format!(
            "no certificate can be ordered for `{pattern}`: that this gateway serves a host can be shown for one name, not for all; TLS connections for it are closed"
        );
        let help = "name the hosts one by one, or put a certificate into the secret of `credentialName`".to_owned();
        self.findings.report(diag::ORDER_IMPOSSIBLE, &slot.gateway, &field, message, Some(help));
    }
}

/// The controller wrote it for an order.
fn is_ours(entry: &Entry<kube::Secret>) -> bool {
    entry.meta.labels.get(OURS).is_some_and(|value| value == "true")
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;

//! TLS of a server: where its certificate comes from, whose client certificates it believes, and whether it may take them from
//! there.

use std::sync::Arc;

use super::Context;
use super::client_demand::client_demand;
use super::findings::nearest;
use super::server::Slot;
use crate::api::tls_names::{CIPHER_SUITES, GROUPS, offered};
use crate::api::{ServerTls, ServerTlsMode, TlsProtocol, kube};
use crate::diag;
use crate::model::{
    AuthoritySource, CertificateSource, ClientDemand, Key, MeshClients, Secret, TlsTermination, TlsVersion,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry};

/// Keys of certificate and private key in a secret.
const CERTIFICATE_NAMES: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("cert", "key")];
/// Keys of CA certificates and revocation lists in a secret, in the order in which they are looked for.
const AUTHORITY_NAMES: [(&str, &str); 2] = [("cacert", "crl"), ("ca.crt", "ca.crl")];
/// What the secret with the CA of `credentialName` is called where it is one of its own.
const AUTHORITY_SUFFIX: &str = "-cacert";

impl Context<'_> {
    /// Without certificates the server's names are closed, and only those.
    pub(super) fn termination(&mut self, slot: &Slot) -> TlsTermination {
        let Some(tls) = slot.server.tls.as_ref().filter(|_| slot.kind.terminates()) else {
            return versions(&ServerTls::default());
        };
        let mut termination = versions(tls);
        if tls.mode == Some(ServerTlsMode::IstioMutual) {
            let mesh = Some(MeshClients { names: tls.subject_alt_names.clone() });
            return TlsTermination { mesh, ..TlsTermination::default() };
        }
        termination.certificates = self.certificates(slot, tls);
        termination.clients = self.clients(slot, tls);
        termination
    }

    fn clients(&mut self, slot: &Slot, tls: &ServerTls) -> Option<Arc<ClientDemand>> {
        let mut demand = client_demand(tls)?;
        demand.authorities = self.authorities(slot, tls);
        if demand.authorities.is_none() && !demand.unverified {
            let message =
                "no CA is named that client certificates are verified with; TLS connections for its hosts are closed";
            let help = "put the CA into the secret of `credentialName` as `ca.crt`, or into the secret `NAME-cacert`";
            let field = slot.field(".tls.mode");
            let (message, help) = (message.to_owned(), Some(help.to_owned()));
            self.findings.report(diag::SERVER_WITHOUT_AUTHORITY, &slot.gateway, &field, message, help);
        }
        Some(Arc::new(demand))
    }

    /// By name before by file, as with certificates.
    fn authorities(&mut self, slot: &Slot, tls: &ServerTls) -> Option<AuthoritySource> {
        let set = |name: &&str| !name.is_empty();
        if let Some(name) = tls.ca_cert_credential_name.as_deref().filter(set) {
            let field = slot.field(".tls.caCertCredentialName");
            let (namespace, name) = self.secret_name(slot, name, &field)?;
            return self.authority(slot, &field, &namespace, &[&name], tls);
        }
        let (name, field) = match tls.credential_names.iter().find(|name| !name.is_empty()) {
            Some(name) => (name.as_str(), ".tls.credentialNames[0]"),
            None => match tls.credential_name.as_deref().filter(set) {
                Some(name) => (name, ".tls.credentialName"),
                None => return authority_files(tls),
            },
        };
        let field = slot.field(field);
        let (namespace, name) = self.secret_name(slot, name, &field)?;
        self.authority(slot, &field, &namespace, &[&format!("{name}{AUTHORITY_SUFFIX}"), &name], tls)
    }

    /// The first of these secrets that there is. If it is none it may come: the last one, which then is not served with.
    fn authority(
        &mut self,
        slot: &Slot,
        field: &str,
        namespace: &str,
        names: &[&str],
        tls: &ServerTls,
    ) -> Option<AuthoritySource> {
        for name in names {
            self.reads.note(Cell::Object(ObjectRef::new("Secret", namespace, name)));
        }
        let found = names.iter().find_map(|name| self.world.secret(namespace, name));
        let last = names.last().copied().unwrap_or_default();
        let key: Key = format!("{namespace}/{}", found.map_or(last, |entry| &entry.reference.name)).into();
        match found {
            None if tls.insecure_skip_verify == Some(true) => return None,
            // Of the certificate it was said already.
            None if names.len() > 1 => {}
            None => self.secret_missing(slot, field, namespace, last),
            Some(entry) => match authorities_of(entry) {
                Some((authorities, revoked)) => {
                    let secret = self.secrets.get(&key).cloned();
                    let mut secret =
                        secret.unwrap_or_else(|| Arc::new(Secret::new(Arc::clone(&key), entry.reference.clone())));
                    let edited = Arc::make_mut(&mut secret);
                    (edited.authorities_pem, edited.revoked_pem) = (authorities, revoked);
                    self.secrets.insert(Arc::clone(&key), secret);
                }
                None if tls.insecure_skip_verify == Some(true) => return None,
                None => self.without_authorities(slot, field, entry),
            },
        }
        Some(AuthoritySource::Secret(key))
    }

    fn without_authorities(&mut self, slot: &Slot, field: &str, entry: &Entry<kube::Secret>) {
        let message = format!(
            "secret `{}/{}` has {}, but no CA certificates (`ca.crt` or `cacert`) that client certificates are verified with; TLS connections for its hosts are closed",
            entry.reference.namespace,
            entry.reference.name,
            keys_of(entry)
        );
        let help = "add `ca.crt` to the secret, or make the secret `NAME-cacert`".to_owned();
        self.findings.report(diag::SERVER_WITHOUT_AUTHORITY, &slot.gateway, field, message, Some(help));
    }

    fn certificates(&mut self, slot: &Slot, tls: &ServerTls) -> Vec<CertificateSource> {
        if let Some(ordered) = self.ordered(slot, tls) {
            return ordered;
        }
        let mut sources = Vec::new();
        for (index, name) in tls.credential_names.iter().enumerate() {
            sources.extend(self.credential(slot, name, &format!(".tls.credentialNames[{index}]")));
        }
        if let Some(name) = tls.credential_name.as_deref().filter(|name| !name.is_empty() && sources.is_empty()) {
            sources.extend(self.credential(slot, name, ".tls.credentialName"));
        }
        let named =
            !tls.credential_names.is_empty() || tls.credential_name.as_deref().is_some_and(|name| !name.is_empty());
        if !named {
            let listed =
                tls.tls_certificates.iter().filter_map(|pair| files(&pair.server_certificate, &pair.private_key));
            sources.extend(listed);
            sources.extend(files(&tls.server_certificate, &tls.private_key));
            if sources.is_empty() {
                let message = "no certificate is named; TLS connections for its hosts are closed".to_owned();
                let help = "set `credentialName` to a TLS secret in the gateway's namespace".to_owned();
                let field = slot.field(".tls");
                self.findings.report(diag::SERVER_WITHOUT_CERTIFICATE, &slot.gateway, &field, message, Some(help));
            }
        }
        sources
    }

    /// Namespace and name of a secret, which must be in the proxy's namespace.
    fn secret_name(&mut self, slot: &Slot, name: &str, field: &str) -> Option<(String, String)> {
        let own = &self.proxy.namespace;
        let (namespace, name) = secret_place(name, own);
        // Also where the Gateway itself is there: whoever may run pods in a namespace may read its secrets, and nobody else.
        if namespace != own {
            let message =
                format!("the secret is in namespace `{namespace}`; only `{own}` (of the gateway's pods) is allowed");
            self.findings.report(diag::SECRET_FORBIDDEN, &slot.gateway, field, message, None);
            return None;
        }
        Some((namespace.to_owned(), name.to_owned()))
    }

    /// A secret by name. The source is kept if the secret is missing: it may come.
    fn credential(&mut self, slot: &Slot, name: &str, field: &str) -> Option<CertificateSource> {
        let field = slot.field(field);
        let (namespace, name) = self.secret_name(slot, name, &field)?;
        let key: Key = format!("{namespace}/{name}").into();
        if self.secrets.get(&key).is_none_or(|secret| secret.certificate_pem.is_empty()) {
            self.reads.note(Cell::Object(ObjectRef::new("Secret", &namespace, &name)));
            match self.world.secret(&namespace, &name) {
                None => self.secret_missing(slot, &field, &namespace, &name),
                Some(entry) if self.take_pair(&key, entry) => {}
                Some(entry) => self.secret_empty(slot, &field, entry),
            }
        }
        Some(CertificateSource::Secret(key))
    }

    /// Takes certificate and key over, if they are there.
    pub(super) fn take_pair(&mut self, key: &Key, entry: &Entry<kube::Secret>) -> bool {
        let Some((certificate, private_key)) = pair_of(entry) else { return false };
        let secret = self.secrets.get(key).cloned();
        let mut secret = secret.unwrap_or_else(|| Arc::new(Secret::new(Arc::clone(key), entry.reference.clone())));
        let edited = Arc::make_mut(&mut secret);
        (edited.certificate_pem, edited.private_key_pem) = (certificate, private_key);
        self.secrets.insert(Arc::clone(key), secret);
        true
    }

    fn secret_missing(&mut self, slot: &Slot, field: &str, namespace: &str, name: &str) {
        let message = format!(
            "secret `{namespace}/{name}` does not exist; without a certificate, connections for the server's hosts are closed"
        );
        self.reads.note(Cell::Kind("Secret"));
        // Who reads the Gateway and its status need not know which secrets there are: of a cluster's, only the one that it
        // names itself is told of, and that in its own namespace alone. What is in files, whoever has the files sees.
        let is_in_file = |secret: &Entry<_>| secret.position("").is_some();
        let is_open = |secret: &Entry<_>| secret.namespace() == slot.gateway.namespace() || is_in_file(secret);
        let mut namesakes = self.world.secrets().filter(|secret| &*secret.reference.name == name);
        let elsewhere = namesakes.find(|secret| is_open(secret));
        let help = match elsewhere {
            Some(secret) => format!(
                "there is one in namespace `{}`, but it must be in `{namespace}`, where the gateway runs",
                secret.reference.namespace
            ),
            None => {
                let there = |secret: &&Arc<Entry<_>>| &*secret.reference.namespace == namespace && is_in_file(secret);
                let names = self.world.secrets().filter(there);
                let nearest = nearest(name, names.map(|secret| &*secret.reference.name));
                nearest.unwrap_or_else(|| format!("create it in namespace `{namespace}`, where the gateway runs"))
            }
        };
        self.findings.report(diag::SECRET_MISSING, &slot.gateway, field, message, Some(help));
    }

    fn secret_empty(&mut self, slot: &Slot, field: &str, entry: &Entry<kube::Secret>) {
        let message = format!(
            "secret `{}/{}` has {}, but not `tls.crt` and `tls.key` (or `cert` and `key`) with PEM text",
            entry.reference.namespace,
            entry.reference.name,
            keys_of(entry)
        );
        self.findings.report(diag::SECRET_WITHOUT_KEYS, &slot.gateway, field, message, None);
    }
}

/// Namespace and name of a secret as it is called by somebody in the namespace `own`.
pub(super) fn secret_place<'n>(name: &'n str, own: &'n str) -> (&'n str, &'n str) {
    let plain = name.strip_prefix("kubernetes-gateway://").or_else(|| name.strip_prefix("kubernetes://"));
    let plain = plain.unwrap_or(name);
    plain.split_once('/').unwrap_or((own, plain))
}

/// Without certificates.
pub(super) fn versions(tls: &ServerTls) -> TlsTermination {
    let old = matches!(tls.max_protocol_version, Some(TlsProtocol::V1_0 | TlsProtocol::V1_1 | TlsProtocol::V1_2));
    TlsTermination {
        certificates: Vec::new(),
        clients: None,
        mesh: None,
        min_version: if tls.min_protocol_version == Some(TlsProtocol::V1_3) {
            TlsVersion::V1_3
        } else {
            TlsVersion::V1_2
        },
        max_version: if old { TlsVersion::V1_2 } else { TlsVersion::V1_3 },
        cipher_suites: offered(&tls.cipher_suites, CIPHER_SUITES),
        groups: offered(&tls.ecdh_curves, GROUPS),
    }
}

pub(super) fn files(certificate: &Option<String>, private_key: &Option<String>) -> Option<CertificateSource> {
    let (certificate, private_key) = (certificate.clone()?, private_key.clone()?);
    Some(CertificateSource::Files { certificate, private_key })
}

pub(super) fn authority_files(tls: &ServerTls) -> Option<AuthoritySource> {
    let set = |path: &Option<String>| path.clone().filter(|path| !path.is_empty());
    let listed = || tls.tls_certificates.iter().find_map(|pair| set(&pair.ca_certificates));
    let certificates = set(&tls.ca_certificates).or_else(listed)?;
    Some(AuthoritySource::Files { certificates, revoked: set(&tls.ca_crl) })
}

/// `ca.crt, tls.crt`
pub(super) fn keys_of(entry: &Entry<kube::Secret>) -> String {
    let has: Vec<&str> = entry.spec.data.keys().map(String::as_str).collect();
    if has.is_empty() { "nothing".to_owned() } else { has.join(", ") }
}

fn text(entry: &Entry<kube::Secret>, name: &str) -> Option<String> {
    let bytes = entry.spec.data.get(name)?;
    let text = std::str::from_utf8(bytes.as_slice()).ok()?;
    (!text.trim().is_empty()).then(|| text.to_owned())
}

/// Certificate and private key.
pub(super) fn pair_of(entry: &Entry<kube::Secret>) -> Option<(String, String)> {
    let mut pairs = CERTIFICATE_NAMES.iter();
    pairs.find_map(|(certificate, key)| Some((text(entry, certificate)?, text(entry, key)?)))
}

/// CA certificates, and revocation lists, if there are any.
pub(super) fn authorities_of(entry: &Entry<kube::Secret>) -> Option<(String, String)> {
    let mut names = AUTHORITY_NAMES.iter();
    names.find_map(|(authorities, revoked)| Some((text(entry, authorities)?, text(entry, revoked).unwrap_or_default())))
}

#[cfg(test)]
#[path = "server_tls_tests.rs"]
mod tests;

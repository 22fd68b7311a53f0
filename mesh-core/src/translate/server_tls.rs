//! TLS of a server: where its certificate comes from, and whether it may take it from there.

use std::sync::Arc;

use super::Context;
use super::findings::nearest;
use super::server::{Kind, Slot};
use crate::api::{ServerTls, TlsProtocol};
use crate::diag;
use crate::model::{CertificateSource, Key, Secret, TlsTermination, TlsVersion};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry};

const CERTIFICATE_NAMES: [(&str, &str); 2] = [("tls.crt", "tls.key"), ("cert", "key")];

impl Context<'_> {
    /// Without certificates the server's names are closed, and only those.
    pub(super) fn termination(&mut self, slot: &Slot) -> TlsTermination {
        let Some(tls) = slot.server.tls.as_ref().filter(|_| slot.kind == Kind::Https) else {
            return versions(&ServerTls::default());
        };
        let mut termination = versions(tls);
        termination.certificates = self.certificates(slot, tls);
        termination
    }

    fn certificates(&mut self, slot: &Slot, tls: &ServerTls) -> Vec<CertificateSource> {
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

    /// A secret by name, in the proxy's namespace. The source is kept if the secret is missing: it may come.
    fn credential(&mut self, slot: &Slot, name: &str, field: &str) -> Option<CertificateSource> {
        let own = &self.proxy.namespace;
        let plain = name.strip_prefix("kubernetes-gateway://").or_else(|| name.strip_prefix("kubernetes://"));
        let (namespace, name) = match plain.unwrap_or(name).split_once('/') {
            Some((namespace, name)) => (namespace, name),
            None => (own.as_str(), plain.unwrap_or(name)),
        };
        let field = slot.field(field);
        // Also where the Gateway itself is there: whoever may run pods in a namespace may read its secrets, and nobody else.
        if namespace != own {
            let message =
                format!("the secret is in namespace `{namespace}`; only `{own}` (of the gateway's pods) is allowed");
            self.findings.report(diag::SECRET_FORBIDDEN, &slot.gateway, &field, message, None);
            return None;
        }
        let key: Key = format!("{namespace}/{name}").into();
        if !self.secrets.contains_key(&key) {
            self.reads.note(Cell::Object(ObjectRef::new("Secret", namespace, name)));
            match self.world.secret(namespace, name) {
                None => self.secret_missing(slot, &field, namespace, name),
                Some(entry) => match read(&key, entry) {
                    Some(secret) => drop(self.secrets.insert(Arc::clone(&key), Arc::new(secret))),
                    None => self.secret_empty(slot, &field, entry),
                },
            }
        }
        Some(CertificateSource::Secret(key))
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

    fn secret_empty(&mut self, slot: &Slot, field: &str, entry: &Entry<crate::api::kube::Secret>) {
        let has: Vec<&str> = entry.spec.data.keys().map(String::as_str).collect();
        let has = if has.is_empty() { "nothing".to_owned() } else { has.join(", ") };
        let message = format!(
            "secret `{}/{}` has {has}, but not `tls.crt` and `tls.key` (or `cert` and `key`) with PEM text",
            entry.reference.namespace, entry.reference.name
        );
        self.findings.report(diag::SECRET_WITHOUT_KEYS, &slot.gateway, field, message, None);
    }
}

/// Without certificates.
pub(super) fn versions(tls: &ServerTls) -> TlsTermination {
    let old = matches!(tls.max_protocol_version, Some(TlsProtocol::V1_0 | TlsProtocol::V1_1 | TlsProtocol::V1_2));
    TlsTermination {
        certificates: Vec::new(),
        min_version: if tls.min_protocol_version == Some(TlsProtocol::V1_3) {
            TlsVersion::V1_3
        } else {
            TlsVersion::V1_2
        },
        max_version: if old { TlsVersion::V1_2 } else { TlsVersion::V1_3 },
    }
}

pub(super) fn files(certificate: &Option<String>, private_key: &Option<String>) -> Option<CertificateSource> {
    let (certificate, private_key) = (certificate.clone()?, private_key.clone()?);
    Some(CertificateSource::Files { certificate, private_key })
}

fn read(key: &Key, entry: &Entry<crate::api::kube::Secret>) -> Option<Secret> {
    let text = |name: &str| {
        let bytes = entry.spec.data.get(name)?;
        let text = std::str::from_utf8(bytes.as_slice()).ok()?;
        (!text.trim().is_empty()).then(|| text.to_owned())
    };
    let pair = CERTIFICATE_NAMES.iter().find_map(|(certificate, key)| Some((text(certificate)?, text(key)?)));
    let (certificate_pem, private_key_pem) = pair?;
    Some(Secret { key: Arc::clone(key), certificate_pem, private_key_pem, origin: entry.reference.clone() })
}

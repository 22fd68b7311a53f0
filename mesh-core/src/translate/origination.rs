//! TLS with servers outside of the mesh (`SIMPLE` and `MUTUAL` of DestinationRules): whose certificates are believed, and what is
//! shown. What is asked for and cannot be had is never replaced by clear text.

use std::sync::Arc;

use super::Context;
use super::server_tls::{authorities_of, keys_of, pair_of, secret_place};
use crate::api::{ClientTls, ClientTlsMode, DestinationRule};
use crate::diag;
use crate::model::{
    AuthoritySource, CertificateSource, Destination, Key, Origination, ProxyInfo, Role, Secret, SecretAccess,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Entry, Service, Source};

const FIELD: &str = "spec.trafficPolicy.tls.credentialName";
/// What is behind the name in the key of a secret, by what is needed of it.
const SIMPLE: &str = "/simple";
const MUTUAL: &str = "/mutual";

/// Why a secret is of no use.
enum Lack {
    /// The proxy is not given it, whether it is there or not.
    Withheld,
    Missing,
    /// What it has, and what it lacks.
    Keys(String, &'static str),
}

impl Context<'_> {
    /// None: it cannot be done here.
    pub(super) fn origination(
        &mut self,
        tls: &ClientTls,
        service: &Service,
        rule: &Entry<DestinationRule>,
    ) -> Option<Origination> {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let unverified = tls.insecure_skip_verify == Some(true);
        let mutual = tls.mode == Some(ClientTlsMode::Mutual);
        let (authorities, certificate) = match set(&tls.credential_name) {
            Some(name) => {
                let key = self.credential_of(&name, mutual, unverified, service, rule)?;
                let authorities = (!unverified).then(|| AuthoritySource::Secret(Arc::clone(&key)));
                (authorities, mutual.then_some(CertificateSource::Secret(key)))
            }
            None => {
                let revoked = set(&tls.ca_crl);
                let path = set(&tls.ca_certificates).filter(|path| path != "system" && !unverified);
                let authorities = path.map(|certificates| AuthoritySource::Files { certificates, revoked });
                let certificate = if mutual {
                    let (certificate, private_key) = (set(&tls.client_certificate)?, set(&tls.private_key)?);
                    Some(CertificateSource::Files { certificate, private_key })
                } else {
                    None
                };
                (authorities, certificate)
            }
        };
        let (sni, names) = (set(&tls.sni).map(Into::into), names(tls, service));
        Some(Origination { sni, authorities, names, unverified, certificate })
    }

    /// The key of the secret, whether it is there or not: it may come. None: it must not be used.
    fn credential_of(
        &mut self,
        name: &str,
        mutual: bool,
        unverified: bool,
        service: &Service,
        rule: &Entry<DestinationRule>,
    ) -> Option<Key> {
        let closed = format!("requests to `{}` are answered 503", service.host);
        if self.proxy.role == Role::Sidecar && rule.spec.workload_selector.is_none() {
            // Every sidecar that sees the rule would need the secret, so Istio gives it to none, and speaks clear text instead.
            let message = format!(
                "without a `workloadSelector` of the rule, `credentialName` is for gateways only, and ignored by Istio \
                 at sidecars; there {closed}, for clear text is not what was asked for"
            );
            let help = "select the workloads with `workloadSelector`, or name files of the pod: `caCertificates`, \
                        `clientCertificate` and `privateKey`";
            self.findings.report(diag::DESTINATION_NOT_BUILT, rule, FIELD, message, Some(help.to_owned()));
            return None;
        }
        let (own, pods) = (&self.proxy.namespace, pods(self.proxy));
        let (namespace, name) = secret_place(name, own);
        if namespace != own {
            let message =
                format!("the secret is in namespace `{namespace}`; only `{own}` (of the {pods}) is allowed; {closed}");
            self.findings.report(diag::SECRET_FORBIDDEN, rule, FIELD, message, None);
            return None;
        }
        let key: Key = format!("{namespace}/{name}{}", if mutual { MUTUAL } else { SIMPLE }).into();
        match self.upstream_secret(&key) {
            // Nothing of it is needed.
            Err(_) if unverified && !mutual => {}
            Err(Lack::Withheld) => self.withheld(rule, &closed),
            Err(Lack::Missing) => {
                let message = format!("secret `{namespace}/{name}` does not exist; {closed}");
                let help = format!("create it in namespace `{namespace}`, that of the {pods}");
                self.findings.report(diag::SECRET_MISSING, rule, FIELD, message, Some(help));
            }
            Err(Lack::Keys(has, lacks)) => {
                // What else is in a secret is for those of its namespace.
                let has = if **rule.namespace() == *namespace { format!("{has}, but not") } else { "no".to_owned() };
                let message = format!("secret `{namespace}/{name}` has {has} {lacks}; {closed}");
                self.findings.report(diag::SECRET_WITHOUT_KEYS, rule, FIELD, message, None);
            }
            Ok(secret) if secret.authorities_pem.is_empty() && !unverified => {
                let message = format!("secret `{namespace}/{name}` has no `ca.crt` or `cacert`; {closed}");
                let help = format!("add it, or make the secret `{name}-cacert`");
                self.findings.report(diag::SECRET_WITHOUT_KEYS, rule, FIELD, message, Some(help));
            }
            Ok(_) => {}
        }
        Some(key)
    }

    /// The workload's account has no right to the secret, as far as is known. Nothing is said of the secret itself.
    fn withheld(&mut self, rule: &Entry<DestinationRule>, closed: &str) {
        let ProxyInfo { namespace, service_account: account, .. } = self.proxy;
        let (message, help) = match self.proxy.secrets {
            // It will be known in a moment.
            SecretAccess::Allowed | SecretAccess::Pending | SecretAccess::Unread => return,
            SecretAccess::Denied => (
                format!(
                    "the service account `{account}` may not list the secrets of namespace `{namespace}`, so its sidecars are not given that of `credentialName`; {closed}"
                ),
                format!(
                    "bind `{account}` to a Role of namespace `{namespace}` with `resources: [secrets]`, `verbs: [get, list, watch]`"
                ),
            ),
            SecretAccess::Unknown => (
                format!(
                    "it cannot be found out whether the service account `{account}` may list the secrets of namespace `{namespace}`, so its sidecars are not given that of `credentialName`; {closed}"
                ),
                "the log of the controller says why (LocalSubjectAccessReview)".to_owned(),
            ),
        };
        self.findings.report(diag::SECRET_FORBIDDEN, rule, FIELD, message, Some(help));
    }

    /// The secret that a destination's TLS is made of; the second is none if there is no such.
    pub(super) fn secret_of(&mut self, destination: &Destination) -> Option<(Key, Option<Secret>)> {
        let key = destination.tls.secret()?;
        Some((Arc::clone(key), self.upstream_secret(key).ok()))
    }

    /// What is needed of the secret of this key: its CA, which may be in one of its own, and for `MUTUAL` a certificate.
    fn upstream_secret(&mut self, key: &Key) -> Result<Secret, Lack> {
        match self.proxy.secrets {
            SecretAccess::Allowed => {}
            SecretAccess::Unread => return Err(Lack::Missing),
            SecretAccess::Denied | SecretAccess::Pending | SecretAccess::Unknown => return Err(Lack::Withheld),
        }
        let (place, mutual) = match key.strip_suffix(MUTUAL) {
            Some(place) => (place, true),
            None => (key.strip_suffix(SIMPLE).unwrap_or(key), false),
        };
        let (namespace, name) = place.split_once('/').unwrap_or_default();
        let authority = format!("{name}-cacert");
        for name in [name, &authority] {
            self.reads.note(Cell::Object(ObjectRef::new("Secret", namespace, name)));
        }
        let (own, apart) = (self.world.secret(namespace, name), self.world.secret(namespace, &authority));
        let first = own.or(apart).ok_or(Lack::Missing)?;
        let mut secret = Secret::new(Arc::clone(key), first.reference.clone());
        if let Some((authorities, revoked)) = apart.into_iter().chain(own).find_map(|entry| authorities_of(entry)) {
            (secret.authorities_pem, secret.revoked_pem) = (authorities, revoked);
        }
        if mutual {
            let own = own.ok_or(Lack::Missing)?;
            let pair = pair_of(own)
                .ok_or_else(|| Lack::Keys(keys_of(own), "`tls.crt` and `tls.key` (or `cert` and `key`)"))?;
            (secret.certificate_pem, secret.private_key_pem) = pair;
        } else if secret.authorities_pem.is_empty() {
            return Err(Lack::Keys(keys_of(first), "CA certificates (`ca.crt` or `cacert`)"));
        }
        Ok(secret)
    }
}

/// Whose namespace the secret must be in.
fn pods(proxy: &ProxyInfo) -> &'static str {
    match proxy.role {
        Role::Edge => "gateway's pods",
        Role::Sidecar => "workload",
    }
}

/// The rule's, else those of the ServiceEntries that the service is made of.
fn names(tls: &ClientTls, service: &Service) -> Vec<String> {
    if !tls.subject_alt_names.is_empty() {
        return tls.subject_alt_names.clone();
    }
    let entries = service.sources.iter().filter_map(|source| match source {
        Source::Entry(entry) => Some(&entry.spec.subject_alt_names),
        Source::Kubernetes(_) => None,
    });
    entries.flatten().cloned().collect()
}

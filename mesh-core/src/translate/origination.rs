//! TLS with servers outside of the mesh (`SIMPLE` and `MUTUAL` of DestinationRules): whose certificates are believed, and what is
//! shown. What is asked for and cannot be had is never replaced by clear text.

use super::Context;
use crate::api::{ClientTls, ClientTlsMode, DestinationRule};
use crate::diag;
use crate::model::{AuthorityFiles, CertificateSource, Origination};
use crate::world::{Entry, Service, Source};

impl Context<'_> {
    /// None: it cannot be done here.
    pub(super) fn origination(
        &mut self,
        tls: &ClientTls,
        service: &Service,
        rule: &Entry<DestinationRule>,
    ) -> Option<Origination> {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if set(&tls.credential_name).is_some() {
            let message = format!(
                "`credentialName` is not built yet; requests to `{}` are answered 503, not sent in clear",
                service.host
            );
            let help = "name files of the proxy: `caCertificates`, `clientCertificate` and `privateKey`".to_owned();
            let field = "spec.trafficPolicy.tls";
            self.findings.report(diag::DESTINATION_NOT_BUILT, rule, field, message, Some(help));
            return None;
        }
        let unverified = tls.insecure_skip_verify == Some(true);
        let authorities = set(&tls.ca_certificates).filter(|path| path != "system" && !unverified);
        let certificate = if tls.mode == Some(ClientTlsMode::Mutual) {
            let (certificate, private_key) = (set(&tls.client_certificate)?, set(&tls.private_key)?);
            Some(CertificateSource::Files { certificate, private_key })
        } else {
            None
        };
        Some(Origination {
            sni: set(&tls.sni).map(Into::into),
            authorities: authorities.map(|certificates| AuthorityFiles { certificates, revoked: set(&tls.ca_crl) }),
            names: names(tls, service),
            unverified,
            certificate,
        })
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

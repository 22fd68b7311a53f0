//! Settings of the whole mesh: the ConfigMap `istio`, with Istio's defaults for what it leaves out.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Objects};
use crate::api::kube::ConfigMap;
use crate::api::{AccessLogEncoding, ForwardClientCertDetails, MeshConfig, NormalizationType, Topology};
use crate::diag::Diagnostic;
use crate::model::{AccessLog, ForwardedCertificates, PathNormalization, ProxySettings};

/// Namespaces in which the ConfigMap is looked for, in this order; else any.
const NAMESPACES: [&str; 2] = ["istio-system", "meshgate-system"];

#[derive(Clone, Debug)]
pub struct Mesh {
    pub config: MeshConfig,
    pub root_namespace: String,
    pub trust_domain: String,
    pub connect_timeout: Duration,
    pub path_normalization: PathNormalization,
}

impl Default for Mesh {
    fn default() -> Self {
        Mesh::new(MeshConfig::default())
    }
}

impl Mesh {
    pub fn new(config: MeshConfig) -> Mesh {
        let text = |value: &Option<String>, default: &str| {
            value.as_deref().filter(|value| !value.is_empty()).unwrap_or(default).to_owned()
        };
        Mesh {
            root_namespace: text(&config.root_namespace, "istio-system"),
            trust_domain: text(&config.trust_domain, "cluster.local"),
            connect_timeout: config.connect_timeout.map_or(Duration::from_secs(10), |duration| duration.get()),
            path_normalization: normalization(&config),
            config,
        }
    }

    /// What proxies follow whatever they serve.
    pub fn proxy_settings(&self) -> ProxySettings {
        let file = self.config.access_log_file.clone().filter(|file| !file.is_empty());
        let topology = self.config.default_config.as_ref().and_then(|config| config.gateway_topology.as_ref());
        ProxySettings {
            access_log: file.map(|file| AccessLog {
                file,
                json: self.config.access_log_encoding == Some(AccessLogEncoding::Json),
                format: self.config.access_log_format.clone().filter(|format| !format.is_empty()),
            }),
            trusted_proxies: topology.and_then(|topology| topology.num_trusted_proxies).unwrap_or(0),
            client_certificates: forwarded(topology.and_then(|topology| topology.forward_client_cert_details)),
            proxy_protocol: topology.is_some_and(|topology| topology.proxy_protocol.is_some()),
            trust_domains: self.trust_domains(),
        }
    }

    /// The mesh's own first, each once.
    fn trust_domains(&self) -> Vec<Arc<str>> {
        let mut domains: Vec<Arc<str>> = vec![self.trust_domain.as_str().into()];
        for alias in self.config.trust_domain_aliases.iter().filter(|alias| !alias.is_empty()) {
            if domains.iter().all(|known| **known != **alias) {
                domains.push(alias.as_str().into());
            }
        }
        domains
    }

    /// The one that counts.
    pub(super) fn config_map(objects: &Objects) -> Option<&Arc<Entry<ConfigMap>>> {
        let named = || objects.config_maps.iter().filter(|((_, name), _)| &**name == "istio");
        let preferred = NAMESPACES.iter().find_map(|namespace| named().find(|((at, _), _)| **at == **namespace));
        preferred.or_else(|| named().next()).map(|(_, map)| map)
    }

    pub(super) fn read(objects: &Objects, diagnostics: &mut Vec<Diagnostic>) -> Mesh {
        let Some(map) = Mesh::config_map(objects) else { return Mesh::default() };
        let Some(text) = map.spec.data.get("mesh") else { return Mesh::default() };
        let place = map.position("data.mesh");
        let (config, found) = MeshConfig::read(text, place.as_ref());
        diagnostics.extend(found.into_iter().map(|diagnostic| diagnostic.object(&map.reference)));
        Mesh::new(config)
    }
}

fn normalization(config: &MeshConfig) -> PathNormalization {
    match config.path_normalization.and_then(|path| path.normalization).unwrap_or_default() {
        NormalizationType::Default | NormalizationType::Base => PathNormalization::Base,
        NormalizationType::None => PathNormalization::None,
        NormalizationType::MergeSlashes => PathNormalization::MergeSlashes,
        NormalizationType::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
    }
}
/// What a gateway says of what stands in front of it, on top of what the mesh does.
pub fn with_topology(settings: &ProxySettings, own: &Topology) -> ProxySettings {
    let details = own.forward_client_cert_details.filter(|details| *details != ForwardClientCertDetails::Undefined);
    ProxySettings {
        trusted_proxies: own.num_trusted_proxies.unwrap_or(settings.trusted_proxies),
        client_certificates: details.map_or(settings.client_certificates, |details| forwarded(Some(details))),
        proxy_protocol: own.proxy_protocol.is_some() || settings.proxy_protocol,
        ..settings.clone()
    }
}

/// Without a word of it, as Istio has it at gateways.
fn forwarded(details: Option<ForwardClientCertDetails>) -> ForwardedCertificates {
    match details.unwrap_or_default() {
        ForwardClientCertDetails::Undefined | ForwardClientCertDetails::SanitizeSet => ForwardedCertificates::Set,
        ForwardClientCertDetails::Sanitize => ForwardedCertificates::Remove,
        ForwardClientCertDetails::ForwardOnly => ForwardedCertificates::Forward,
        ForwardClientCertDetails::AppendForward => ForwardedCertificates::Append,
        ForwardClientCertDetails::AlwaysForwardOnly => ForwardedCertificates::ForwardAlways,
    }
}

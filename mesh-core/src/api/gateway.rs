//! `Gateway` (networking.istio.io): which ports an edge proxy listens on, and for which hosts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Protocol, scope};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Labels of the gateway pods; empty: every gateway.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "scope::list")]
    pub servers: Vec<Server>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Place in the user's list, which stays when an invalid server before it was dropped: `spec.servers[index]`.
    #[serde(default, rename = "$index")]
    pub index: usize,
    pub bind: Option<String>,
    pub default_endpoint: Option<String>,
    #[serde(default)]
    pub hosts: Vec<String>,
    pub name: Option<String>,
    pub port: Port,
    pub tls: Option<ServerTls>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub number: u32,
    pub protocol: Protocol,
    /// Refused by Istio in a Gateway.
    pub target_port: Option<u32>,
}

/// `ServerTLSSettings`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    pub ca_cert_credential_name: Option<String>,
    pub ca_certificates: Option<String>,
    pub ca_crl: Option<String>,
    #[serde(default)]
    pub cipher_suites: Vec<String>,
    pub credential_name: Option<String>,
    #[serde(default)]
    pub credential_names: Vec<String>,
    #[serde(default)]
    pub ecdh_curves: Vec<String>,
    pub https_redirect: Option<bool>,
    pub insecure_skip_verify: Option<bool>,
    pub max_protocol_version: Option<TlsProtocol>,
    pub min_protocol_version: Option<TlsProtocol>,
    /// Absent is `PASSTHROUGH`, the enum's zero value, if the server's protocol is TLS or HTTPS.
    pub mode: Option<ServerTlsMode>,
    pub private_key: Option<String>,
    pub server_certificate: Option<String>,
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
    #[serde(default)]
    pub tls_certificates: Vec<TlsCertificate>,
    #[serde(default)]
    pub verify_certificate_hash: Vec<String>,
    #[serde(default)]
    pub verify_certificate_spki: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsCertificate {
    pub ca_certificates: Option<String>,
    pub private_key: Option<String>,
    pub server_certificate: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum ServerTlsMode {
    #[default]
    #[serde(rename = "PASSTHROUGH")]
    Passthrough,
    #[serde(rename = "SIMPLE")]
    Simple,
    #[serde(rename = "MUTUAL")]
    Mutual,
    #[serde(rename = "AUTO_PASSTHROUGH")]
    AutoPassthrough,
    #[serde(rename = "ISTIO_MUTUAL")]
    IstioMutual,
    #[serde(rename = "OPTIONAL_MUTUAL")]
    OptionalMutual,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum TlsProtocol {
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    #[serde(rename = "TLSV1_0")]
    V1_0,
    #[serde(rename = "TLSV1_1")]
    V1_1,
    #[serde(rename = "TLSV1_2")]
    V1_2,
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

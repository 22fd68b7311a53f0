//! `Gateway` (networking.istio.io): which ports an edge proxy listens on, and for which hosts.

use std::collections::BTreeMap;

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;
use super::{Protocol, scope};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Labels of the gateway pods; empty: every gateway.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Ports to listen on, and the hosts behind each.
    #[serde(default, deserialize_with = "scope::list")]
    pub servers: Vec<Server>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Place in the user's list, which stays when an invalid server before it was dropped: `spec.servers[index]`.
    #[serde(default, rename = "$index")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub index: usize,
    /// Address to listen on; absent: all addresses.
    pub bind: Option<String>,
    /// Loopback address of the workload. Not used by gateways.
    pub default_endpoint: Option<String>,
    /// Hosts served on the port: `*`, `*.example.com`, `a.example.com`, each also as `namespace/host`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub hosts: Vec<String>,
    /// Name of the server, unique in all servers.
    pub name: Option<String>,
    /// Port to listen on.
    pub port: Port,
    /// TLS settings of the port.
    pub tls: Option<ServerTls>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Label of the port.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub name: String,
    /// Port number, as clients of the Service see it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub number: u32,
    /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP or TLS, in any case.
    pub protocol: Protocol,
    /// Refused by Istio in a Gateway.
    pub target_port: Option<u32>,
}

/// `ServerTLSSettings`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::CREDENTIALS))))]
pub struct ServerTls {
    /// Secret or ConfigMap with the CA certificates that client certificates are verified with.
    pub ca_cert_credential_name: Option<String>,
    /// File with the CA certificates that client certificates are verified with.
    pub ca_certificates: Option<String>,
    /// File with the certificates that are revoked.
    pub ca_crl: Option<String>,
    /// Cipher suites of TLS 1.2 to offer; absent: the safe ones.
    #[serde(default)]
    pub cipher_suites: Vec<String>,
    /// Secret in the namespace of the gateway pods with certificate and key (`tls.crt`, `tls.key`; `ca.crt` for MUTUAL).
    pub credential_name: Option<String>,
    /// Several secrets, for certificates of different key types.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 2)))]
    pub credential_names: Vec<String>,
    /// Key exchange groups to offer; absent: the safe ones.
    #[serde(default)]
    pub ecdh_curves: Vec<String>,
    /// Answer HTTP requests with a redirect to HTTPS.
    pub https_redirect: Option<bool>,
    /// Accept client certificates that do not verify.
    pub insecure_skip_verify: Option<bool>,
    /// Newest version of TLS.
    pub max_protocol_version: Option<TlsProtocol>,
    /// Oldest version of TLS; absent: 1.2.
    pub min_protocol_version: Option<TlsProtocol>,
    /// Absent is `PASSTHROUGH`, the enum's zero value, if the server's protocol is TLS or HTTPS.
    pub mode: Option<ServerTlsMode>,
    /// File with the private key.
    pub private_key: Option<String>,
    /// File with the certificate chain.
    pub server_certificate: Option<String>,
    /// Names of which a client certificate must have one.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
    /// Several certificates as files.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 2)))]
    pub tls_certificates: Vec<TlsCertificate>,
    /// SHA-256 of the client certificates that are accepted, in hexadecimal.
    #[serde(default)]
    pub verify_certificate_hash: Vec<String>,
    /// SHA-256 of the public keys of the client certificates that are accepted, in base64.
    #[serde(default)]
    pub verify_certificate_spki: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TlsCertificate {
    /// File with the CA certificates.
    pub ca_certificates: Option<String>,
    /// File with the private key.
    pub private_key: Option<String>,
    /// File with the certificate chain.
    pub server_certificate: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

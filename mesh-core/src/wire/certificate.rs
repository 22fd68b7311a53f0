//! How a workload asks the CA for its certificate: the messages of Istio's certificate service, with Istio's field numbers.

/// The gRPC method, unary.
pub const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `IstioCertificateRequest`. Its metadata (which signer, which cluster) mean nothing here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateRequest {
    /// PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Seconds.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
}

/// `IstioCertificateResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateResponse {
    /// PEM, the leaf first.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

//! Certificates for tests: one self-signed certificate per set of names, made once per process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::Context;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Clone, Debug)]
pub struct Certificate {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// `names`: DNS names or addresses, comma-separated; wildcards are allowed.
pub fn certificate(names: &str) -> anyhow::Result<Certificate> {
    static MADE: OnceLock<Mutex<HashMap<String, Certificate>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().ok().context("a maker of certificates panicked")?;
    if let Some(certificate) = made.get(names) {
        return Ok(certificate.clone());
    }
    let list: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(list.clone())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, list.first().map_or("test", String::as_str));
    let certificate = Certificate { certificate_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() };
    made.insert(names.to_owned(), certificate.clone());
    Ok(certificate)
}

/// A server with such a certificate that speaks HTTP.
pub fn server(names: &str) -> anyhow::Result<Arc<ServerConfig>> {
    let Certificate { certificate_pem, key_pem } = certificate(names)?;
    let chain = vec![CertificateDer::from_pem_slice(certificate_pem.as_bytes())?];
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?)?;
    config.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

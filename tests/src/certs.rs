//! Certificates for tests: one self-signed certificate per set of names, made once per process.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use anyhow::Context;

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

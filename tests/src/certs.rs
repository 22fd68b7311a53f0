//! Certificates for tests: one self-signed certificate per set of names, and clients and servers of CAs, made once per process.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

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
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(list.clone())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, list.first().map_or("test", String::as_str));
    let certificate = Certificate { certificate_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() };
    made.insert(names.to_owned(), certificate.clone());
    Ok(certificate)
}

/// Path of a file with such a certificate.
pub fn file(names: &str) -> anyhow::Result<String> {
    written(names, &certificate(names)?.certificate_pem)
}

/// Path of a file, for this process.
pub fn written(name: &str, text: &str) -> anyhow::Result<String> {
    let folder = std::env::temp_dir().join(format!("meshgate-certificates-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}.pem", name.replace('/', "_")));
    // Others may be reading it.
    if !std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
        let beside = tempfile::NamedTempFile::new_in(&folder)?;
        std::fs::write(beside.path(), text)?;
        std::fs::set_permissions(beside.path(), std::fs::Permissions::from_mode(0o644))?;
        beside.persist(&path)?;
    }
    Ok(path.display().to_string())
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

/// A server with a certificate of a CA, `CA/NAME,NAME`, whose clients must show one of that other CA.
pub fn server_of(certificate: &str, clients: Option<&str>) -> anyhow::Result<Arc<ServerConfig>> {
    let Certificate { certificate_pem, key_pem } = client(certificate)?;
    let chain = vec![CertificateDer::from_pem_slice(certificate_pem.as_bytes())?];
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(name) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority(name)?.as_bytes())?)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?)?;
    config.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

/// A CA, and the clients whose certificates it signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    clients: HashMap<String, Client>,
}

#[derive(Clone)]
struct Client {
    certificate: Certificate,
    der: CertificateDer<'static>,
    /// SubjectPublicKeyInfo.
    public_key: Vec<u8>,
    serial: u64,
}

type Authorities = HashMap<String, Authority>;

fn authorities() -> anyhow::Result<MutexGuard<'static, Authorities>> {
    static MADE: OnceLock<Mutex<Authorities>> = OnceLock::new();
    MADE.get_or_init(Mutex::default).lock().ok().context("a maker of certificates panicked")
}

fn authority_of<'a>(made: &'a mut Authorities, name: &str) -> anyhow::Result<&'a mut Authority> {
    if !made.contains_key(name) {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        let authority = Authority { pem, issuer: Issuer::new(params, key), clients: HashMap::new() };
        made.insert(name.to_owned(), authority);
    }
    made.get_mut(name).context("no CA")
}

/// `CA/NAME,NAME`
fn with_client<T>(client: &str, then: impl FnOnce(&Authority, &Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (authority, names) = client.split_once('/').with_context(|| format!("`{client}` is not CA/NAME"))?;
    let mut made = authorities()?;
    let serial = made.values().map(|authority| authority.clients.len() as u64).sum::<u64>() + 1;
    let authority = authority_of(&mut made, authority)?;
    if !authority.clients.contains_key(names) {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "client");
        params.serial_number = Some(serial.into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        for name in names.split(',') {
            let text = Ia5String::try_from(name)?;
            params.subject_alt_names.push(match name.contains("://") {
                true => SanType::URI(text),
                false => SanType::DnsName(text),
            });
        }
        let certificate = params.signed_by(&key, &authority.issuer)?;
        let client = Client {
            der: certificate.der().clone(),
            certificate: Certificate { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() },
            public_key: rcgen::PublicKeyData::subject_public_key_info(&key),
            serial,
        };
        authority.clients.insert(names.to_owned(), client);
    }
    let made = authority.clients.get(names).cloned().context("no client")?;
    then(authority, &made)
}

/// Certificate of a CA, PEM.
pub fn authority(name: &str) -> anyhow::Result<String> {
    let mut made = authorities()?;
    Ok(authority_of(&mut made, name)?.pem.clone())
}

/// A client of a CA: `CA/NAME,NAME`, URIs or DNS names.
pub fn client(client: &str) -> anyhow::Result<Certificate> {
    with_client(client, |_, client| Ok(client.certificate.clone()))
}

/// The CA's revocation list, PEM, which has this client.
pub fn revoked(client: &str) -> anyhow::Result<String> {
    with_client(client, |authority, client| {
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: client.serial.into(),
                revocation_time: rcgen::date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&authority.issuer)?.pem()?)
    })
}

/// SHA-256 of a client's certificate, hexadecimal.
pub fn hash(client: &str) -> anyhow::Result<String> {
    let hash = with_client(client, |_, client| sha256(&client.der))?;
    Ok(hash.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}

/// SHA-256 of a client's public key, base64.
pub fn key_hash(client: &str) -> anyhow::Result<String> {
    Ok(BASE64.encode(with_client(client, |_, client| sha256(&client.public_key))?))
}

fn sha256(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().context("no suite of TLS 1.3")?;
    Ok(suite.common.hash_provider.hash(bytes).as_ref().to_vec())
}

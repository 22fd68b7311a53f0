//! The controller's own certificates: a root that it keeps in a Secret, and server certificates from it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwapOption;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Secret of the root, with Istio's keys, so that a root of one's own is plugged in as there.
pub const SECRET: &str = "meshgate-ca-secret";
const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOT_YEARS: i64 = 10;
/// Server certificates; renewed at half of it.
const SERVER: Duration = Duration::from_secs(24 * 3600);

/// Signs.
pub struct Authority {
    root_pem: String,
    key_pem: String,
}

impl Authority {
    /// Makes a new root.
    pub fn generate() -> anyhow::Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = rcgen_now();
        params.not_before = now - rcgen_duration(3600);
        params.not_after = now + rcgen_duration(ROOT_YEARS * 365 * 24 * 3600);
        let root = params.self_signed(&key)?;
        Ok(Authority { root_pem: root.pem(), key_pem: key.serialize_pem() })
    }

    /// The root of this installation: that of the Secret, which the first replica makes.
    pub async fn load(client: &Client, namespace: &str) -> anyhow::Result<Authority> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        loop {
            if let Some(secret) = api.get_opt(SECRET).await.context("cannot read the CA's secret")? {
                return Authority::read(&secret);
            }
            let authority = Authority::generate()?;
            match api.create(&PostParams::default(), &authority.secret()).await {
                Ok(_) => return Ok(authority),
                // Another replica was faster.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error).context("cannot write the CA's secret"),
            }
        }
    }

    fn read(secret: &Secret) -> anyhow::Result<Authority> {
        let text = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            let bytes = bytes.ok_or_else(|| anyhow!("secret {SECRET} has no `{key}`"))?;
            String::from_utf8(bytes.0.clone()).with_context(|| format!("`{key}` of secret {SECRET} is not PEM"))
        };
        let authority = Authority { root_pem: text(CERTIFICATE)?, key_pem: text(KEY)? };
        // To find out now rather than at the first renewal.
        authority.issue(&["check".to_owned()]).with_context(|| format!("secret {SECRET} holds no usable CA"))?;
        Ok(authority)
    }

    fn secret(&self) -> Secret {
        let data = [(CERTIFICATE, &self.root_pem), (KEY, &self.key_pem)];
        Secret {
            metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
            type_: Some("istio.io/ca-root".to_owned()),
            data: Some(data.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes()))).into()),
            ..Secret::default()
        }
    }

    /// What proxies and the API server trust.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A server's certificate for these names and addresses.
    fn issue(&self, names: &[String]) -> anyhow::Result<CertifiedKey> {
        let issuer = Issuer::from_ca_cert_pem(&self.root_pem, KeyPair::from_pem(&self.key_pem)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = rcgen_now();
        params.not_before = now - rcgen_duration(300);
        params.not_after = now + rcgen_duration(i64::try_from(SERVER.as_secs())?);
        let leaf = params.signed_by(&key, &issuer)?;
        let mut chain = vec![leaf.der().clone()];
        for certificate in CertificateDer::pem_slice_iter(self.root_pem.as_bytes()) {
            chain.push(certificate?);
        }
        let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)?;
        Ok(CertifiedKey::new(chain, signer))
    }
}

fn rcgen_now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

fn rcgen_duration(seconds: i64) -> time::Duration {
    time::Duration::seconds(seconds)
}

/// The certificate that servers of this process show; renewed while they serve.
#[derive(Debug, Default)]
pub struct ServerCertificate(ArcSwapOption<CertifiedKey>);

impl rustls::server::ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl ServerCertificate {
    /// Shows a certificate for `names`, and a new one before it ends.
    pub fn start(authority: Arc<Authority>, names: Vec<String>) -> anyhow::Result<Arc<ServerCertificate>> {
        let certificate = Arc::new(ServerCertificate::default());
        certificate.0.store(Some(Arc::new(authority.issue(&names)?)));
        let renewed = certificate.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SERVER / 2).await;
                match authority.issue(&names) {
                    Ok(issued) => renewed.0.store(Some(Arc::new(issued))),
                    Err(error) => tracing::error!("cannot renew the server certificate: {error:#}"),
                }
            }
        });
        Ok(certificate)
    }

    /// TLS for a server; `alpn` most preferred first.
    pub fn config(self: &Arc<Self>, alpn: &[&str]) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// Names under which proxies and the API server know the controller.
#[must_use]
pub fn server_names(service: &str, namespace: &str) -> Vec<String> {
    let mut names =
        vec![service.to_owned(), format!("{service}.{namespace}"), "localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend([".svc", ".svc.cluster.local"].map(|suffix| format!("{service}.{namespace}{suffix}")));
    names
}

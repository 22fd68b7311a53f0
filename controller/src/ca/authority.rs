//! The CA: where its key and its chain come from, and server certificates from it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::kube::{OURS, ROOTS};

/// Secret of the root that the controller made.
pub const SECRET: &str = "meshgate-ca-secret";
/// Secret of a CA of one's own, as in Istio: it comes first.
pub const PLUGGED_IN: &str = "cacerts";
pub(super) const CERTIFICATE: &str = "ca-cert.pem";
pub(super) const KEY: &str = "ca-key.pem";
/// Certificates between the CA's own and the root.
const CHAIN: &str = "cert-chain.pem";
/// What is trusted; without it the CA's own certificate.
pub(super) const ROOT: &str = "root-cert.pem";
/// As Istio's.
const ROOT_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(300);
/// Server certificates; renewed at half of it.
pub(super) const SERVER: Duration = Duration::from_secs(24 * 3600);

/// Signs.
#[derive(PartialEq)]
pub struct Authority {
    /// The CA's own certificate.
    certificate_pem: String,
    key_pem: String,
    /// What is sent behind a leaf, the CA's own certificate first. The root need not be sent, and is if it is the CA itself:
    /// Istio does so.
    chain: Vec<CertificateDer<'static>>,
    /// What is believed besides: a root that signs next, or did before.
    others: Vec<CertificateDer<'static>>,
    root_pem: String,
    /// Its Secret is somebody else's.
    plugged_in: bool,
}

impl Authority {
    /// Makes a new root.
    pub fn generate() -> anyhow::Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lasts(&mut params, ROOT_LIFETIME);
        let root = params.self_signed(&key)?;
        Authority::new(root.pem(), key.serialize_pem(), "", None)
    }

    /// Whether the CA can sign is found out now rather than at the first certificate.
    fn new(certificate_pem: String, key_pem: String, chain: &str, root: Option<String>) -> anyhow::Result<Authority> {
        let own = certificates(&certificate_pem).with_context(|| format!("`{CERTIFICATE}`"))?;
        let mut chain = certificates(chain).with_context(|| format!("`{CHAIN}`"))?;
        let root_pem = root.unwrap_or_else(|| certificate_pem.clone());
        let mut others = certificates(&root_pem).with_context(|| format!("`{ROOT}`"))?;
        ensure!(!others.is_empty(), "`{ROOT}` is empty");
        // Many write the CA's own certificate into the chain, too.
        chain.retain(|certificate| !own.contains(certificate));
        let chain: Vec<_> = own.into_iter().chain(chain).collect();
        others.retain(|root| !chain.contains(root));
        let authority = Authority { certificate_pem, key_pem, chain, others, root_pem, plugged_in: false };
        authority.check().context("the CA cannot be used")?;
        Ok(authority)
    }

    /// A certificate of this CA must be good for who trusts the root.
    fn check(&self) -> anyhow::Result<()> {
        const NAME: &str = "check.test";
        let issued = self.issue(&[NAME.to_owned()])?;
        let (leaf, between) = issued.cert.split_first().context("nothing was issued")?;
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.root_pem)? {
            roots.add(root).with_context(|| format!("`{ROOT}`"))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        verifier
            .verify_server_cert(leaf, between, &ServerName::try_from(NAME)?, &[], UnixTime::now())
            .with_context(|| format!("its certificates are not good for who trusts `{ROOT}`"))?;
        Ok(())
    }

    /// The CA of this installation. If there is none yet, the first replica makes it: for the start only, for later on a new one
    /// would be one that no workload believes.
    pub async fn load(client: &Client, namespace: &str) -> anyhow::Result<Authority> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        loop {
            if let Some(authority) = Authority::find(client, namespace).await? {
                return Ok(authority);
            }
            unannounced(client, namespace).await?;
            let authority = Authority::generate()?;
            match api.create(&PostParams::default(), &authority.secret()).await {
                Ok(_) => return Ok(authority),
                // Another replica was faster.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error).context("cannot write the CA's secret"),
            }
        }
    }

    /// The one that is plugged in, else that of our own Secret. None: neither Secret is there.
    pub(super) async fn find(client: &Client, namespace: &str) -> anyhow::Result<Option<Authority>> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        if let Some(secret) = api.get_opt(PLUGGED_IN).await.context("cannot read the secret of the CA")? {
            let authority = Authority::read(&secret).with_context(|| format!("secret {PLUGGED_IN}"))?;
            return Ok(Some(Authority { plugged_in: true, ..authority }));
        }
        let Some(secret) = api.get_opt(SECRET).await.context("cannot read the CA's secret")? else { return Ok(None) };
        Authority::read(&secret).with_context(|| format!("secret {SECRET}")).map(Some)
    }

    pub(super) fn read(secret: &Secret) -> anyhow::Result<Authority> {
        let optional = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            let text = bytes.map(|bytes| String::from_utf8(bytes.0.clone()));
            text.transpose().with_context(|| format!("`{key}` is not PEM"))
        };
        let needed = |key: &str| optional(key)?.ok_or_else(|| anyhow!("there is no `{key}`"));
        let chain = optional(CHAIN)?.unwrap_or_default();
        Authority::new(needed(CERTIFICATE)?, needed(KEY)?, &chain, optional(ROOT)?)
    }

    pub(super) fn secret(&self) -> Secret {
        let data = [(CERTIFICATE, &self.certificate_pem), (KEY, &self.key_pem)];
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

    pub(super) fn is_plugged_in(&self) -> bool {
        self.plugged_in
    }

    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Whether who believes only in one of them believes in something of the other one.
    pub(super) fn shares_root(&self, other: &Authority) -> bool {
        let roots = |authority: &Authority| certificates(&authority.root_pem).unwrap_or_default();
        let theirs = roots(other);
        roots(self).iter().any(|root| theirs.contains(root))
    }

    /// When the first of the roots ends, in seconds since 1970; 0: unknown.
    pub(super) fn root_expires(&self) -> i64 {
        let roots = certificates(&self.root_pem).unwrap_or_default();
        let ends = roots.iter().filter_map(|root| X509Certificate::from_der(root).ok());
        ends.map(|(_, root)| root.validity().not_after.timestamp()).min().unwrap_or_default()
    }

    pub(super) fn issuer(&self) -> anyhow::Result<Issuer<'static, KeyPair>> {
        Ok(Issuer::from_ca_cert_pem(&self.certificate_pem, KeyPair::from_pem(&self.key_pem)?)?)
    }

    /// What is sent behind a leaf.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Roots that are sent behind that, so that they are believed before anybody shows a certificate of theirs.
    pub(super) fn others(&self) -> &[CertificateDer<'static>] {
        &self.others
    }

    /// A server's certificate for these names and addresses.
    pub(super) fn issue(&self, names: &[String]) -> anyhow::Result<CertifiedKey> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        lasts(&mut params, SERVER);
        let leaf = params.signed_by(&key, &self.issuer()?)?;
        let chain = std::iter::once(leaf.der().clone()).chain(self.chain.iter().cloned());
        let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)?;
        Ok(CertifiedKey::new(chain.collect(), signer))
    }
}

/// An error: somebody signed here before, and whose key that was is gone. Workloads believe its root, and would not believe
/// another one. A replica that has the key still writes it again.
async fn unannounced(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = maps.get_opt(ROOTS).await.context("cannot see whether a root is announced")?;
    let (label, value) = OURS;
    let is_ours =
        |map: &ConfigMap| map.metadata.labels.as_ref().is_some_and(|all| all.get(label).is_some_and(|is| is == value));
    ensure!(
        !map.as_ref().is_some_and(is_ours),
        "ConfigMap {namespace}/{ROOTS} announces the root of a CA whose secret ({SECRET} or {PLUGGED_IN}) is gone: put the secret \
         back; or delete the ConfigMap, and a new root is made, which no workload believes before it starts anew"
    );
    Ok(())
}

/// From a moment ago, for clocks differ.
pub(super) fn lasts(params: &mut CertificateParams, lifetime: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + lifetime;
}

fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().context("it is not PEM")
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;

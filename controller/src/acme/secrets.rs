//! What is kept of orders is kept in Secrets: each certificate in one of its own, with how its order stands as annotations; the account
//! in the controller's namespace. A Secret that does not carry our label is somebody else's, and stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use mesh_acme::{House, Issued, Kept, Name};
use mesh_core::acme::{Authority, CHALLENGE, FAILURE, Failure, HOST, KeptFailure, OURS, Trouble, proven};
use mesh_core::certificate::Pem;
use mesh_core::model::Proof;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio::time::Instant;

use super::wanted::{showing, version};
use crate::ca::PLUGGED_IN;
use crate::status::Tally;

/// What all replicas say.
pub type Tallies = watch::Receiver<Vec<Arc<Tally>>>;

/// Secret of the accounts, one for each CA.
pub const ACCOUNT: &str = "meshgate-acme-account";
const TLS: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How long gateways may take to show something. Those that have not said so by then may be stuck: the CA looks all the same.
const PATIENCE: Duration = Duration::from_secs(20);
/// A certificate that came must not be lost because the API server is away for a moment.
const KEEPING: (u32, Duration) = (5, Duration::from_secs(1));
/// Others may write at the same time.
const ATTEMPTS: u32 = 5;

/// See the module.
pub struct Secrets {
    client: Client,
    namespace: String,
    /// Of the account, in its Secret.
    account: String,
    provider: Arc<CryptoProvider>,
    tallies: Tallies,
}

impl Secrets {
    pub fn new(
        client: Client,
        namespace: &str,
        directory: &str,
        provider: Arc<CryptoProvider>,
        tallies: Tallies,
    ) -> Secrets {
        Secrets { client, namespace: namespace.to_owned(), account: data_key(directory), provider, tallies }
    }

    fn place<'n>(&self, name: &'n Name) -> (Api<Secret>, &'n str) {
        let (namespace, secret) = name.key.split_once('/').unwrap_or_default();
        (Api::namespaced(self.client.clone(), namespace), secret)
    }

    /// Whether somebody has deleted the Secret of an order, and with it how that stands.
    pub async fn is_gone(&self, name: &Name) -> bool {
        let (api, secret) = self.place(name);
        matches!(api.get_opt(secret).await, Ok(None))
    }

    /// Changes the Secret of an order, if no other host has it. One that is not there is made, if that is wanted.
    async fn edit(&self, name: &Name, make: bool, edit: impl Fn(&mut Secret) + Send + Sync) -> Result<(), String> {
        let (api, secret) = self.place(name);
        if is_reserved(secret) {
            return Err(format!(
                "a secret called `{secret}` has another meaning: give the server another `credentialName`"
            ));
        }
        let may = |secret: &Secret| match holder(secret, name, SystemTime::now(), &self.provider) {
            Some(other) => Err(format!(
                "the secret `{}` holds the certificate of {other}, which is valid still: give the server of {} another `credentialName`, or delete the secret",
                name.key, name.host
            )),
            None => Ok(()),
        };
        write(&api, secret, &name.key, make.then(|| empty(secret)), may, edit).await
    }
}

/// Creates or replaces; what somebody else changed meanwhile is looked at again.
async fn write(
    api: &Api<Secret>,
    name: &str,
    told: &str,
    new: Option<Secret>,
    may: impl Fn(&Secret) -> Result<(), String> + Send + Sync,
    edit: impl Fn(&mut Secret) + Send + Sync,
) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let before = api.get_opt(name).await.map_err(|error| text(told, &error))?;
        let written = match (before, &new) {
            (Some(secret), _) if !is_ours(&secret) => {
                return Err(format!("the secret `{told}` is somebody else's: it lacks the label {OURS}=true"));
            }
            (Some(secret), _) => {
                may(&secret)?;
                let mut edited = secret.clone();
                edit(&mut edited);
                if edited == secret {
                    return Ok(());
                }
                api.replace(name, &PostParams::default(), &edited).await
            }
            (None, Some(new)) => {
                let mut edited = new.clone();
                edit(&mut edited);
                api.create(&PostParams::default(), &edited).await
            }
            (None, None) => return Ok(()),
        };
        match written {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => last = status.message.clone(),
            Err(error) => return Err(text(told, &error)),
        }
    }
    Err(format!("the secret `{told}` is written by others, too: {last}"))
}

fn text(secret: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("the secret `{secret}`: {}", status.message),
        other => format!("the secret `{secret}`: {other}"),
    }
}

fn is_ours(secret: &Secret) -> bool {
    secret.metadata.labels.as_ref().and_then(|labels| labels.get(OURS)).is_some_and(|value| value == "true")
}

/// Another host than the order's, whose certificate is there and valid still: who names its Secret must not take it.
fn holder(secret: &Secret, name: &Name, now: SystemTime, provider: &CryptoProvider) -> Option<String> {
    let other = secret.metadata.annotations.as_ref()?.get(HOST).filter(|other| ***other != *name.host)?;
    let is_valid = proven(&pair(secret)?, other, now, provider).is_ok();
    is_valid.then(|| other.clone())
}

/// None: there is no certificate yet.
fn pair(secret: &Secret) -> Option<Pem> {
    let bytes = |key: &str| secret.data.as_ref()?.get(key).map(|bytes| bytes.0.clone());
    let (certificate, private_key) = bytes(CERTIFICATE).zip(bytes(KEY))?;
    (!certificate.is_empty()).then_some(Pem { certificate, private_key })
}

/// What other rooms, or Istio, look for by name: who may write a Gateway must not be able to put something there.
fn is_reserved(name: &str) -> bool {
    name == PLUGGED_IN || name.starts_with("meshgate-") || name.starts_with("istio-ca-")
}

/// Without a certificate yet: the type wants both keys to be there.
fn empty(name: &str) -> Secret {
    let data = [CERTIFICATE, KEY].map(|key| (key.to_owned(), ByteString(Vec::new())));
    Secret { type_: Some(TLS.to_owned()), data: Some(data.into()), ..ours(name) }
}

fn ours(name: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(OURS.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    }
}

fn annotate(secret: &mut Secret, name: &str, value: Option<String>) {
    let annotations = secret.metadata.annotations.get_or_insert_default();
    match value {
        Some(value) => drop(annotations.insert(name.to_owned(), value)),
        None => drop(annotations.remove(name)),
    }
}

/// What may stand in the key of a Secret.
fn data_key(directory: &str) -> String {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    rest.chars().map(safe).take(200).collect::<String>() + ".json"
}

fn storage(error: String) -> Failure {
    Failure::new(Trouble::Storage, error)
}

impl House for Secrets {
    /// It goes with the end of the attempt.
    type Shown = ();

    async fn account(&self) -> Result<Option<Vec<u8>>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let told = format!("{}/{ACCOUNT}", self.namespace);
        let secret = api.get_opt(ACCOUNT).await.map_err(|error| text(&told, &error))?;
        Ok(secret.and_then(|secret| secret.data?.remove(&self.account)).map(|bytes| bytes.0))
    }

    async fn keep_account(&self, account: Vec<u8>) -> Result<(), String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let told = format!("{}/{ACCOUNT}", self.namespace);
        let edit = |secret: &mut Secret| {
            let data = secret.data.get_or_insert_with(BTreeMap::new);
            data.insert(self.account.clone(), ByteString(account.clone()));
        };
        write(&api, ACCOUNT, &told, Some(ours(ACCOUNT)), |_| Ok(()), edit).await
    }

    async fn show(&self, name: &Name, proof: Proof) -> Result<(), Failure> {
        let version = version(&proof);
        let value = serde_json::to_string(&proof).map_err(|error| storage(error.to_string()))?;
        let edit = |secret: &mut Secret| annotate(secret, CHALLENGE, Some(value.clone()));
        self.edit(name, true, edit).await.map_err(storage)?;
        let mut tallies = self.tallies.clone();
        let end = Instant::now() + PATIENCE;
        loop {
            let (showing, gateways) = {
                let all = tallies.borrow_and_update();
                showing(all.iter().flat_map(|tally| &tally.orders), &name.key, &version)
            };
            if gateways > 0 && showing >= gateways {
                tracing::info!(secret = %name.key, gateways, "all gateways show what the CA wants to see");
                return Ok(());
            }
            match tokio::time::timeout_at(end, tallies.changed()).await {
                Ok(Ok(())) => {}
                // Others lead now.
                Ok(Err(_)) => return Err(Failure::new(Trouble::Challenge, "the controller stops")),
                Err(_) if showing > 0 => {
                    tracing::warn!(secret = %name.key, showing, gateways, "some gateways do not say that they show what the CA wants to see; it looks all the same");
                    return Ok(());
                }
                Err(_) => {
                    let message = format!(
                        "none of {gateways} gateways has said within {} s that it shows what the CA wants to see; the CA was not asked to look",
                        PATIENCE.as_secs()
                    );
                    return Err(Failure::new(Trouble::Challenge, message));
                }
            }
        }
    }

    async fn kept(&self, name: &Name) -> Kept {
        let (api, secret) = self.place(name);
        let found = match api.get_opt(secret).await {
            Ok(found) => found.filter(is_ours),
            Err(error) => {
                tracing::warn!("{}", text(&name.key, &error));
                None
            }
        };
        let Some(found) = found else { return Kept::default() };
        let certificate = pair(&found).and_then(|pem| {
            let proven = proven(&pem, &name.host, SystemTime::now(), &self.provider);
            proven.inspect_err(|error| tracing::warn!(secret = %name.key, error, "a certificate is not used")).ok()
        });
        let failure = found.metadata.annotations.as_ref().and_then(|annotations| annotations.get(FAILURE));
        Kept { certificate, failure: failure.and_then(|text| serde_json::from_str(text).ok()) }
    }

    async fn prepare(&self, name: &Name) -> Result<(), Failure> {
        if name.authority == Authority::Local {
            return Ok(());
        }
        let edit = |secret: &mut Secret| annotate(secret, HOST, Some(name.host.to_string()));
        self.edit(name, true, edit).await.map_err(storage)
    }

    async fn keep(&self, name: &Name, issued: &Issued) -> Result<Option<String>, Failure> {
        let edit = |secret: &mut Secret| {
            let data = secret.data.get_or_insert_with(BTreeMap::new);
            data.insert(CERTIFICATE.to_owned(), ByteString(issued.chain_pem.clone().into_bytes()));
            data.insert(KEY.to_owned(), ByteString(issued.private_key_pem.clone().into_bytes()));
            annotate(secret, HOST, Some(name.host.to_string()));
            annotate(secret, CHALLENGE, None);
            annotate(secret, FAILURE, None);
        };
        let mut attempt = 0;
        loop {
            match self.edit(name, true, edit).await {
                Ok(()) => return Ok(None),
                Err(error) if attempt >= KEEPING.0 => return Err(storage(error)),
                Err(error) => tracing::warn!(error, "a certificate cannot be kept yet"),
            }
            attempt += 1;
            tokio::time::sleep(KEEPING.1).await;
        }
    }

    async fn keep_failure(&self, name: &Name, failure: Option<KeptFailure>) -> Result<(), String> {
        let value = failure.and_then(|failure| serde_json::to_string(&failure).ok());
        let edit = |secret: &mut Secret| {
            annotate(secret, CHALLENGE, None);
            annotate(secret, FAILURE, value.clone());
        };
        self.edit(name, false, edit).await
    }

    async fn sign(&self, name: &Name) -> Result<Issued, Failure> {
        let message = format!(
            "no CA that everybody believes vouches for {}; a certificate of one's own has to be put into a secret",
            name.host
        );
        Err(Failure::new(Trouble::Refused, message))
    }

    async fn lock(&self) -> Result<bool, String> {
        // Who leads has it.
        Ok(true)
    }

    fn unlock(&self) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_ca_has_its_place() {
        assert_eq!(data_key("https://ca.example:14000/dir?a=b"), "ca.example_14000_dir_a_b.json");
    }

    #[test]
    fn nobody_orders_a_ca_away() {
        for name in ["cacerts", "meshgate-ca-secret", ACCOUNT, "istio-ca-secret"] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("shop") && !is_reserved("acme-a.example"));
    }

    #[test]
    fn a_certificate_that_is_valid_is_not_another_hosts_to_take() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["b.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let mut secret = empty("cert");
        annotate(&mut secret, HOST, Some("b.example".to_owned()));
        let order = |host: &str| Name { key: "ns/cert".into(), host: host.into(), authority: Authority::Directory };
        // The newcomer comes first by name, which is no reason.
        let taken_from = |secret: &Secret, now| holder(secret, &order("a.example"), now, &provider);
        let now = SystemTime::now();
        assert_eq!(taken_from(&secret, now), None, "there is nothing to lose yet");
        let data = [(CERTIFICATE, certificate.pem()), (KEY, key.serialize_pem())];
        let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
        secret.data = Some(data.into());
        assert_eq!(taken_from(&secret, now).as_deref(), Some("b.example"));
        assert_eq!(holder(&secret, &order("b.example"), now, &provider), None);
        let later = now + Duration::from_secs(100 * 365 * 24 * 60 * 60);
        assert_eq!(taken_from(&secret, later), None, "it has ended");
    }

    #[test]
    fn only_the_label_makes_it_ours() {
        assert!(is_ours(&empty("a")) && !is_ours(&Secret::default()));
        let mut foreign = empty("a");
        foreign.metadata.labels = Some([(OURS.to_owned(), "false".to_owned())].into());
        assert!(!is_ours(&foreign));
    }
}

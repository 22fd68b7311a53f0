//! One order at a CA, from the account to the certificate (RFC 8555), and what the CA says of renewals (RFC 9773).

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem,
};
use mesh_core::acme::{Challenge, Failure, Trouble, Window, proven};
use mesh_core::certificate::{Certificate, Pem};
use mesh_core::model::Proof;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::house::{House, Name};
use crate::https::{ASKED, Https};
use crate::options::{Binding, Options};

/// How long the CA may take to look at a challenge, and to make a certificate.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked how far it is, if it does not say itself.
const POLL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The CA of the directory, with the house's account there.
pub struct Ca<H> {
    options: Arc<Options>,
    house: Arc<H>,
    provider: Arc<CryptoProvider>,
    account: Mutex<Known>,
}

/// What this process knows of its account.
#[derive(Default)]
struct Known {
    account: Option<Account>,
    /// What could not be kept of it yet.
    unkept: Option<Vec<u8>>,
}

/// What is kept of an account.
#[derive(serde::Serialize, serde::Deserialize)]
struct KeptAccount {
    contact: Vec<String>,
    /// Id of the external account that it is bound to.
    binding: Option<String>,
    credentials: instant_acme::AccountCredentials,
}

/// A certificate that was proven, as it came. It has no `Debug`: it holds the key.
pub struct Issued {
    pub certificate: Arc<Certificate>,
    /// Leaf first.
    pub chain_pem: String,
    pub private_key_pem: String,
}

impl<H: House> Ca<H> {
    pub fn new(options: Arc<Options>, house: Arc<H>, provider: Arc<CryptoProvider>) -> Ca<H> {
        Ca { options, house, provider, account: Mutex::default() }
    }

    /// Orders a certificate for the name. `before`: the one that it replaces.
    pub async fn order(&self, name: &Name, way: Challenge, before: Option<&Certificate>) -> Result<Issued, Failure> {
        ASKED.scope(Cell::new(None), self.order_once_more(name, way, before)).await
    }

    /// An account that the CA does not know any more is replaced, once.
    async fn order_once_more(
        &self,
        name: &Name,
        way: Challenge,
        before: Option<&Certificate>,
    ) -> Result<Issued, Failure> {
        let host = &*name.host;
        let account = self.account(None).await?;
        self.check_profile(&account)?;
        let mut order = match self.begin(&account, host, before).await {
            Err(Error::Api(problem)) if is(&problem, "accountDoesNotExist") => {
                tracing::warn!(
                    directory = self.options.directory,
                    "the CA does not know the account; a new one is made"
                );
                let account = self.account(Some(account.id())).await?;
                self.begin(&account, host, before).await.map_err(|error| self.refused(error))?
            }
            begun => begun.map_err(|error| self.refused(error))?,
        };
        let shown = self.show(&mut order, name, way).await;
        // The challenges are shown until the CA has looked at them.
        let shows = shown?;
        self.wait_until_ready(&mut order, host).await?;
        drop(shows);
        self.collect(&mut order, host).await
    }

    async fn begin(&self, account: &Account, name: &str, before: Option<&Certificate>) -> Result<Order, Error> {
        let identifiers = [Identifier::Dns(name.to_owned())];
        let new = || match &self.options.profile {
            Some(profile) => NewOrder::new(&identifiers).profile(profile),
            None => NewOrder::new(&identifiers),
        };
        if let Some(replaced) = before.and_then(identifier) {
            match account.new_order(&new().replaces(replaced)).await {
                // The CA offers no ARI, or has forgotten that certificate, or another order replaced it.
                Err(Error::Unsupported(_)) => {}
                Err(Error::Api(problem)) if is(&problem, "alreadyReplaced") || is(&problem, "malformed") => {
                    tracing::debug!(name, %problem, "the order says no more which certificate it replaces");
                }
                other => return other,
            }
        }
        account.new_order(&new()).await
    }

    /// Another kind of certificate than the one that was asked for is not what anybody wants.
    fn check_profile(&self, account: &Account) -> Result<(), Failure> {
        let Some(profile) = &self.options.profile else { return Ok(()) };
        let mut offered: Vec<&str> = account.profiles().map(|offer| offer.name).collect();
        if offered.contains(&profile.as_str()) {
            return Ok(());
        }
        offered.sort_unstable();
        let there = match offered.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", offered.join(", ")),
        };
        Err(Failure::new(Trouble::Refused, format!("the CA has no profile `{profile}`; {there}")))
    }

    /// Shows what the CA wants to see, and tells it so.
    async fn show(&self, order: &mut Order, name: &Name, way: Challenge) -> Result<Vec<H::Shown>, Failure> {
        let mut shows = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.refused(error))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let offered = |way: Challenge| authorization.challenges.iter().any(|offer| offer.r#type == kind(way));
            let Some(way) = [way, way.other()].into_iter().find(|way| offered(*way)) else {
                let message = "the CA offers neither http-01 nor tls-alpn-01 for it";
                return Err(Failure::new(Trouble::Refused, message));
            };
            let Some(mut challenge) = authorization.challenge(kind(way)) else { continue };
            let key = challenge.key_authorization();
            let proof = match way {
                Challenge::Http => Proof::File { token: challenge.token.clone(), text: key.as_str().to_owned() },
                Challenge::TlsAlpn => Proof::Handshake { digest: key.digest().as_ref().to_vec() },
            };
            shows.push(self.house.show(name, proof).await?);
            tracing::debug!(name = %name.key, challenge = way.as_str(), "the CA may look");
            challenge.set_ready().await.map_err(|error| self.refused(error))?;
        }
        Ok(shows)
    }

    async fn wait_until_ready(&self, order: &mut Order, name: &str) -> Result<(), Failure> {
        let mut poll = Poll::new();
        loop {
            match order.state().status {
                OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing => return Ok(()),
                OrderStatus::Invalid => return Err(self.why_invalid(order, name).await),
                OrderStatus::Pending => {}
            }
            if !poll.wait().await {
                let message = format!("the CA does not come to look at the challenge within {} s", PATIENCE.as_secs());
                return Err(Failure::new(Trouble::Challenge, message));
            }
            order.refresh().await.map_err(|error| self.refused(error))?;
        }
    }

    /// What the CA says of the challenge that it did not like.
    async fn why_invalid(&self, order: &mut Order, name: &str) -> Failure {
        let said = order.state().error.as_ref().map(ToString::to_string);
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                break;
            }
            let failed = authorization.challenges.iter().find(|challenge| challenge.status == ChallengeStatus::Invalid);
            if let Some(challenge) = failed
                && let Some(problem) = &challenge.error
            {
                let way = match challenge.r#type {
                    ChallengeType::Http01 => "http-01",
                    ChallengeType::TlsAlpn01 => "tls-alpn-01",
                    _ => "another challenge",
                };
                return Failure::new(Trouble::Challenge, format!("the CA tried {way} at {name}: {}", text(problem)));
            }
        }
        let said = said.unwrap_or_else(|| "the CA does not say why".to_owned());
        Failure::new(Trouble::Challenge, format!("the CA could not see that {name} is served here: {said}"))
    }

    /// Asks for the certificate with a key of its own, and proves it.
    async fn collect(&self, order: &mut Order, name: &str) -> Result<Issued, Failure> {
        let broken = |error: rcgen::Error| Failure::new(Trouble::Unproven, format!("no key and CSR: {error}"));
        // A new key each time: what was signed by an old one is of no use to who gets hold of it later.
        let key = KeyPair::generate().map_err(broken)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(broken)?;
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).map_err(broken)?;
        order.finalize_csr(csr.der()).await.map_err(|error| self.refused(error))?;
        let mut poll = Poll::new();
        let chain = loop {
            if let Some(chain) = order.certificate().await.map_err(|error| self.refused(error))? {
                break chain;
            }
            if !poll.wait().await {
                let message = format!("the CA does not make the certificate within {} s", PATIENCE.as_secs());
                return Err(Failure::new(Trouble::Unreachable, message));
            }
        };
        let private = key.serialize_pem();
        let pem = Pem { certificate: chain.clone().into(), private_key: private.clone().into() };
        let certificate = proven(&pem, name, SystemTime::now(), &self.provider)
            .map_err(|error| Failure::new(Trouble::Unproven, format!("the CA's certificate is not used: {error}")))?;
        Ok(Issued { certificate, chain_pem: chain, private_key_pem: private })
    }

    /// When the CA wants this certificate to be renewed, and when it wants to be asked that again. None: it offers no such thing.
    pub async fn window(&self, certificate: &Certificate) -> Result<Option<(Window, Duration)>, Failure> {
        let Some(identifier) = identifier(certificate) else { return Ok(None) };
        let asking = async {
            let account = self.account(None).await?;
            match account.renewal_info(&identifier).await {
                Ok((info, again)) => {
                    let (start, end) = (info.suggested_window.start, info.suggested_window.end);
                    Ok(Some((Window { start: start.into(), end: end.into() }, again)))
                }
                Err(Error::Unsupported(_)) => Ok(None),
                Err(error) => Err(self.refused(error)),
            }
        };
        ASKED.scope(Cell::new(None), asking).await
    }

    /// The account that is kept, or a new one. `gone`: the CA does not know this one. One that is known is not made again because it
    /// cannot be kept: only the keeping is tried again.
    async fn account(&self, gone: Option<&str>) -> Result<Account, Failure> {
        let mut known = self.account.lock().await;
        let account = match known.account.as_ref().filter(|account| gone != Some(account.id())) {
            Some(account) => account.clone(),
            None => {
                let kept = if gone.is_some() { None } else { self.kept().await? };
                let https = Https::new(self.options.ca.clone(), Arc::clone(&self.provider)).await;
                let https = https.map_err(|error| Failure::new(Trouble::Unreachable, error))?;
                let (account, new) = match kept {
                    Some(kept) => self.restored(kept, https).await?,
                    None => self.registered(https).await?,
                };
                known.account = Some(account.clone());
                known.unkept = new.map(|new| serde_json::to_vec_pretty(&new).map_err(|e| unkept(&e))).transpose()?;
                account
            }
        };
        if let Some(bytes) = &known.unkept {
            self.house.keep_account(bytes.clone()).await.map_err(|error| unkept(&error))?;
            known.unkept = None;
        }
        Ok(account)
    }

    /// Unless it is another's than is asked for now. What cannot be read is an error: a new one would take its place.
    async fn kept(&self) -> Result<Option<KeptAccount>, Failure> {
        let unread = |error: String| {
            Failure::new(Trouble::Storage, format!("the account at the CA that is kept cannot be read: {error}"))
        };
        let Some(bytes) = self.house.account().await.map_err(unread)? else { return Ok(None) };
        let kept = serde_json::from_slice::<KeptAccount>(&bytes);
        // What is wrong with it is not said in its words: it holds a key.
        let kept = kept.map_err(|error| {
            unread(format!("line {}: it is not what was written; who deletes it gets a new account", error.line()))
        })?;
        Ok((kept.binding.as_ref() == self.options.binding.as_ref().map(|binding| &binding.id)).then_some(kept))
    }

    /// With what is to be kept of it, if that is new.
    async fn restored(&self, kept: KeptAccount, https: Https) -> Result<(Account, Option<KeptAccount>), Failure> {
        let KeptAccount { contact, binding, credentials } = kept;
        let copy = serde_json::to_value(&credentials).and_then(serde_json::from_value);
        let account = Account::builder_with_http(Box::new(https)).from_credentials(credentials).await;
        let account = account.map_err(|error| self.refused(error))?;
        let wanted = self.options.contact();
        let mut new = None;
        if contact != wanted {
            let uris: Vec<&str> = wanted.iter().map(String::as_str).collect();
            match account.update_contacts(&uris).await {
                Ok(()) => new = copy.ok().map(|credentials| KeptAccount { contact: wanted, binding, credentials }),
                Err(error) => tracing::warn!(error = %describe(&error), "the CA does not take the new e-mail address"),
            }
        }
        Ok((account, new))
    }

    async fn registered(&self, https: Https) -> Result<(Account, Option<KeptAccount>), Failure> {
        let contact = self.options.contact();
        let uris: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &uris, terms_of_service_agreed: true, only_return_existing: false };
        let binding = match &self.options.binding {
            Some(binding) => Some(external(binding).await.map_err(|error| Failure::new(Trouble::Refused, error))?),
            None => None,
        };
        let builder = Account::builder_with_http(Box::new(https));
        let made = builder.create(&new, self.options.directory.clone(), binding.as_ref()).await;
        let (account, credentials) = made.map_err(|error| self.refused(error))?;
        tracing::info!(directory = self.options.directory, account = account.id(), "account at the CA");
        let binding = self.options.binding.as_ref().map(|binding| binding.id.clone());
        Ok((account, Some(KeptAccount { contact, binding, credentials })))
    }

    /// What an error means, in words.
    fn refused(&self, error: Error) -> Failure {
        let trouble = match &error {
            Error::Api(problem) if is(problem, "rateLimited") => Trouble::Limited,
            // It may go wrong several times in a row (RFC 8555 section 6.5), and means nothing.
            Error::Api(problem) if is(problem, "badNonce") => Trouble::Unreachable,
            Error::Api(problem) if is(problem, "serverInternal") => Trouble::Unreachable,
            Error::Api(problem) if problem.status.is_some_and(|status| status >= 500) => Trouble::Unreachable,
            Error::Api(_) | Error::KeyRejected | Error::Crypto => Trouble::Refused,
            _ => Trouble::Unreachable,
        };
        let message = match trouble {
            Trouble::Unreachable => {
                format!("the CA ({}) cannot be asked: {}", self.options.directory, describe(&error))
            }
            _ => format!("the CA says: {}", describe(&error)),
        };
        let not_before = ASKED.try_with(Cell::get).ok().flatten();
        Failure { trouble, message, not_before }
    }
}

fn unkept(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Trouble::Storage, format!("the account cannot be kept: {error}"))
}

/// Waits longer and longer.
struct Poll {
    end: Instant,
    pause: Duration,
}

impl Poll {
    fn new() -> Poll {
        Poll { end: Instant::now() + PATIENCE, pause: POLL.0 }
    }

    /// False: it took too long.
    async fn wait(&mut self) -> bool {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(POLL.1);
        Instant::now() < self.end
    }
}

fn kind(way: Challenge) -> ChallengeType {
    match way {
        Challenge::Http => ChallengeType::Http01,
        Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
    }
}

/// How the CA calls a certificate (RFC 9773 section 4.1).
fn identifier(certificate: &Certificate) -> Option<CertificateIdentifier<'static>> {
    let leaf = certificate.certified_key().cert.first()?;
    CertificateIdentifier::try_from(leaf).ok().map(CertificateIdentifier::into_owned)
}

/// Whether a problem is of this type (RFC 8555 section 6.7).
fn is(problem: &Problem, kind: &str) -> bool {
    let prefix = "urn:ietf:params:acme:error:";
    problem.r#type.as_deref().and_then(|whole| whole.strip_prefix(prefix)) == Some(kind)
}

fn text(problem: &Problem) -> String {
    problem.to_string().trim_start_matches("API error: ").to_owned()
}

fn describe(error: &Error) -> String {
    match error {
        Error::Api(problem) => text(problem),
        other => other.to_string(),
    }
}

/// The key is read each time that it is needed, and kept nowhere.
async fn external(binding: &Binding) -> Result<ExternalAccountKey, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let path = &binding.key;
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| format!("--acme-eab-key {}: {error}", path.display()))?;
    let text = text.trim().trim_end_matches('=');
    // CAs write it in either alphabet. What is wrong with it is not said: it is a secret.
    let key = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    let key = key.map_err(|_| format!("--acme-eab-key {}: it is not base64", path.display()))?;
    Ok(ExternalAccountKey::new(binding.id.clone(), &key))
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;

//! What is shown to a CA that wants to see that a name is served here: only while an order waits for that, and only for its name.
//! Handshakes and requests read it; who orders writes it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use mesh_core::model::{Challenge, Proof, Resources};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::provider::provider;
use super::server::Choice;

/// The protocol in which a CA asks for it in a handshake (RFC 8737 section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";
/// Where it asks for it over HTTP (RFC 8555 section 8.3); the token is behind that.
pub const PATH: &str = "/.well-known/acme-challenge/";

/// The challenges in force.
#[derive(Default)]
pub struct Challenges {
    shown: ArcSwap<Shown>,
    /// Who writes comes one after the other.
    writing: Mutex<()>,
}

#[derive(Clone, Default)]
struct Shown {
    /// By token.
    files: HashMap<Arc<str>, Arc<str>>,
    /// By name.
    handshakes: HashMap<Arc<str>, Arc<ServerConfig>>,
}

/// Takes the challenge back when it is dropped.
pub struct Shows {
    challenges: Arc<Challenges>,
    key: Arc<str>,
    handshake: bool,
}

impl Challenges {
    /// The file that this path is to show, if a token in force is asked for.
    #[must_use]
    pub fn file(&self, target: &str) -> Option<Arc<str>> {
        let token = target.strip_prefix(PATH)?;
        self.shown.load().files.get(token).cloned()
    }

    /// How to answer a CA that asks for this name in a handshake.
    #[must_use]
    pub fn handshake(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.shown.load().handshakes.get(name).cloned()
    }

    /// From now on the token's file is shown.
    #[must_use]
    pub fn show_file(self: &Arc<Self>, token: &str, text: &str) -> Shows {
        let key: Arc<str> = token.into();
        self.edit(|shown| drop(shown.files.insert(Arc::clone(&key), text.into())));
        Shows { challenges: Arc::clone(self), key, handshake: false }
    }

    /// From now on handshakes for the name show the digest of the key authorization (RFC 8737 section 3).
    pub fn show_handshake(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Shows, String> {
        let config = Arc::new(config(name, digest)?);
        let key: Arc<str> = name.into();
        self.edit(|shown| drop(shown.handshakes.insert(Arc::clone(&key), config)));
        Ok(Shows { challenges: Arc::clone(self), key, handshake: true })
    }

    /// From now on these are shown and no others: what somebody else orders.
    pub fn replace(&self, challenges: &Resources<Challenge>) {
        let mut shown = Shown::default();
        for challenge in challenges.values() {
            match &challenge.proof {
                Proof::File { token, text } => drop(shown.files.insert(token.as_str().into(), text.as_str().into())),
                Proof::Handshake { digest } => match config(&challenge.host, digest) {
                    Ok(config) => drop(shown.handshakes.insert(Arc::clone(&challenge.host), Arc::new(config))),
                    Err(error) => tracing::warn!(host = %challenge.host, error, "a challenge cannot be shown"),
                },
            }
        }
        self.edit(|before| *before = shown);
    }

    fn edit(&self, edit: impl FnOnce(&mut Shown)) {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown = Shown::clone(&self.shown.load());
        edit(&mut shown);
        self.shown.store(Arc::new(shown));
    }
}

impl Drop for Shows {
    fn drop(&mut self) {
        self.challenges.edit(|shown| {
            if self.handshake {
                shown.handshakes.remove(&self.key);
            } else {
                shown.files.remove(&self.key);
            }
        });
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown.load();
        let counts = (shown.files.len(), shown.handshakes.len());
        f.debug_struct("Challenges").field("files", &counts.0).field("handshakes", &counts.1).finish()
    }
}

/// A certificate for this name alone, signed by itself, with the digest in it, and no other protocol.
fn config(name: &str, digest: &[u8]) -> Result<ServerConfig, String> {
    let broken = |error: rcgen::Error| format!("no certificate for the challenge can be made: {error}");
    if digest.len() != 32 {
        return Err("the digest of the challenge is none".to_owned());
    }
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(broken)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(broken)?;
    let certificate = params.self_signed(&key).map_err(broken)?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let signing = provider().key_provider.load_private_key(private).map_err(|error| error.to_string())?;
    // Not to be read by rustls, which knows no such extension, and it is critical.
    let shown = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Choice(vec![shown])));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_in_force_have_a_file() {
        let challenges = Arc::new(Challenges::default());
        let shows = challenges.show_file("token", "token.thumb");
        assert_eq!(challenges.file("/.well-known/acme-challenge/token").as_deref(), Some("token.thumb"));
        for other in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/token2",
            "/token",
            "/.well-known/acme-challenge/token/x",
        ] {
            assert_eq!(challenges.file(other), None, "{other}");
        }
        drop(shows);
        assert_eq!(challenges.file("/.well-known/acme-challenge/token"), None);
    }

    #[test]
    fn what_a_controller_says_is_shown_as_long_as_it_says_so() {
        let challenges = Arc::new(Challenges::default());
        let said = |host: &str, proof: Proof| {
            let (key, origin) = (format!("ns/{host}").into(), mesh_core::object::ObjectRef::new("Secret", "ns", host));
            Arc::new(Challenge { key, host: host.into(), proof, origin })
        };
        let file = Proof::File { token: "t".to_owned(), text: "t.k".to_owned() };
        let mut all = Resources::new();
        all.insert("ns/a.example".into(), said("a.example", file));
        all.insert("ns/b.example".into(), said("b.example", Proof::Handshake { digest: vec![7; 32] }));
        all.insert("ns/c.example".into(), said("c.example", Proof::Handshake { digest: vec![7; 3] }));
        challenges.replace(&all);
        assert_eq!(challenges.file("/.well-known/acme-challenge/t").as_deref(), Some("t.k"));
        assert!(challenges.handshake("b.example").is_some());
        assert!(challenges.handshake("a.example").is_none() && challenges.handshake("c.example").is_none());
        challenges.replace(&Resources::new());
        assert!(challenges.file("/.well-known/acme-challenge/t").is_none());
        assert!(challenges.handshake("b.example").is_none());
    }

    #[test]
    fn only_names_in_force_have_a_handshake() {
        let challenges = Arc::new(Challenges::default());
        let shows = challenges.show_handshake("a.example", &[7; 32]).unwrap();
        assert!(challenges.handshake("a.example").is_some() && challenges.handshake("b.example").is_none());
        drop(shows);
        assert!(challenges.handshake("a.example").is_none());
        assert!(challenges.show_handshake("a.example", &[7; 31]).is_err(), "no digest");
    }
}

//! What one replica says of orders: what its gateways want, and which of them show a CA what it is to see. The leader adds up. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_core::acme::{self, Want, Wants};
use mesh_core::api::ACME;
use mesh_core::diag::{self, Diagnostic, Severity};
use mesh_core::model::{Key, Listener, Proof, Resources, Secret};
use mesh_core::object::ObjectRef;
use mesh_core::wire::{Kind, version_of};
use serde::{Deserialize, Serialize};

use crate::kube::ClassState;
use crate::push::ProxyStatus;

/// A certificate that gateways of a replica serve, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// `namespace/name` of its Secret.
    pub secret: Key,
    pub host: Arc<str>,
    /// The Gateway that asks for it first, and the server in it.
    pub origin: ObjectRef,
    pub field: String,
    /// They take HTTP in clear text, too.
    pub http: bool,
    /// A certificate is there.
    pub present: bool,
    /// The Secrets of that namespace are not watched.
    pub unread: bool,
    /// Gateways that are connected.
    pub gateways: usize,
    /// What a CA is to be shown, by its [`version`], and how many of them have said that they show it.
    pub challenge: Option<String>,
    pub showing: usize,
}

/// Of what a CA is to be shown.
#[must_use]
pub fn version(proof: &Proof) -> String {
    version_of(&serde_json::to_vec(proof).unwrap_or_default())
}

/// Of a class, as long as its listeners and challenges are the same.
#[derive(Default)]
struct Known {
    listeners: Resources<Listener>,
    wants: Arc<Wants>,
    /// By secret: which challenge, and the first publication that is known to hold it.
    challenges: HashMap<Key, (String, u64)>,
}

/// Remembers since when challenges have been told.
#[derive(Default)]
pub struct Watching {
    /// By number of the class.
    classes: HashMap<u64, Known>,
}

impl Watching {
    /// What happened between two calls counts as of the later: nobody is taken to show something too early.
    pub fn count(&mut self, classes: &[Arc<ClassState>], proxies: &[ProxyStatus]) -> Vec<Wanted> {
        self.classes.retain(|number, _| classes.iter().any(|state| state.class == *number));
        let mut all: BTreeMap<(Key, Arc<str>), Wanted> = BTreeMap::new();
        for state in classes {
            let known = self.classes.entry(state.class).or_default();
            known.update(state);
            let own = || proxies.iter().filter(|proxy| proxy.class == state.class);
            for (secret, want) in &known.wants.names {
                let challenge = known.challenges.get(secret);
                let shows = |proxy: &&ProxyStatus| {
                    let config = proxy.kinds.get(&Kind::Config).filter(|status| status.subscribed);
                    config.zip(challenge).is_some_and(|(status, (_, since))| {
                        // One of an older version acknowledges that it does not know it.
                        status.acknowledged >= *since && !status.refused.contains_key(&format!("challenge/{secret}"))
                    })
                };
                let entry = all.entry((Arc::clone(secret), Arc::clone(&want.host)));
                let entry = entry.or_insert_with(|| Wanted::new(secret, want, state.published.secrets_unread));
                entry.http |= want.http;
                entry.present |= state.set.secrets.get(secret).is_some_and(|secret| Secret::has_pair(secret));
                entry.gateways += own().count();
                entry.showing += own().filter(shows).count();
                entry.challenge = entry.challenge.take().or(challenge.map(|(version, _)| version.clone()));
            }
        }
        all.into_values().collect()
    }
}

impl Known {
    fn update(&mut self, state: &ClassState) {
        if !self.listeners.ptr_eq(&state.set.listeners) {
            self.listeners = state.set.listeners.clone();
            self.wants = Arc::new(acme::wants(&state.set));
        }
        self.challenges.retain(|secret, _| state.set.challenges.contains_key(secret));
        for (secret, challenge) in &state.set.challenges {
            let version = version(&challenge.proof);
            if self.challenges.get(secret).is_none_or(|(known, _)| *known != version) {
                self.challenges.insert(Arc::clone(secret), (version, state.generation));
            }
        }
    }
}

impl Wanted {
    fn new(secret: &Key, want: &Want, unread: bool) -> Wanted {
        Wanted {
            secret: Arc::clone(secret),
            host: Arc::clone(&want.host),
            origin: want.origin.clone(),
            field: want.field.clone(),
            http: false,
            present: false,
            unread,
            gateways: 0,
            challenge: None,
            showing: 0,
        }
    }
}

/// What is to be ordered, by all replicas.
#[derive(Debug, Default)]
pub struct Sum {
    pub wants: Wants,
    /// Of these the Secrets have no certificate, as far as anybody sees.
    pub absent: Vec<Key>,
    /// What is not ordered though it is wanted.
    pub findings: Vec<Diagnostic>,
}

/// Adds up. One secret holds one certificate: of two hosts for which it is named, the first has it.
pub fn sum<'w>(all: impl Iterator<Item = &'w Wanted>) -> Sum {
    let mut sum = Sum::default();
    let mut present: BTreeMap<Key, bool> = BTreeMap::new();
    let mut all: Vec<&Wanted> = all.collect();
    all.sort_by(|a, b| (&a.secret, &a.host, &a.origin).cmp(&(&b.secret, &b.host, &b.origin)));
    for wanted in all {
        if wanted.unread {
            sum.findings.push(wanted.not_ordered(format!(
                "the secrets of its namespace are not watched, so a certificate for {} cannot be kept in `{}`",
                wanted.host, wanted.secret
            )));
            continue;
        }
        let want = || Want {
            host: Arc::clone(&wanted.host),
            http: false,
            origin: wanted.origin.clone(),
            field: wanted.field.clone(),
        };
        let entry = sum.wants.names.entry(Arc::clone(&wanted.secret)).or_insert_with(want);
        if entry.host != wanted.host {
            let message = format!(
                "the secret `{}` is for the certificate of {}; there is none for {}",
                wanted.secret, entry.host, wanted.host
            );
            sum.findings.push(wanted.not_ordered(message));
            continue;
        }
        entry.http |= wanted.http;
        *present.entry(Arc::clone(&wanted.secret)).or_default() |= wanted.present;
    }
    sum.findings.sort();
    sum.findings.dedup();
    sum.absent = present.into_iter().filter(|(_, there)| !there).map(|(key, _)| key).collect();
    sum
}

impl Wanted {
    fn not_ordered(&self, message: String) -> Diagnostic {
        let help = match self.unread {
            true => "add the namespace to gateway.namespaces (`meshctl install --set gateway.namespaces=...`)",
            false => "give the other server a `credentialName` of its own",
        };
        Diagnostic::new(diag::ORDER_STORAGE, message).object(&self.origin).field(self.field.clone()).help(help)
    }
}

/// What is to be told of certificates that are wanted where nobody is asked for any.
pub fn declined<'w>(all: impl Iterator<Item = &'w Wanted>) -> Vec<Diagnostic> {
    let told = |wanted: &Wanted| {
        let (severity, until) = match wanted.present {
            true => (Severity::Warning, "the one that is there is not renewed"),
            false => (Severity::Error, "TLS connections for it are closed unless there is one"),
        };
        let message = format!(
            "no certificate for {} is ordered, for the controller was not told to order any; {until}",
            wanted.host
        );
        let help = "`meshctl install --set acme.email=ADDRESS` (--acme-email or --acme-directory of the controller)";
        let field = format!("metadata.annotations.{ACME}");
        let mut told = Diagnostic::new(diag::CERTIFICATE_ORDER, message).object(&wanted.origin).field(field).help(help);
        told.severity = severity;
        told
    };
    // Replicas say the same.
    let mut by_name: BTreeMap<(&Key, &Arc<str>), Wanted> = BTreeMap::new();
    for wanted in all {
        let known = by_name.entry((&wanted.secret, &wanted.host)).or_insert_with(|| wanted.clone());
        known.present |= wanted.present;
    }
    by_name.values().map(told).collect()
}

/// Of how many gateways so many show this challenge.
pub fn showing<'w>(all: impl Iterator<Item = &'w Wanted>, secret: &str, version: &str) -> (usize, usize) {
    let mine = all.filter(|wanted| &*wanted.secret == secret);
    mine.fold((0, 0), |(showing, gateways), wanted| {
        let shows = if wanted.challenge.as_deref() == Some(version) { wanted.showing } else { 0 };
        (showing + shows, gateways + wanted.gateways)
    })
}

#[cfg(test)]
#[path = "wanted_tests.rs"]
mod tests;

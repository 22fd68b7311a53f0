//! Which accounts may read the secrets of their namespace. Asked only of those whose workloads are to call somebody with what is in a
//! secret, and again and again as long as they are: a right that was taken away takes the secret away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use mesh_core::model::SecretAccess;
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::push::{Account, Authorize};

/// How long an answer counts (as with Istio).
const REMEMBERED: Duration = Duration::from_secs(60);
/// Pause after a failure: doubled each time, up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Questions at a time.
const AT_ONCE: usize = 8;
/// Answers that the keeper has not taken yet.
const WAITING: usize = 64;

/// What came of a question.
pub(super) type Answer = (Account, SecretAccess);

/// What is known, in the hands of the keeper.
pub(super) struct Rights {
    known: BTreeMap<Account, SecretAccess>,
    wanted: watch::Sender<BTreeSet<Account>>,
    answers: mpsc::Receiver<Answer>,
}

/// The other end: who asks.
pub(super) struct Questions {
    wanted: watch::Receiver<BTreeSet<Account>>,
    answers: mpsc::Sender<Answer>,
}

impl Rights {
    pub fn new() -> (Rights, Questions) {
        let (wanted, watched) = watch::channel(BTreeSet::new());
        let (send, answers) = mpsc::channel(WAITING);
        (Rights { known: BTreeMap::new(), wanted, answers }, Questions { wanted: watched, answers: send })
    }

    /// These matter, and no others: what was known of those is forgotten, for it would be old when it is needed again.
    pub fn want(&mut self, accounts: BTreeSet<Account>) {
        self.known.retain(|account, _| accounts.contains(account));
        self.wanted.send_if_modified(|wanted| {
            let different = *wanted != accounts;
            if different {
                *wanted = accounts;
            }
            different
        });
    }

    pub fn of(&self, account: &Account) -> SecretAccess {
        self.known.get(account).copied().unwrap_or(SecretAccess::Pending)
    }

    /// What came of a question. An answer counts until there is another one: who cannot be asked has said nothing new.
    pub fn take(&mut self, (account, access): Answer) {
        if !self.wanted.borrow().contains(&account) {
            return;
        }
        let known = self.known.entry(account).or_insert(access);
        if access.is_known() || !known.is_known() {
            *known = access;
        }
    }

    /// The next answer. Never, if nobody asks.
    pub async fn answer(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// Questions that were asked, by what came of them. Clones count together.
#[derive(Clone, Debug)]
pub struct Reviews(IntCounterVec);

impl Reviews {
    pub fn new() -> prometheus::Result<Reviews> {
        let help = "Questions whether a service account may read secrets, by answer.";
        let counters = IntCounterVec::new(Opts::new("meshgate_controller_secret_reviews_total", help), &["answer"])?;
        Ok(Reviews(counters))
    }

    fn count(&self, access: SecretAccess) {
        let label = match access {
            SecretAccess::Allowed => "allowed",
            SecretAccess::Denied => "denied",
            SecretAccess::Pending | SecretAccess::Unread | SecretAccess::Unknown => "failed",
        };
        self.0.with_label_values(&[label]).inc();
    }

    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.0.clone()))
    }
}

/// When an account is asked for again.
struct Due {
    at: Instant,
    /// After the next failure.
    pause: Duration,
    /// What it was last; none: nothing yet.
    last: Option<SecretAccess>,
}

impl Due {
    fn now() -> Due {
        Due { at: Instant::now(), pause: PAUSE.0, last: None }
    }

    fn note(&mut self, account: &Account, outcome: Result<bool, String>) -> SecretAccess {
        let access = match &outcome {
            Ok(true) => SecretAccess::Allowed,
            Ok(false) => SecretAccess::Denied,
            Err(_) => SecretAccess::Unknown,
        };
        let Account { namespace, name } = account;
        match &outcome {
            _ if self.last == Some(access) => {}
            Ok(true) => {
                tracing::info!(namespace, account = name, "may read secrets: its sidecars get those that rules name")
            }
            Ok(false) => tracing::warn!(namespace, account = name, "may not read secrets: its sidecars get none"),
            Err(error) => {
                tracing::warn!(
                    namespace,
                    account = name,
                    "whether it may read secrets is not known: {error}; trying again"
                );
            }
        }
        self.last = Some(access);
        let pause = if outcome.is_ok() { REMEMBERED } else { self.pause };
        self.pause = if outcome.is_ok() { PAUSE.0 } else { (self.pause * 2).min(PAUSE.1) };
        self.at = Instant::now() + pause;
        access
    }
}

impl Questions {
    /// Asks until the keeper is gone.
    pub async fn ask(mut self, authorize: Arc<dyn Authorize>, reviews: Reviews) {
        let mut all: BTreeMap<Account, Due> = BTreeMap::new();
        loop {
            {
                let wanted = self.wanted.borrow_and_update();
                all.retain(|account, _| wanted.contains(account));
                for account in wanted.iter().filter(|account| !all.contains_key(account)).cloned().collect::<Vec<_>>() {
                    all.insert(account, Due::now());
                }
            }
            let now = Instant::now();
            let due = all.iter().filter(|(_, due)| due.at <= now).map(|(account, _)| account.clone());
            let due: Vec<Account> = due.collect();
            let ask = |account: Account| {
                let authorize = Arc::clone(&authorize);
                async move {
                    let outcome = authorize.may_read_secrets(&account).await;
                    (account, outcome)
                }
            };
            let mut outcomes = std::pin::pin!(stream::iter(due).map(ask).buffer_unordered(AT_ONCE));
            while let Some((account, outcome)) = outcomes.next().await {
                let Some(due) = all.get_mut(&account) else { continue };
                let access = due.note(&account, outcome);
                reviews.count(access);
                if self.answers.send((account, access)).await.is_err() {
                    return;
                }
            }
            let next = all.values().map(|due| due.at).min();
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = until(next) => {}
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;

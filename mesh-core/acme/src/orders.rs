//! Does what is due: one task for each order that runs, and one for each question about renewals.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::acme::{Authority, Book, Failure, KeptFailure, Order, Trouble, Want, Wants, Window, lifetime};
use mesh_core::certificate::Certificate;
use mesh_core::diag::Diagnostic;
use prometheus::{IntCounterVec, Opts};
use rustls::crypto::CryptoProvider;
use tokio::task::JoinSet;

use crate::ca::{Ca, Issued};
use crate::house::{House, Kept, Name};
use crate::options::Options;
use crate::status::{OrderStatus, diagnostic, time, under_way};

/// Orders that run at a time.
const AT_ONCE: usize = 4;
/// The same of looks at what is kept.
const LOOKS: usize = 16;
/// Another process orders: it is looked again then what has come of it.
const OTHERS: Duration = Duration::from_secs(2);
/// The clock may be set, so nothing is slept for longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);
/// How often the CA is asked when to renew, whatever it says itself (RFC 9773 section 4.3.2).
const ASK: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 60 * 60));
/// The same after a failure.
const ASK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// What is counted. Whoever makes them has them registered.
#[derive(Clone, Debug)]
pub struct Counters {
    /// By who signed.
    pub issued: IntCounterVec,
    pub failures: IntCounterVec,
}

impl Counters {
    pub fn new() -> prometheus::Result<Counters> {
        let issued = Opts::new("meshgate_acme_certificates_total", "Certificates that were ordered and came, by CA.");
        let failures = Opts::new("meshgate_acme_failures_total", "Orders that came to nothing, by reason.");
        Ok(Counters {
            issued: IntCounterVec::new(issued, &["ca"])?,
            failures: IntCounterVec::new(failures, &["reason"])?,
        })
    }
}

/// What helps where this house stands.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// A CA could not see that a name is served here.
    pub challenge: &'static str,
    pub unreachable: &'static str,
    pub limited: &'static str,
    pub refused: &'static str,
    pub storage: &'static str,
    /// What becomes of connections for a name without a certificate is not all: that one is on its way is told, too.
    pub tells_beginnings: bool,
}

/// See the module.
pub struct Orders<H: House> {
    options: Arc<Options>,
    house: Arc<H>,
    ca: Arc<Ca<H>>,
    book: Book,
    wants: Arc<Wants>,
    certificates: HashMap<Arc<str>, Arc<Certificate>>,
    /// When the CA is asked about the renewal of a certificate.
    asks: HashMap<Arc<str>, SystemTime>,
    tasks: JoinSet<Done>,
    /// Orders among the tasks.
    running: usize,
    locked: bool,
    counters: Counters,
    words: Words,
}

/// What came of a task.
pub struct Done(Came);

enum Came {
    Order(Name, Result<Issued, Failure>),
    Window(Arc<str>, Arc<Certificate>, Result<Option<(Window, Duration)>, Failure>),
}

impl<H: House> Orders<H> {
    #[must_use]
    pub fn new(
        options: Arc<Options>,
        house: Arc<H>,
        provider: &Arc<CryptoProvider>,
        counters: Counters,
        words: Words,
    ) -> Orders<H> {
        let ca = Ca::new(Arc::clone(&options), Arc::clone(&house), Arc::clone(provider));
        Orders {
            options,
            house,
            ca: Arc::new(ca),
            book: Book::default(),
            wants: Arc::default(),
            certificates: HashMap::new(),
            asks: HashMap::new(),
            tasks: JoinSet::new(),
            running: 0,
            locked: false,
            counters,
            words,
        }
    }

    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// By key of the order.
    #[must_use]
    pub fn certificates(&self) -> &HashMap<Arc<str>, Arc<Certificate>> {
        &self.certificates
    }

    /// What failed is tried at once.
    pub fn hurry(&mut self) {
        self.book.hurry();
        self.asks.clear();
    }

    /// What was kept for it is not there any more, somebody says: it is looked for when it is wanted the next time.
    pub fn forget(&mut self, key: &str) {
        self.book.forget(key);
    }

    /// Those that a CA has refused, or could not see, and that are waited with.
    #[must_use]
    pub fn refused(&self) -> Vec<Name> {
        let waits = |order: &Order| {
            let is_theirs = |trouble| matches!(trouble, Trouble::Challenge | Trouble::Refused | Trouble::Unproven);
            order.authority == Authority::Directory
                && !order.under_way
                && order.failure.as_ref().is_some_and(|failure| is_theirs(failure.trouble))
        };
        self.book.iter().filter(|(_, order)| waits(order)).filter_map(|(key, _)| self.name(key)).collect()
    }

    /// As if it had never been tried.
    pub async fn anew(&mut self, key: &str) {
        self.book.forget(key);
        self.want(Arc::clone(&self.wants)).await;
    }

    /// Takes over what is wanted, and reads what is kept for it.
    pub async fn want(&mut self, wants: Arc<Wants>) {
        // What is kept for another host is no use.
        let is_other = |(key, want): &(&Arc<str>, &Want)| {
            self.wants.names.get(*key).is_some_and(|before| before.host != want.host)
        };
        wants.names.iter().filter(is_other).for_each(|(key, _)| self.book.forget(key));
        let new = self.book.want(&wants, self.options.own_directory);
        self.wants = wants;
        self.certificates.retain(|name, _| self.book.get(name).is_some());
        self.asks.retain(|name, _| self.book.get(name).is_some());
        let mut new = new.into_iter().filter_map(|key| self.name(&key)).collect::<Vec<_>>().into_iter();
        // Who begins with thousands does not wait for one after the other.
        let mut looks = JoinSet::new();
        loop {
            for name in new.by_ref().take(LOOKS - looks.len()) {
                self.certificates.remove(&name.key);
                let house = Arc::clone(&self.house);
                looks.spawn(async move {
                    let kept = house.kept(&name).await;
                    (name, kept)
                });
            }
            let Some(looked) = looks.join_next().await else { break };
            let Ok((name, kept)) = looked else { continue };
            if let Some(failed) = self.find(&name, kept) {
                self.book.restore(&name.key, failed.failure(), failed.failures, failed.again());
            }
        }
    }

    fn name(&self, key: &Arc<str>) -> Option<Name> {
        let (want, order) = (self.wants.names.get(key)?, self.book.get(key)?);
        Some(Name { key: Arc::clone(key), host: Arc::clone(&want.host), authority: order.authority })
    }

    fn can_http(&self, key: &str) -> bool {
        self.wants.names.get(key).is_some_and(|want| want.http)
    }

    /// Takes what is kept for the name, if it is another one than is known.
    async fn look(&mut self, name: &Name) -> Option<KeptFailure> {
        let kept = self.house.kept(name).await;
        self.find(name, kept)
    }

    fn find(&mut self, name: &Name, kept: Kept) -> Option<KeptFailure> {
        if let Some(found) = kept.certificate {
            let is_known = self.certificates.get(&name.key).is_some_and(|known| known.info == found.info);
            if !is_known {
                self.book.have(&name.key, lifetime(&found.info), fastrand::f64());
                self.take(&name.key, found);
            }
        }
        kept.failure
    }

    fn take(&mut self, key: &Arc<str>, certificate: Arc<Certificate>) {
        self.asks.remove(key);
        self.certificates.insert(Arc::clone(key), certificate);
    }

    /// So that they are served from the beginning.
    pub async fn sign_private_names(&mut self) {
        let due: Vec<Name> = self.book.due(SystemTime::now()).into_iter().filter_map(|key| self.name(&key)).collect();
        let due: Vec<Name> = due.into_iter().filter(|name| name.authority == Authority::Local).collect();
        if due.is_empty() || !self.take_lock(&due).await {
            return;
        }
        for name in due {
            let done = self.house.sign(&name).await;
            self.book.begin(&name.key);
            self.settle(&name, done).await;
        }
        self.give_back_lock();
    }

    fn give_back_lock(&mut self) {
        if std::mem::take(&mut self.locked) {
            self.house.unlock();
        }
    }

    /// Begins what is due now.
    pub async fn begin(&mut self) {
        self.begin_orders().await;
        self.ask_about_renewals();
    }

    async fn begin_orders(&mut self) {
        let due: Vec<Name> = self.book.due(SystemTime::now()).into_iter().filter_map(|key| self.name(&key)).collect();
        if due.is_empty() || self.running >= AT_ONCE {
            if self.running == 0 {
                self.give_back_lock();
            }
            return;
        }
        if !self.take_lock(&due).await {
            return;
        }
        for name in due.into_iter().take(AT_ONCE - self.running) {
            // Another process may have been quicker.
            self.look(&name).await;
            if self.book.next(&name.key, SystemTime::now()).is_none_or(|next| next > SystemTime::now()) {
                continue;
            }
            self.begin_one(name);
        }
    }

    fn begin_one(&mut self, name: Name) {
        let Some(order) = self.book.get(&name.key) else { return };
        let way = order.challenge;
        let before = self.certificates.get(&name.key).cloned();
        let renews = before.is_some();
        let shown = if name.authority == Authority::Local { "none" } else { way.as_str() };
        tracing::info!(name = %name.key, challenge = shown, renews, "a certificate is ordered");
        self.book.begin(&name.key);
        self.running += 1;
        let (ca, house) = (Arc::clone(&self.ca), Arc::clone(&self.house));
        self.tasks.spawn(async move {
            let done = match (house.prepare(&name).await, name.authority) {
                (Err(failure), _) => Err(failure),
                (Ok(()), Authority::Local) => house.sign(&name).await,
                (Ok(()), Authority::Directory) => ca.order(&name, way, before.as_deref()).await,
            };
            Done(Came::Order(name, done))
        });
    }

    /// True: nobody else orders for as long as it is held.
    async fn take_lock(&mut self, due: &[Name]) -> bool {
        if self.locked {
            return true;
        }
        let now = SystemTime::now();
        match self.house.lock().await {
            Ok(locked) => self.locked = locked,
            Err(message) => {
                for name in due {
                    self.counters.failures.with_label_values(&[Trouble::Storage.as_str()]).inc();
                    let failure = Failure::new(Trouble::Storage, message.clone());
                    self.book.failed(&name.key, failure, self.can_http(&name.key), now, fastrand::f64());
                }
                return false;
            }
        }
        if !self.locked {
            for name in due {
                self.look(name).await;
                self.book.put_off(&name.key, now + OTHERS);
            }
        }
        self.locked
    }

    /// Until something is to be done: what came of a task, if one ended, which [`Orders::done`] is to be told. May be given up at any
    /// time.
    pub async fn wake(&mut self) -> Option<Done> {
        let sleep = self.sleep();
        tokio::select! {
            Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => match done {
                Ok(done) => Some(done),
                Err(error) => {
                    tracing::error!(%error, "an order ended without a word");
                    None
                }
            },
            () = tokio::time::sleep(sleep) => None,
        }
    }

    /// What [`Orders::wake`] said.
    pub async fn done(&mut self, done: Done) {
        match done.0 {
            Came::Order(name, result) => {
                self.running = self.running.saturating_sub(1);
                self.settle(&name, result).await;
                if self.wants.names.get(&name.key).is_some_and(|want| want.host != name.host) {
                    // Another host took its place meanwhile.
                    self.book.forget(&name.key);
                    self.want(Arc::clone(&self.wants)).await;
                }
            }
            Came::Window(key, certificate, result) => {
                let pause = match result {
                    Ok(Some((window, again))) => {
                        let same = |known: &Arc<Certificate>| Arc::ptr_eq(known, &certificate);
                        if self.certificates.get(&key).is_some_and(same) {
                            self.book.set_window(&key, Some(window));
                        }
                        again.clamp(ASK.0, ASK.1)
                    }
                    Ok(None) => ASK.1,
                    Err(failure) => {
                        tracing::debug!(name = %key, error = failure.message, "the CA does not say when to renew");
                        ASK_AGAIN
                    }
                };
                self.asks.insert(key, SystemTime::now() + pause);
            }
        }
    }

    /// Keeps what came of an order, and says so.
    async fn settle(&mut self, name: &Name, result: Result<Issued, Failure>) {
        let key = &name.key;
        let result = match result {
            Ok(issued) => self.house.keep(name, &issued).await.map(|unkept| (issued.certificate, unkept)),
            Err(failure) => Err(failure),
        };
        let now = SystemTime::now();
        match result {
            Ok((certificate, unkept)) => {
                self.book.issued(key, lifetime(&certificate.info), fastrand::f64());
                let ca = if name.authority == Authority::Local { "local" } else { "directory" };
                self.counters.issued.with_label_values(&[ca]).inc();
                let renewal = self.book.get(key).and_then(Order::renewal).map(time).unwrap_or_default();
                let until = time(lifetime(&certificate.info).not_after);
                tracing::info!(name = %key, issuer = certificate.info.issuer, until, renewal, "certificate");
                if let Some(error) = unkept {
                    self.counters.failures.with_label_values(&[Trouble::Storage.as_str()]).inc();
                    tracing::error!(code = "MESH0321", name = %key, error, "the certificate serves, but cannot be kept: the next process has to order it again");
                }
                if self.book.get(key).is_some() {
                    self.take(key, certificate);
                }
            }
            Err(failure) => {
                self.counters.failures.with_label_values(&[failure.trouble.as_str()]).inc();
                self.book.failed(key, failure, self.can_http(key), now, fastrand::f64());
            }
        }
        let failure = self.book.get(key).and_then(KeptFailure::of);
        if let Err(error) = self.house.keep_failure(name, failure).await {
            tracing::debug!(name = %key, error, "how the order failed cannot be kept");
        }
    }

    fn ask_about_renewals(&mut self) {
        let now = SystemTime::now();
        for (key, certificate) in &self.certificates {
            let is_due = self.asks.get(key).is_none_or(|next| *next <= now);
            if !is_due || self.book.get(key).is_none_or(|order| order.authority == Authority::Local) {
                continue;
            }
            // Not again while it is asked.
            self.asks.insert(Arc::clone(key), now + ASK_AGAIN);
            let (ca, key, certificate) = (Arc::clone(&self.ca), Arc::clone(key), Arc::clone(certificate));
            self.tasks.spawn(async move {
                let window = ca.window(&certificate).await;
                Done(Came::Window(key, certificate, window))
            });
        }
    }

    fn sleep(&self) -> Duration {
        let now = SystemTime::now();
        let asks = self.asks.values().min().copied();
        // Those that are due wait for one that runs to end.
        let orders = self.book.wake(now).filter(|_| self.running < AT_ONCE);
        let next = orders.into_iter().chain(asks).min();
        let left = next.map_or(LONGEST_SLEEP, |next| next.duration_since(now).unwrap_or_default());
        left.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    /// What is to be told of orders that failed, and of those that are on their way, if somebody wants to know.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let now = SystemTime::now();
        let of = |(key, order): (&Arc<str>, &Order)| {
            let want = self.wants.names.get(key)?;
            let begun = || under_way(order, want, now).filter(|_| self.words.tells_beginnings);
            diagnostic(order, want, &self.words, now).or_else(begun)
        };
        self.book.iter().filter_map(of).collect()
    }

    /// Where each order stands.
    #[must_use]
    pub fn statuses(&self) -> Vec<OrderStatus> {
        let now = SystemTime::now();
        self.book.iter().map(|(name, order)| OrderStatus::of(name, order, &self.book, now)).collect()
    }
}

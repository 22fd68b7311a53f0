//! Shares of limits that all proxies count together: the replica that leads keeps the ledger ([`mesh_core::wire::Ledger`]), for as long as it
//! does; others say where it is.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use mesh_core::model::ResourceSet;
use mesh_core::wire::{LENDER, Ledger, QuotaGrant, QuotaReport, Standing};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::server::{departure, stopping};
use super::{Ending, Identity};
use crate::kube::{ClassState, Joined, Leadership, Leaving};

/// How long it is believed where the replicas are.
const BELIEVED: Duration = Duration::from_secs(5);
/// Longest that it is looked for.
const LOOK: Duration = Duration::from_secs(2);

/// Where the replicas are.
pub struct Replicas {
    slices: Api<EndpointSlice>,
    service: String,
    /// Where they serve discovery.
    port: u16,
    found: tokio::sync::Mutex<Option<(Instant, String, Option<SocketAddr>)>>,
}

impl Replicas {
    #[must_use]
    pub fn new(client: Client, namespace: &str, service: &str, port: u16) -> Replicas {
        let slices = Api::namespaced(client, namespace);
        Replicas { slices, service: service.to_owned(), port, found: tokio::sync::Mutex::default() }
    }

    async fn address(&self, replica: &str) -> Option<SocketAddr> {
        let mut found = self.found.lock().await;
        if let Some((at, of, address)) = &*found
            && at.elapsed() < BELIEVED
            && of == replica
        {
            return *address;
        }
        let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={}", self.service));
        let slices = timeout(LOOK, self.slices.list(&selector)).await.ok().and_then(Result::ok);
        // That they cannot be read is believed as long: who asks next does not wait for the same.
        let address = slices.and_then(|slices| slices.items.iter().find_map(|slice| address_of(slice, replica)));
        let address = address.map(|address| SocketAddr::new(address, self.port));
        *found = Some((Instant::now(), replica.to_owned(), address));
        address
    }
}

fn address_of(slice: &EndpointSlice, replica: &str) -> Option<IpAddr> {
    let is_it = |target: Option<&str>| target == Some(replica);
    let endpoint = slice
        .endpoints
        .iter()
        .find(|endpoint| is_it(endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref())))?;
    endpoint.addresses.first()?.parse().ok()
}

/// Lends, while this replica leads.
#[derive(Clone)]
pub struct Lender(Arc<Shared>);

struct Shared {
    leadership: Leadership,
    replicas: Option<Replicas>,
    /// None: this replica does not lead.
    term: Mutex<Option<Term>>,
    streams: AtomicU64,
    begun: Instant,
}

/// What there is while this replica leads.
struct Term {
    ledger: Ledger,
    /// Who waits for the end of a pod whose proxy has no stream. It waits no more when this is dropped.
    waiting: HashMap<Arc<str>, oneshot::Sender<Infallible>>,
}

impl Lender {
    /// Lends from when this replica leads, until it does not any more.
    #[must_use]
    pub fn start(leadership: Leadership, replicas: Option<Replicas>) -> Lender {
        let (term, streams, begun) = (Mutex::default(), AtomicU64::default(), Instant::now());
        let lender = Lender(Arc::new(Shared { leadership, replicas, term, streams, begun }));
        tokio::spawn(lender.clone().keep());
        lender
    }

    async fn keep(self) {
        let mut leadership = self.0.leadership.clone();
        let mut terms = 0;
        // The next leader begins when the term is given back.
        while let Some(_term) = leadership.lead().await {
            terms += 1;
            // What others lent before is not known here.
            let inherits = terms > 1 || !leadership.is_first();
            *self.term() = Some(Term { ledger: Ledger::new(self.now(), inherits), waiting: HashMap::new() });
            leadership.lost().await;
            *self.term() = None;
        }
    }

    fn term(&self) -> MutexGuard<'_, Option<Term>> {
        self.0.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How each limit stands; nothing where this replica does not lead.
    #[must_use]
    pub fn standings(&self) -> Vec<(String, Standing)> {
        let now = self.now();
        let term = self.term();
        let books = term.iter().flat_map(|term| term.ledger.books());
        books.map(|(name, book)| (name.to_string(), book.standing(now))).collect()
    }

    /// An error where another replica lends, with its address if that is known.
    pub(super) async fn refuse_unless_it_lends(&self) -> Result<(), Status> {
        if self.term().is_some() {
            return Ok(());
        }
        let mut status = Status::failed_precondition("another replica lends shares of rate limits");
        if let (Some(replicas), Some(leader)) = (&self.0.replicas, self.0.leadership.other())
            && let Some(address) = replicas.address(&leader).await
            && let Ok(address) = address.to_string().parse()
        {
            status.metadata_mut().insert(LENDER, address);
        }
        Err(status)
    }

    /// Lends to a proxy until one of the two has enough of it.
    pub(super) fn lend(
        &self,
        identity: &Identity,
        joined: Joined,
        reports: Streaming<QuotaReport>,
        expires: Instant,
        stop: watch::Receiver<bool>,
    ) -> ReceiverStream<Result<QuotaGrant, Status>> {
        let (grants, outgoing) = mpsc::channel(1);
        let Joined { states, leaving, .. } = joined;
        let name: Arc<str> = format!("{}/{}/{}", identity.namespace, identity.pod, identity.uid).into();
        let stream = self.0.streams.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Not in the task: those of two streams may run in any order. If the term just ended, the first report is told so.
        if let Some(term) = &mut *self.term() {
            term.ledger.join(&name, stream);
            term.waiting.remove(&name);
        }
        let borrower = Borrower { lender: self.clone(), name, stream, states, leaving, grants };
        tokio::spawn(borrower.run(reports, expires, stop));
        ReceiverStream::new(outgoing)
    }
}

/// The stream of one proxy.
struct Borrower {
    lender: Lender,
    /// Of the pod: what it was lent it has, whatever becomes of its streams.
    name: Arc<str>,
    stream: u64,
    states: watch::Receiver<Arc<ClassState>>,
    leaving: Leaving,
    grants: mpsc::Sender<Result<QuotaGrant, Status>>,
}

impl Borrower {
    async fn run(mut self, mut reports: Streaming<QuotaReport>, expires: Instant, mut stop: watch::Receiver<bool>) {
        tracing::debug!(proxy = &*self.name, "borrows shares of rate limits");
        let mut leadership = self.lender.0.leadership.clone();
        let ending = loop {
            tokio::select! {
                report = reports.message() => match report {
                    Ok(Some(report)) => {
                        let grant = match self.answer(&report) {
                            Ok(Some(grant)) => grant,
                            Ok(None) => continue,
                            Err(ending) => break ending,
                        };
                        // A proxy that does not read gets another one later.
                        let _ = self.grants.try_send(Ok(grant));
                    }
                    Ok(None) => break Ending::Closed,
                    Err(_) => break Ending::Broken,
                },
                ending = departure(&mut self.leaving) => break ending,
                () = sleep_until(expires) => break Ending::TokenExpired,
                () = stopping(&mut stop) => break Ending::Stopping,
                () = leadership.lost() => break Ending::Stopping,
                () = self.grants.closed() => break Ending::Broken,
            }
        };
        if let Some(status) = ending.status() {
            let _ = self.grants.try_send(Err(status));
        }
        self.end(ending).await;
    }

    /// None: it comes too late.
    fn answer(&self, report: &QuotaReport) -> Result<Option<QuotaGrant>, Ending> {
        let set = Arc::clone(&self.states.borrow().set);
        let now = self.lender.now();
        let mut term = self.lender.term();
        let Term { ledger, .. } = term.as_mut().ok_or(Ending::Stopping)?;
        if !ledger.knows(&self.name, self.stream) {
            return Err(Ending::Superseded);
        }
        // What it does not have is none of its business.
        Ok(ledger.on_report(&self.name, self.stream, report, |limit| is_shared(&set, limit), now))
    }

    /// What it was lent counts as lent until its pod is gone, or it comes again.
    async fn end(mut self, ending: Ending) {
        tracing::debug!(proxy = &*self.name, reason = ending.as_str(), "borrows no more");
        let is_gone = |ending| matches!(ending, Ending::PodDeleted | Ending::PodReplaced);
        let mut back = {
            let mut term = self.lender.term();
            let Some(Term { ledger, waiting }) = &mut *term else { return };
            if is_gone(ending) {
                waiting.remove(&self.name);
                return ledger.forget(&self.name);
            }
            if !ledger.leave(&self.name, self.stream) || ending == Ending::PodRelabelled {
                return;
            }
            let (waits, back) = oneshot::channel();
            waiting.insert(Arc::clone(&self.name), waits);
            back
        };
        drop(self.grants);
        let ending = tokio::select! {
            biased;
            // It came again, or this replica does not lead any more.
            _ = &mut back => return,
            ending = departure(&mut self.leaving) => ending,
        };
        if let Some(Term { ledger, waiting }) = &mut *self.lender.term() {
            waiting.remove(&self.name);
            if is_gone(ending) {
                ledger.forget(&self.name);
            }
        }
    }
}

/// Whether proxies that have this set count the limit `namespace/name/limit` together.
fn is_shared(set: &ResourceSet, limit: &str) -> bool {
    let named = limit.rsplit_once('/').and_then(|(key, name)| Some((set.rate_limits.get(key)?, name)));
    named.is_some_and(|(limits, name)| limits.limits.iter().any(|limit| limit.amount.global && *limit.name == *name))
}

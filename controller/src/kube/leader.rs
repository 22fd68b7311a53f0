//! Which replica writes: the holder of a Lease. Serving proxies needs no leader. Who stops gives it back, so that another replica need
//! not wait until it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease as KubeLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, mpsc, watch};

/// Name of the Lease.
pub const LEASE: &str = "meshgate-leader";
/// A holder that was not heard of for so long has lost it, by the watch of whoever looks.
const DURATION: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(2);
/// Longest that stopping takes: a turn that is under way, and giving the lease back.
pub const STOPPING: Duration = Duration::from_secs(2 * RENEW.as_secs() + 1);
/// How often those look who do not lead: so soon is a lease taken that was given back.
const LOOK: Duration = Duration::from_millis(500);

/// Whether this replica leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
    /// Who does, as far as this replica knows.
    holder: watch::Receiver<Option<String>>,
    /// There was no Lease before.
    first: Arc<AtomicBool>,
    /// Read by whoever writes.
    terms: Arc<RwLock<()>>,
}

/// Leave to write. The lease is given back when the last one is gone.
#[derive(Clone, Debug)]
pub struct Term {
    _held: Arc<OwnedRwLockReadGuard<()>>,
}

impl Leadership {
    /// One that stays as it is.
    #[cfg(test)]
    pub fn fixed(leads: bool) -> Leadership {
        Leadership::told(watch::channel(leads).1, false)
    }

    /// As somebody else says, who needs no Lease for it.
    #[must_use]
    pub fn told(leads: watch::Receiver<bool>, first: bool) -> Leadership {
        let first = Arc::new(AtomicBool::new(first));
        Leadership { leads, holder: watch::channel(None).1, first, terms: Arc::default() }
    }

    #[must_use]
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Whether nobody led before this replica did.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.first.load(Ordering::Relaxed)
    }

    /// Another replica that leads, if one is known.
    #[must_use]
    pub fn other(&self) -> Option<String> {
        self.holder.borrow().clone().filter(|_| !self.leads())
    }

    /// Waits until this replica leads. None: the process ends.
    pub async fn lead(&mut self) -> Option<Term> {
        loop {
            self.leads.wait_for(|leads| *leads).await.ok()?;
            let held = self.terms.clone().read_owned().await;
            // It may be over while it was waited for.
            if self.leads() {
                return Some(Term { _held: Arc::new(held) });
            }
        }
    }

    /// Until this replica does not lead any more, or ends: what is under way is to be finished, and nothing begun.
    pub async fn lost(&mut self) {
        let _ = self.leads.wait_for(|leads| !*leads).await;
    }
}

/// The candidate.
pub struct Lease {
    api: Api<KubeLease>,
    name: String,
    replica: String,
    leads: watch::Sender<bool>,
    holder: watch::Sender<Option<String>>,
    first: Arc<AtomicBool>,
    terms: Arc<RwLock<()>>,
    /// The holder's last sign of life, and when it was seen: clocks of different machines are not compared.
    seen: Option<(Option<MicroTime>, Option<String>, Instant)>,
    renewed: Instant,
}

impl Lease {
    /// Until `stop`; then the lease is given back, and `busy` let go.
    pub fn start(
        api: Api<KubeLease>,
        name: &str,
        replica: &str,
        stop: watch::Receiver<bool>,
        busy: mpsc::Sender<()>,
    ) -> Leadership {
        let (leads, receiver) = watch::channel(false);
        let (holder, known) = watch::channel(None);
        let terms = Arc::new(RwLock::new(()));
        let first = Arc::new(AtomicBool::default());
        let leadership = Leadership { leads: receiver, holder: known, first: Arc::clone(&first), terms: terms.clone() };
        let lease = Lease {
            api,
            name: name.to_owned(),
            replica: replica.to_owned(),
            leads,
            holder,
            first,
            terms,
            seen: None,
            renewed: Instant::now(),
        };
        tokio::spawn(lease.run(stop, busy));
        leadership
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>, busy: mpsc::Sender<()>) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let begun = Instant::now();
            let leads = match tokio::time::timeout(RENEW, self.turn()).await {
                Ok(Ok(leads)) => {
                    if leads {
                        self.renewed = begun;
                    }
                    leads
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "lease");
                    self.still_mine()
                }
                Err(_) => self.still_mine(),
            };
            if *self.leads.borrow() != leads {
                tracing::info!(replica = self.replica, leads, "leadership");
                self.leads.send_replace(leads);
            }
            pause = if leads { RENEW.saturating_sub(begun.elapsed()) } else { LOOK };
        }
        // Also if this replica does not know that it leads: the answer to its last word may not have come.
        self.leads.send_replace(false);
        match tokio::time::timeout(RENEW, self.give_back()).await {
            Ok(Ok(true)) => tracing::info!(replica = self.replica, leads = false, "leadership"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease is not given back; it runs out"),
            Err(_) => tracing::warn!("the lease is not given back in time; it runs out"),
        }
        drop(busy);
    }

    /// As others that hold leases do: no holder, and nothing to wait for. Whoever writes must have finished before another one may
    /// begin. Whether it was ours to give.
    async fn give_back(&self) -> kube::Result<bool> {
        let _none = self.terms.write().await;
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(false) };
        let spec = lease.spec.take().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.replica) {
            return Ok(false);
        }
        lease.spec =
            Some(LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), renew_time: Some(now()), ..spec });
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Without word from the API server: it is ours as long as nobody else may take it, with some margin.
    fn still_mine(&self) -> bool {
        *self.leads.borrow() && self.renewed.elapsed() + RENEW < DURATION
    }

    async fn turn(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = KubeLease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(0)),
            };
            let won = won(self.api.create(&PostParams::default(), &lease).await)?;
            self.first.store(won && self.seen.is_none(), Ordering::Relaxed);
            return Ok(won);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        self.holder.send_replace(spec.holder_identity.clone().filter(|holder| !holder.is_empty()));
        let sign = (spec.renew_time.clone(), spec.holder_identity.clone());
        let mine = spec.holder_identity.as_deref() == Some(&self.replica);
        let fresh = match &self.seen {
            Some((time, holder, at)) if (time, holder) == (&sign.0, &sign.1) => at.elapsed() < DURATION,
            _ => {
                self.seen = Some((sign.0, sign.1, Instant::now()));
                true
            }
        };
        let free = spec.holder_identity.as_deref().unwrap_or_default().is_empty();
        if !mine && !free && fresh {
            return Ok(false);
        }
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!mine);
        lease.spec = Some(LeaseSpec {
            acquire_time: if mine { spec.acquire_time } else { Some(now()) },
            ..self.spec(transitions)
        });
        // With its resource version: of two who take it, one fails.
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.replica.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now()),
            renew_time: Some(now()),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn now() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}

fn won(result: kube::Result<KubeLease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_writes_is_waited_for_and_nobody_begins_anew() {
        let (leads, receiver) = watch::channel(true);
        let terms = Arc::new(RwLock::new(()));
        let holder = watch::channel(None).1;
        let mut leadership = Leadership { leads: receiver, holder, first: Arc::default(), terms: terms.clone() };
        let first = leadership.lead().await.unwrap();
        let second = first.clone();
        leads.send_replace(false);
        leadership.lost().await;
        let mut given_back = Box::pin(terms.write());
        drop(first);
        assert!((&mut given_back).now_or_never().is_none(), "somebody writes");
        // Who asked a moment before it was over is behind.
        let mut late = leadership.clone();
        leads.send_replace(true);
        let mut late = Box::pin(late.lead());
        assert!((&mut late).now_or_never().is_none());
        leads.send_replace(false);
        drop(second);
        drop((&mut given_back).now_or_never().unwrap());
        assert!((&mut late).now_or_never().is_none());
        drop(leads);
        assert!(late.await.is_none());
    }
}

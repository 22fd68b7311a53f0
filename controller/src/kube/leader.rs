//! Which replica writes: the holder of a Lease. Serving proxies needs no leader. Who stops gives it back, so that another replica need
//! not wait until it is over.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease as KubeLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::{mpsc, watch};

/// Name of the Lease.
pub const LEASE: &str = "meshgate-leader";
/// A holder that was not heard of for so long has lost it, by the watch of whoever looks.
const DURATION: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(2);
/// How often those look who do not lead: so soon is a lease taken that was given back.
const LOOK: Duration = Duration::from_millis(500);

/// Whether this replica leads.
pub type Leadership = watch::Receiver<bool>;

/// The candidate.
pub struct Lease {
    api: Api<KubeLease>,
    name: String,
    replica: String,
    leads: watch::Sender<bool>,
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
        let (leads, leadership) = watch::channel(false);
        let lease = Lease {
            api,
            name: name.to_owned(),
            replica: replica.to_owned(),
            leads,
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
        // Whoever writes must have stopped before another one may.
        if self.leads.send_replace(false) {
            match tokio::time::timeout(RENEW, self.give_back()).await {
                Ok(Ok(())) => tracing::info!(replica = self.replica, leads = false, "leadership"),
                Ok(Err(error)) => tracing::warn!(%error, "the lease is not given back; it runs out"),
                Err(_) => tracing::warn!("the lease is not given back in time; it runs out"),
            }
        }
        drop(busy);
    }

    /// As others that hold leases do: no holder, and nothing to wait for.
    async fn give_back(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.take().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.replica) {
            return Ok(());
        }
        lease.spec =
            Some(LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), renew_time: Some(now()), ..spec });
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await).map(drop)
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
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
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

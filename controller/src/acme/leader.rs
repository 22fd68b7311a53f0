//! The leader's task: takes in what is wanted, and does what is due.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use mesh_acme::{Options, Orders, Words};
use mesh_core::diag::Diagnostic;
use rustls::crypto::CryptoProvider;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Board;
use super::secrets::{Secrets, Tallies};
use super::wanted::{declined, sum};
use crate::kube::Leadership;
use crate::status::{Peers, Tally};

/// How often other replicas are asked.
const ASK: Duration = Duration::from_secs(1);

/// How often it is looked whether somebody wants a failed order to be tried at once.
const LOOK: Duration = Duration::from_secs(5);

const WORDS: Words = Words {
    challenge: "the name must lead to the gateways (DNS), and port 80 (http-01) or 443 (tls-alpn-01) of it to them; who deletes the secret has it tried at once",
    unreachable: "can the controller reach it, and does it believe its certificate (--acme-ca)?",
    limited: "to try things out, use the directory letsencrypt-staging (acme.directory)",
    refused: "what it refuses has to be put right; who deletes the secret has it tried at once",
    storage: "certificates are kept in secrets that carry the label meshgate.io/acme=true; others are not touched",
    tells_beginnings: true,
};

/// After a fault.
const ANEW: Duration = Duration::from_secs(10);

/// What it needs.
#[derive(Clone)]
pub struct Leader {
    pub client: Client,
    pub leadership: Leadership,
    /// Of this replica.
    pub tally: watch::Receiver<Arc<Tally>>,
    pub namespace: String,
    pub service: String,
    pub replica: String,
    /// None: nobody is asked for certificates, and who wants some is told so.
    pub options: Option<Options>,
    pub board: Board,
}

impl Leader {
    /// Until the process ends. What came of an order is kept before that: it is `busy` as long. A fault in it is told, and it begins anew.
    pub async fn run(self, stop: watch::Receiver<bool>, busy: mpsc::Sender<()>) {
        let lead = || self.clone().terms(stop.clone());
        lasting(lead, || self.board.clear(), stop.clone()).await;
        drop(busy);
    }

    /// One term after the other.
    async fn terms(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let term = tokio::select! {
                term = self.leadership.lead() => term,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Some(_term) = term else { return };
            match &self.options {
                Some(options) => self.lead(options).await,
                None => self.decline().await,
            }
            self.board.clear();
        }
    }

    /// Until this replica leads no more. An order that is under way is given up: the next leader begins it again.
    async fn lead(&self, options: &Options) {
        let mut leadership = self.leadership.clone();
        let mut helpers = JoinSet::new();
        let mut tallies = self.gather(&mut helpers);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (house, mut orders) = self.orders(options, &provider, tallies.clone());
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut more: Vec<Diagnostic> = Vec::new();
        tallies.mark_changed();
        loop {
            orders.begin().await;
            self.board.set(&options.directory, &orders, &more);
            let mut done = None;
            tokio::select! {
                () = leadership.lost() => return,
                Ok(()) = tallies.changed() => {
                    let now = tallies.borrow_and_update().clone();
                    let sum = sum(now.iter().flat_map(|tally| &tally.orders));
                    more = sum.findings;
                    for secret in &sum.absent {
                        // Somebody has deleted it, or nobody has seen it yet: the API server knows.
                        if orders.certificates().contains_key(secret) {
                            orders.forget(secret);
                        }
                    }
                    orders.want(Arc::new(sum.wants)).await;
                }
                came = orders.wake() => done = came,
                _ = looks.tick() => for name in orders.refused() {
                    if house.is_gone(&name).await {
                        orders.anew(&name.key).await;
                    }
                },
            }
            if let Some(done) = done {
                orders.done(done).await;
            }
        }
    }

    /// The same of who has nobody to ask.
    async fn decline(&self) {
        let mut leadership = self.leadership.clone();
        let mut helpers = JoinSet::new();
        let mut tallies = self.gather(&mut helpers);
        loop {
            let findings = declined(tallies.borrow_and_update().iter().flat_map(|tally| &tally.orders));
            self.board.decline(findings);
            tokio::select! {
                () = leadership.lost() => return,
                changed = tallies.changed() => if changed.is_err() { return leadership.lost().await },
            }
        }
    }

    fn orders(
        &self,
        options: &Options,
        provider: &Arc<CryptoProvider>,
        tallies: Tallies,
    ) -> (Arc<Secrets>, Orders<Secrets>) {
        let house =
            Secrets::new(self.client.clone(), &self.namespace, &options.directory, Arc::clone(provider), tallies);
        let (house, options) = (Arc::new(house), Arc::new(options.clone()));
        let orders = Orders::new(options, Arc::clone(&house), provider, self.board.counters.clone(), WORDS);
        (house, orders)
    }

    /// What all replicas say, this one first.
    fn gather(&self, helpers: &mut JoinSet<()>) -> Tallies {
        let (send, receive) = watch::channel(Vec::new());
        let mut own = self.tally.clone();
        let mut peers = Peers::new(self.client.clone(), &self.namespace, &self.service, &self.replica);
        helpers.spawn(async move {
            let mut others = Vec::new();
            let mut asks = tokio::time::interval(ASK);
            asks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            own.mark_changed();
            loop {
                tokio::select! {
                    changed = own.changed() => if changed.is_err() { return },
                    _ = asks.tick() => others = peers.ask().await,
                }
                let all: Vec<Arc<Tally>> =
                    std::iter::once(own.borrow_and_update().clone()).chain(others.iter().cloned()).collect();
                send.send_if_modified(|known| {
                    let orders = |tallies: &[Arc<Tally>]| -> Vec<_> {
                        tallies.iter().flat_map(|tally| tally.orders.iter().cloned()).collect()
                    };
                    let is_new = orders(known) != orders(&all);
                    *known = all;
                    is_new
                });
            }
        });
        receive
    }
}

/// Until the task ends by itself. One that ends by a fault is told, and begun again after a pause.
async fn lasting<F>(begin: impl Fn() -> F, ended: impl Fn(), mut stop: watch::Receiver<bool>)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // Dropped with whoever waits for it.
        let mut task = JoinSet::new();
        task.spawn(begin());
        let Some(Err(error)) = task.join_next().await else { return };
        let pause = ANEW.as_secs();
        tracing::error!(%error, "the orders of certificates ended by a fault; they begin anew in {pause} s");
        ended();
        tokio::select! {
            () = tokio::time::sleep(ANEW) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fault_is_not_the_end_of_orders() {
        let (begun, ended) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
        let begin = || {
            let begun = Arc::clone(&begun);
            async move { assert!(begun.fetch_add(1, Ordering::Relaxed) > 0, "a fault") }
        };
        let ends = || {
            ended.fetch_add(1, Ordering::Relaxed);
        };
        let stop = watch::Sender::new(false);
        lasting(begin, ends, stop.subscribe()).await;
        assert_eq!((begun.load(Ordering::Relaxed), ended.load(Ordering::Relaxed)), (2, 1));
    }
}

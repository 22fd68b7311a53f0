//! The CA as it is now. Its Secrets are looked at again and again: who plugs in another CA, or the leader that changes the root
//! step by step, need not start anything anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;

use super::authority::{Authority, PLUGGED_IN, SECRET};
use super::{Counters, rotation};
use crate::kube::Leadership;

/// How often the Secrets are looked at.
const AGAIN: Duration = Duration::from_secs(10);

/// For whoever signs, or tells others whom to believe.
#[derive(Clone)]
pub struct Current {
    authority: watch::Receiver<Arc<Authority>>,
    roots: watch::Receiver<String>,
    /// Of one that never changes: without it the receiver would take it for gone.
    _fixed: Option<Arc<watch::Sender<Arc<Authority>>>>,
}

impl From<Arc<Authority>> for Current {
    fn from(authority: Arc<Authority>) -> Current {
        let roots = watch::channel(authority.root_pem().to_owned()).1;
        let (sender, receiver) = watch::channel(authority);
        Current { authority: receiver, roots, _fixed: Some(Arc::new(sender)) }
    }
}

impl Current {
    #[must_use]
    pub fn get(&self) -> Arc<Authority> {
        self.authority.borrow().clone()
    }

    /// What is believed, in PEM.
    #[must_use]
    pub fn roots(&self) -> watch::Receiver<String> {
        self.roots.clone()
    }

    /// Waits for another one.
    pub async fn changed(&mut self) {
        if self.authority.changed().await.is_err() {
            // The process ends.
            std::future::pending::<()>().await;
        }
    }
}

/// Follows the Secrets.
pub struct Follower {
    pub client: Client,
    /// Of the Secrets.
    pub namespace: String,
    /// Only the leader changes the root.
    pub leadership: Leadership,
    /// How long old and new root are both believed, in each of the two steps of a change.
    pub overlap: Duration,
    pub counters: Counters,
}

impl Follower {
    /// `first`: as it was read at the start.
    #[must_use]
    pub fn start(self, first: Authority) -> Current {
        self.counters.root_expires(first.root_expires());
        let (tell, roots) = watch::channel(first.root_pem().to_owned());
        let (sender, authority) = watch::channel(Arc::new(first));
        tokio::spawn(self.run(sender, tell));
        Current { authority, roots, _fixed: None }
    }

    async fn run(self, current: watch::Sender<Arc<Authority>>, roots: watch::Sender<String>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            self.look(&current, &roots).await;
        }
    }

    async fn look(&self, current: &watch::Sender<Arc<Authority>>, roots: &watch::Sender<String>) {
        let found = match self.advance().await {
            Ok(()) => Authority::find(&self.client, &self.namespace).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(authority)) => self.take(authority, current, roots),
            Ok(None) => {
                let before = current.borrow().clone();
                self.missed(&before).await;
            }
            // What is wrong with it is no reason to stop: the last one that was good signs on.
            Err(error) => tracing::warn!("the CA of before stays: {error:#}"),
        }
    }

    /// Neither Secret is there. A new root would be one that no workload believes: the CA of before signs on, and the leader writes
    /// it down again if the controller made it.
    async fn missed(&self, before: &Authority) {
        let namespace = &self.namespace;
        if before.is_plugged_in() {
            tracing::error!(
                "secret {namespace}/{PLUGGED_IN} is gone: its CA signs on until this process ends, and the next one does not \
                 start without it; put the secret back"
            );
            return;
        }
        if !self.leadership.leads() {
            tracing::warn!("secret {namespace}/{SECRET} is gone: its CA signs on, and the leader writes it again");
            return;
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), &rotation::again(before, now())).await {
            Ok(_) => tracing::error!(
                "secret {namespace}/{SECRET} was gone and is written again, with the CA that signs; for another root \
                 annotate it with {}=now",
                rotation::ROTATE
            ),
            // Somebody else was faster; it is looked at again.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => tracing::error!(
                %error,
                "secret {namespace}/{SECRET} is gone and cannot be written again: its CA signs on until this process ends; \
                 put the secret back"
            ),
        }
    }

    fn take(&self, authority: Authority, current: &watch::Sender<Arc<Authority>>, roots: &watch::Sender<String>) {
        let before = current.borrow().clone();
        if *before == authority {
            return;
        }
        if !before.shares_root(&authority) {
            tracing::warn!(
                "the CA has another root, and none of before: workloads do not believe each other until all have new \
                 certificates; put old and new into its `root-cert.pem` to avoid that"
            );
        }
        tracing::info!("the CA has changed");
        self.counters.root_expires(authority.root_expires());
        // Others hear of a root before anybody shows a certificate of it.
        roots.send_if_modified(|told| {
            let other = *told != authority.root_pem();
            authority.root_pem().clone_into(told);
            other
        });
        current.send_replace(Arc::new(authority));
    }

    /// One step of a change of the root that the controller made, if one is due.
    async fn advance(&self) -> anyhow::Result<()> {
        if !self.leadership.leads() {
            return Ok(());
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        // A CA of one's own is changed by whoever plugged it in.
        if api.get_opt(PLUGGED_IN).await.context("cannot read the secret of the CA")?.is_some() {
            return Ok(());
        }
        let Some(secret) = api.get_opt(SECRET).await.context("cannot read the CA's secret")? else { return Ok(()) };
        let step = rotation::step(&secret, now(), self.overlap);
        let Some(step) = step.with_context(|| format!("secret {SECRET}"))? else { return Ok(()) };
        // What is written must be usable: it is what signs.
        Authority::read(&step.secret).with_context(|| format!("secret {SECRET}, next step"))?;
        match api.replace(SECRET, &PostParams::default(), &step.secret).await {
            Ok(_) => tracing::info!("root of the CA: {}", step.told),
            // Somebody else was faster; it is looked at again.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).context("cannot write the CA's secret"),
        }
        Ok(())
    }
}

/// In seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "current_tests.rs"]
mod tests;

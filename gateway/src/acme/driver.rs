//! Has ordered what the tables want, and tells the store and the pages of it.

use std::sync::Arc;

use mesh_acme::{Counters, Orders, Words};
use mesh_core::acme::{Authority, Wants, wants};
use mesh_core::certificate::Certificate;
use mesh_core::model::ResourceSet;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::house::Folder;
use super::status::{AcmeHandle, AcmeStatus};
use super::storage::Storage;
use super::{AcmeOptions, local};
use crate::observe::Observe;
use crate::source::{Ordered, Update};
use crate::tls::challenges::Challenges;
use crate::tls::provider::provider;

const WORDS: Words = Words {
    challenge: "the name must lead to this machine (DNS), and its port 80 (http-01) or 443 (tls-alpn-01) to this process; SIGHUP has it tried at once",
    unreachable: "can this machine reach it, and does it believe its certificate (--acme-ca)?",
    limited: "to try things out, use --acme-directory letsencrypt-staging",
    refused: "what it refuses has to be put right; SIGHUP has it tried at once",
    storage: "the directory of --acme-storage has to be one that this process may write to",
    tells_beginnings: false,
};

/// See the module.
pub struct Driver {
    directory: String,
    storage: Storage,
    orders: Orders<Folder>,
    /// What the store knows.
    told: Option<Ordered>,
    handle: AcmeHandle,
}

impl Driver {
    /// Reads what is kept for the names of the set, and signs for private ones, so that they are served from the beginning.
    pub async fn prepare(
        options: &AcmeOptions,
        set: &ResourceSet,
        challenges: &Arc<Challenges>,
        observe: &Observe,
    ) -> prometheus::Result<Driver> {
        let counters = Counters::new()?;
        observe.register(counters.issued.clone())?;
        observe.register(counters.failures.clone())?;
        let storage = Storage::new(options.storage.clone(), &options.ca.directory);
        let house = Arc::new(Folder::new(storage.clone(), Arc::clone(challenges)));
        let mut driver = Driver {
            directory: options.ca.directory.clone(),
            storage,
            orders: Orders::new(Arc::new(options.ca.clone()), house, provider(), counters, WORDS),
            told: None,
            handle: AcmeHandle::default(),
        };
        driver.orders.want(Arc::new(wants(set))).await;
        driver.orders.sign_private_names().await;
        // Where it could not be kept there is none, and the store says why.
        if driver.signs_here() && local::root_path(&driver.storage).exists() {
            let root = local::root_path(&driver.storage);
            tracing::info!(root = %root.display(), "private names have certificates of the CA of this machine; clients that are told to believe this root accept them");
        }
        driver.publish_status();
        Ok(driver)
    }

    pub fn handle(&self) -> AcmeHandle {
        self.handle.clone()
    }

    /// Until the process ends.
    pub async fn run(mut self, mut wants: watch::Receiver<Arc<Wants>>, updates: UnboundedSender<Update>) {
        let handle = self.handle.clone();
        loop {
            self.orders.begin().await;
            if self.tell(&updates).is_err() {
                return;
            }
            let mut done = None;
            tokio::select! {
                changed = wants.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wants = wants.borrow_and_update().clone();
                    self.orders.want(wants).await;
                }
                came = self.orders.wake() => done = came,
                () = handle.now.notified() => self.orders.hurry(),
            }
            if let Some(done) = done {
                self.orders.done(done).await;
            }
        }
    }

    /// What there is for the store.
    pub fn ordered(&self) -> Ordered {
        Ordered { certificates: self.orders.certificates().clone(), diagnostics: self.orders.diagnostics() }
    }

    fn signs_here(&self) -> bool {
        self.orders.book().iter().any(|(_, order)| order.authority == Authority::Local)
    }

    fn publish_status(&self) {
        self.handle.set(AcmeStatus {
            directory: self.directory.clone(),
            storage: self.storage.folder().display().to_string(),
            local_root: self.signs_here().then(|| local::root_path(&self.storage).display().to_string()),
            orders: self.orders.statuses(),
        });
    }

    /// Pages are told of everything, the store of what is new to it.
    fn tell(&mut self, updates: &UnboundedSender<Update>) -> Result<(), ()> {
        self.publish_status();
        let ordered = self.ordered();
        if self.told.as_ref().is_some_and(|told| is_same(told, &ordered)) {
            return Ok(());
        }
        self.told = Some(ordered.clone());
        updates.send(Update::Ordered(ordered)).map_err(drop)
    }
}

fn is_same(one: &Ordered, other: &Ordered) -> bool {
    let same = |(name, certificate): (&Arc<str>, &Arc<Certificate>)| {
        other.certificates.get(name).is_some_and(|known| Arc::ptr_eq(known, certificate))
    };
    one.diagnostics == other.diagnostics
        && one.certificates.len() == other.certificates.len()
        && one.certificates.iter().all(same)
}

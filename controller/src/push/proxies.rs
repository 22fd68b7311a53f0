//! The proxies that are connected to this replica, and how far each of them is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_core::wire::proto::DeltaDiscoveryResponse;
use mesh_core::wire::{Kind, ServerStream, Sync};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Ending, Endings, Identity, Sent};

/// One proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// `pod.namespace`
    pub name: String,
    pub namespace: String,
    pub pod: String,
    pub service_account: String,
    /// What it says of itself.
    pub version: String,
    pub address: String,
    /// `region/zone/subzone` where its pod ran when it connected; empty when unknown.
    #[serde(default)]
    pub locality: String,
    /// RFC 3339.
    pub connected_since: String,
    pub kinds: BTreeMap<Kind, KindStatus>,
    /// Number of its class at this replica; 0: none yet.
    #[serde(skip)]
    pub class: u64,
}

/// See [`Sync`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStatus {
    pub subscribed: bool,
    pub sent: u64,
    pub acknowledged: u64,
    #[serde(default)]
    pub responses: u64,
    #[serde(default)]
    pub resources: u64,
    #[serde(default, skip_serializing_if = "no_names")]
    pub refused: Arc<BTreeMap<String, String>>,
    /// Since when it stands so; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

fn no_names(names: &BTreeMap<String, String>) -> bool {
    names.is_empty()
}

impl KindStatus {
    /// The same state keeps its time.
    fn since(mut self, before: Option<&KindStatus>, now: &str) -> KindStatus {
        self.since = before.and_then(|before| before.since.clone());
        if self.since.is_none() || before.is_none_or(|before| *before != self) {
            self.since = Some(now.to_owned());
        }
        self
    }
}

impl From<&Sync> for KindStatus {
    fn from(sync: &Sync) -> KindStatus {
        KindStatus {
            subscribed: sync.subscribed,
            sent: sync.sent,
            acknowledged: sync.acknowledged,
            responses: sync.responses,
            resources: sync.resources,
            refused: sync.refused.clone(),
            since: None,
        }
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Proxies {
    list: Arc<Mutex<List>>,
    changes: Arc<watch::Sender<u64>>,
    endings: Endings,
    sent: Sent,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    proxies: BTreeMap<u64, ProxyStatus>,
}

impl Default for Proxies {
    fn default() -> Proxies {
        let changes = Arc::new(watch::Sender::new(0));
        Proxies { list: Arc::default(), changes, endings: Endings::default(), sent: Sent::default() }
    }
}

impl Proxies {
    /// A proxy is there until the guard is dropped.
    pub fn add(&self, identity: &Identity, locality: &str, address: String) -> Connected {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let number = list.next;
        list.next += 1;
        let status = ProxyStatus {
            name: format!("{}.{}", identity.pod, identity.namespace),
            namespace: identity.namespace.clone(),
            pod: identity.pod.clone(),
            service_account: identity.service_account.clone(),
            version: String::new(),
            address,
            locality: locality.to_owned(),
            connected_since: jiff::Timestamp::now().to_string(),
            kinds: BTreeMap::new(),
            class: 0,
        };
        list.proxies.insert(number, status);
        drop(list);
        self.changes.send_modify(|change| *change += 1);
        Connected { proxies: self.clone(), number }
    }

    #[must_use]
    pub fn all(&self) -> Vec<ProxyStatus> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).proxies.values().cloned().collect()
    }

    /// Changes whenever a proxy comes, goes, or gets on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Streams that ended.
    #[must_use]
    pub fn endings(&self) -> &Endings {
        &self.endings
    }

    /// What they were sent, by all streams of this replica.
    #[must_use]
    pub fn sent(&self) -> &Sent {
        &self.sent
    }
}

/// One proxy's entry.
pub struct Connected {
    proxies: Proxies,
    number: u64,
}

impl Connected {
    /// Notes how far it is.
    pub(super) fn note(&self, stream: &ServerStream, class: u64) {
        let mut list = self.proxies.list.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(status) = list.proxies.get_mut(&self.number) else { return };
        if status.version.is_empty()
            && let Some(node) = stream.node()
        {
            status.version.clone_from(&node.user_agent_version);
        }
        status.class = class;
        let now = jiff::Timestamp::now().to_string();
        let before = std::mem::take(&mut status.kinds);
        let kinds = Kind::ALL.into_iter();
        status.kinds =
            kinds.map(|kind| (kind, KindStatus::from(stream.sync(kind)).since(before.get(&kind), &now))).collect();
        drop(list);
        self.proxies.changes.send_modify(|change| *change += 1);
    }
}

impl Connected {
    /// The proxy is gone, and this is why.
    pub(super) fn end(self, ending: Ending) {
        self.proxies.endings.count(ending);
    }

    /// Something is sent to it.
    pub(super) fn count(&self, response: &DeltaDiscoveryResponse) {
        self.proxies.sent.count(response);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.proxies.list.lock().unwrap_or_else(PoisonError::into_inner).proxies.remove(&self.number);
        self.proxies.changes.send_modify(|change| *change += 1);
    }
}

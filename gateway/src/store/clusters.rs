//! Live clusters over the generations: what has the same key keeps its endpoints, its balancer and its connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_core::lb::{Balancer, EndpointSet};
use mesh_core::model::{Destination, Endpoint, EndpointAddress, Endpoints, Key, ResourceSet};
use tokio::sync::mpsc;

use crate::live::LiveCluster;
use crate::upstream::Resolver;

/// Names that were resolved again.
pub struct Resolved {
    endpoints: Arc<Endpoints>,
    addresses: Vec<(Endpoint, SocketAddr)>,
}

pub struct Clusters {
    resolver: Arc<Resolver>,
    resolve_wait: Duration,
    clusters: HashMap<Key, Arc<LiveCluster>>,
    /// By key of the destination, also for those that are not published yet.
    cells: HashMap<Key, Cell>,
    next_id: u64,
    pub resolved: mpsc::UnboundedReceiver<Resolved>,
    send_resolved: mpsc::UnboundedSender<Resolved>,
}

struct Cell {
    /// What the set was made from.
    from: Option<Arc<Endpoints>>,
    set: Arc<ArcSwap<EndpointSet>>,
}

impl Clusters {
    pub fn new(resolver: Arc<Resolver>, resolve_wait: Duration) -> Clusters {
        let (send_resolved, resolved) = mpsc::unbounded_channel();
        Clusters {
            resolver,
            resolve_wait,
            clusters: HashMap::new(),
            cells: HashMap::new(),
            next_id: 1,
            resolved,
            send_resolved,
        }
    }

    /// Brings the endpoints of all destinations up to date; those that are not in the tables yet, too. Cells of destinations that
    /// are gone are dropped at the next call, when nobody new can look into them.
    ///
    /// `apart`: the tables change with them. Requests of the tables that are served keep the endpoints that belong to those.
    pub async fn fill_endpoints(&mut self, set: &ResourceSet, apart: bool) {
        self.cells.retain(|key, _| set.destinations.contains_key(key) || self.clusters.contains_key(key));
        let mut names = Vec::new();
        for key in set.destinations.keys() {
            names.extend(self.fill(key, set.endpoints.get(key), apart));
        }
        self.resolve(names, apart).await;
    }

    /// The same for a few destinations whose endpoints changed, and nothing else did.
    pub async fn change_endpoints(&mut self, set: &ResourceSet, keys: impl Iterator<Item = &Key>) {
        let mut names = Vec::new();
        for key in keys.filter(|key| set.destinations.contains_key(*key)) {
            names.extend(self.fill(key, set.endpoints.get(key), false));
        }
        self.resolve(names, false).await;
    }

    /// Yields the endpoints if they have names, which must be resolved first.
    fn fill(&mut self, key: &Key, endpoints: Option<&Arc<Endpoints>>, apart: bool) -> Option<Arc<Endpoints>> {
        let cell = self.cells.entry(key.clone()).or_insert_with(|| Cell { from: None, set: Arc::default() });
        let same = match (&cell.from, endpoints) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if same {
            return None;
        }
        cell.from = endpoints.cloned();
        let named = endpoints.filter(|endpoints| has_names(endpoints)).cloned();
        if named.is_none() {
            cell.put(&sockets(endpoints), apart);
        }
        named
    }

    /// The tables that were to come with the last [`Self::fill_endpoints`] do not come: what is served stays filled.
    pub fn take_back(&mut self) {
        for (key, cluster) in &self.clusters {
            if let Some(cell) = self.cells.get_mut(key)
                && !Arc::ptr_eq(&cell.set, &cluster.endpoints)
            {
                *cell = Cell { from: None, set: cluster.endpoints.clone() };
            }
        }
    }

    /// All at once, so that the slowest name decides.
    async fn resolve(&mut self, names: Vec<Arc<Endpoints>>, apart: bool) {
        let mut tasks = tokio::task::JoinSet::new();
        for endpoints in names {
            let (resolver, wait) = (self.resolver.clone(), self.resolve_wait);
            tasks.spawn(async move {
                let addresses = resolver.resolve_now(&endpoints.endpoints, wait).await;
                Resolved { endpoints, addresses }
            });
        }
        while let Some(resolved) = tasks.join_next().await {
            if let Ok(resolved) = resolved
                && let Some(cell) = self.cells.get_mut(&resolved.endpoints.key)
            {
                cell.put(&resolved.addresses, apart);
            }
        }
    }

    /// Starts to resolve again what has names, or only what has no address yet; the results come through `resolved`.
    pub fn refresh_names(&self, set: &ResourceSet, all: bool) {
        let empty = |key: &Key| self.cells.get(key).is_some_and(|cell| cell.set.load().is_empty());
        let wanted = |endpoints: &&Arc<Endpoints>| (all || empty(&endpoints.key)) && has_names(endpoints);
        for endpoints in set.endpoints.values().filter(wanted) {
            let (resolver, endpoints) = (self.resolver.clone(), endpoints.clone());
            let (wait, send) = (self.resolve_wait, self.send_resolved.clone());
            tokio::spawn(async move {
                let addresses = resolver.resolve_now(&endpoints.endpoints, wait).await;
                let _ = send.send(Resolved { endpoints, addresses });
            });
        }
    }

    /// A name that does not resolve any more keeps its addresses.
    pub fn refreshed(&mut self, set: &ResourceSet, resolved: Resolved) {
        let current = set.endpoints.get(&resolved.endpoints.key);
        if !resolved.addresses.is_empty()
            && current.is_some_and(|current| Arc::ptr_eq(current, &resolved.endpoints))
            && let Some(cell) = self.cells.get_mut(&resolved.endpoints.key)
        {
            cell.put(&resolved.addresses, false);
        }
    }

    /// The clusters of these destinations, in their order.
    pub fn of(&mut self, destinations: &[Arc<Destination>]) -> Vec<Arc<LiveCluster>> {
        let clusters: Vec<Arc<LiveCluster>> = destinations.iter().map(|destination| self.one(destination)).collect();
        self.clusters = clusters.iter().map(|cluster| (cluster.destination.key.clone(), cluster.clone())).collect();
        clusters
    }

    fn one(&mut self, destination: &Arc<Destination>) -> Arc<LiveCluster> {
        let cell =
            self.cells.entry(destination.key.clone()).or_insert_with(|| Cell { from: None, set: Arc::default() });
        let old = self.clusters.get(&destination.key);
        let same = |old: &&Arc<LiveCluster>| {
            Arc::ptr_eq(&old.destination, destination) && Arc::ptr_eq(&old.endpoints, &cell.set)
        };
        if let Some(old) = old.filter(same) {
            return old.clone();
        }
        let same_protocol = old.filter(|old| old.destination.protocol == destination.protocol);
        let id = same_protocol.map_or_else(
            || {
                let id = self.next_id;
                self.next_id = id.saturating_add(1);
                id
            },
            |old| old.id,
        );
        let same_balancing = old.filter(|old| old.destination.balancing == destination.balancing);
        let balancer =
            same_balancing.map_or_else(|| Arc::new(Balancer::new(destination.balancing)), |old| old.balancer.clone());
        Arc::new(LiveCluster { destination: destination.clone(), endpoints: cell.set.clone(), balancer, id })
    }
}

impl Cell {
    /// `apart`: those who look into the set now do not see the change.
    fn put(&mut self, addresses: &[(Endpoint, SocketAddr)], apart: bool) {
        let previous = self.set.load_full();
        let new = EndpointSet::build(addresses, Some(&previous));
        if new.iter().map(Arc::as_ptr).eq(previous.iter().map(Arc::as_ptr)) {
            return;
        }
        if apart {
            self.set = Arc::new(ArcSwap::from_pointee(new));
        } else {
            self.set.store(Arc::new(new));
        }
    }
}

fn has_names(endpoints: &Endpoints) -> bool {
    endpoints.endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Dns { .. }))
}

fn sockets(endpoints: Option<&Arc<Endpoints>>) -> Vec<(Endpoint, SocketAddr)> {
    let endpoints = endpoints.map(|endpoints| endpoints.endpoints.as_slice()).unwrap_or_default();
    let addresses = endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        EndpointAddress::Socket(address) => Some((endpoint.clone(), *address)),
        EndpointAddress::Dns { .. } => None,
    });
    addresses.collect()
}

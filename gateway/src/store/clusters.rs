//! Live clusters over the generations: what has the same key keeps its endpoints, its balancer and its connections.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::lb::Balancer;
use mesh_core::model::{Destination, DiffItem, Endpoint, EndpointAddress, Endpoints, Key, Limits, Place, ResourceSet};
use tokio::sync::mpsc;

use super::cell::Cell;
use super::originations::Originations;
use crate::live::{LiveCluster, OutlierReport, OutlierWatch};
use crate::upstream::{NamedHosts, Resolver};

/// Names that were resolved again.
pub struct Resolved {
    endpoints: Arc<Endpoints>,
    addresses: Vec<(Endpoint, SocketAddr)>,
}

pub struct Clusters {
    resolver: Arc<Resolver>,
    /// Of names that clients choose.
    of_requests: Arc<Resolver>,
    resolve_wait: Duration,
    /// Where this proxy is.
    place: Place,
    /// Those that are served, by key and in the order of the tables.
    clusters: HashMap<Key, Arc<LiveCluster>>,
    served: Vec<Arc<LiveCluster>>,
    /// By key of the destination, also for those that are not published yet.
    cells: HashMap<Key, Cell>,
    /// Destinations that are gone, and have cells.
    leaving: BTreeSet<Key>,
    /// Destinations whose cells hold another set than the clusters that are served.
    replaced: BTreeSet<Key>,
    next_id: u64,
    pub resolved: mpsc::UnboundedReceiver<Resolved>,
    send_resolved: mpsc::UnboundedSender<Resolved>,
    /// Endpoints that fail.
    pub reports: mpsc::UnboundedReceiver<OutlierReport>,
    send_reports: mpsc::UnboundedSender<OutlierReport>,
    /// When one of those that are out may come back, or one that is new gets more.
    next_look: Option<Instant>,
}

impl Clusters {
    pub fn new(resolver: Arc<Resolver>, resolve_wait: Duration, place: Place) -> Clusters {
        let (send_resolved, resolved) = mpsc::unbounded_channel();
        let (send_reports, reports) = mpsc::unbounded_channel();
        Clusters {
            resolver,
            of_requests: Resolver::of_requests(),
            resolve_wait,
            place,
            clusters: HashMap::new(),
            served: Vec::new(),
            cells: HashMap::new(),
            leaving: BTreeSet::new(),
            replaced: BTreeSet::new(),
            next_id: 1,
            resolved,
            send_resolved,
            reports,
            send_reports,
            next_look: None,
        }
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where this proxy is, as is known from now on.
    pub fn move_to(&mut self, place: Place) {
        let now = Instant::now();
        self.cells.values_mut().for_each(|cell| cell.move_to(&place, now));
        self.place = place;
    }

    /// Brings the endpoints up to date of destinations that come with `new`, or whose endpoints do; those that are not in the
    /// tables yet, too. Cells of destinations that are gone are dropped when nobody new can look into them.
    ///
    /// `apart`: the tables change with them. Requests of the tables that are served keep the endpoints that belong to those.
    pub async fn fill_endpoints(&mut self, old: &ResourceSet, new: &ResourceSet, apart: bool) {
        let mut wanted: BTreeSet<&Key> = BTreeSet::new();
        for difference in old.destinations.diff(&new.destinations) {
            match difference {
                DiffItem::Add(key, _) => drop(wanted.insert(key)),
                DiffItem::Remove(key, _) => drop(self.leaving.insert(key.clone())),
                DiffItem::Update { old: (_, old), new: (key, new) } => {
                    if !Cell::is_shaped_alike(old, new) {
                        wanted.insert(key);
                    }
                }
            }
        }
        for difference in old.endpoints.diff(&new.endpoints) {
            let (DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _)) =
                difference;
            wanted.extend(new.destinations.get_key_value(key).map(|(key, _)| key));
        }
        let wanted: Vec<_> = wanted.into_iter().filter_map(|key| new.destinations.get(key)).collect();
        self.leaving.retain(|key| {
            let (stays, served) = (new.destinations.contains_key(key), self.clusters.contains_key(key));
            if !stays && !served {
                self.cells.remove(key);
            }
            !stays && served
        });
        let names = wanted
            .into_iter()
            .filter_map(|destination| self.fill(destination, new.endpoints.get(&destination.key), apart))
            .collect();
        self.resolve(names, apart).await;
    }

    /// Yields the endpoints if they have names, which must be resolved first.
    fn fill(
        &mut self,
        destination: &Destination,
        endpoints: Option<&Arc<Endpoints>>,
        apart: bool,
    ) -> Option<Arc<Endpoints>> {
        let key = &destination.key;
        let (place, now) = (&self.place, Instant::now());
        let cell = self.cells.entry(key.clone()).or_insert_with(|| Cell::new(destination, place));
        if cell.reshape(destination, place, apart, now) {
            self.replaced.insert(key.clone());
        }
        let same = match (&cell.from, endpoints) {
            (Some(old), Some(new)) => old == new,
            (None, None) => true,
            _ => false,
        };
        if same {
            // Another shape may warm up what is there.
            self.next_look = earliest(self.next_look, cell.due());
            return None;
        }
        cell.from = endpoints.cloned();
        let named = endpoints.filter(|endpoints| has_names(endpoints)).cloned();
        if named.is_none() {
            let replaced = cell.put(&sockets(endpoints), apart, now);
            self.replaced.extend(replaced.then(|| key.clone()));
        }
        self.next_look = earliest(self.next_look, cell.due());
        named
    }

    /// The tables that were to come with the last [`Self::fill_endpoints`] do not come: what is served stays filled.
    pub fn take_back(&mut self) {
        for (key, cluster) in &self.clusters {
            if let Some(cell) = self.cells.get_mut(key)
                && !Arc::ptr_eq(&cell.set, &cluster.endpoints)
            {
                cell.take_back(&cluster.destination, &self.place, &cluster.endpoints);
                self.next_look = earliest(self.next_look, cell.due());
            }
        }
        self.leaving.extend(self.cells.keys().filter(|key| !self.clusters.contains_key(*key)).cloned());
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
                let replaced = cell.put(&resolved.addresses, apart, Instant::now());
                self.replaced.extend(replaced.then(|| resolved.endpoints.key.clone()));
                self.next_look = earliest(self.next_look, cell.due());
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
            && current == Some(&resolved.endpoints)
            && let Some(cell) = self.cells.get_mut(&resolved.endpoints.key)
        {
            cell.put(&resolved.addresses, false, Instant::now());
            self.next_look = earliest(self.next_look, cell.due());
        }
    }

    /// Decides about an endpoint that fails.
    pub fn decide(&mut self, report: &OutlierReport) {
        if let Some(cell) = self.cells.get_mut(&report.key) {
            let look = cell.decide(report, Instant::now());
            self.next_look = earliest(self.next_look, look);
        }
    }

    /// Until somebody who is out may come back, or who is new gets more; without end if nobody is.
    pub fn somebody_may_return(&self) -> impl Future<Output = ()> + use<> {
        let due = self.next_look;
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Looks after those that are out, or new.
    pub fn look(&mut self) {
        let now = Instant::now();
        self.next_look = self.cells.iter_mut().filter_map(|(key, cell)| cell.look(key, now)).min();
    }

    /// The clusters of these destinations, in their order.
    pub fn of(&mut self, destinations: &[Arc<Destination>], originations: &Originations) -> Vec<Arc<LiveCluster>> {
        let replaced = std::mem::take(&mut self.replaced);
        let mut clusters = Vec::with_capacity(destinations.len());
        let mut news = Vec::new();
        for (index, destination) in destinations.iter().enumerate() {
            let old = self.served.get(index).filter(|old| Arc::ptr_eq(&old.destination, destination));
            if let Some(old) = old.filter(|_| replaced.is_empty() || !replaced.contains(&destination.key)) {
                clusters.push(old.clone());
            } else {
                let new = self.one(destination, originations);
                news.push(new.clone());
                clusters.push(new);
            }
        }
        let gone = self
            .served
            .iter()
            .enumerate()
            .filter(|(index, old)| clusters.get(*index).is_none_or(|new| !Arc::ptr_eq(new, old)));
        for (_, old) in gone {
            self.clusters.remove(&old.destination.key);
        }
        self.clusters.extend(news.into_iter().map(|cluster| (cluster.destination.key.clone(), cluster)));
        self.served.clone_from(&clusters);
        clusters
    }

    fn one(&mut self, destination: &Arc<Destination>, originations: &Originations) -> Arc<LiveCluster> {
        let cell = self.cells.entry(destination.key.clone()).or_insert_with(|| Cell::new(destination, &self.place));
        let old = self.clusters.get(&destination.key);
        let same = |old: &&Arc<LiveCluster>| {
            Arc::ptr_eq(&old.destination, destination) && Arc::ptr_eq(&old.endpoints, &cell.set)
        };
        if let Some(old) = old.filter(same) {
            return old.clone();
        }
        let may_share = |old: &&Arc<LiveCluster>| {
            old.destination.protocol == destination.protocol && old.destination.connections == destination.connections
        };
        let id = old.filter(may_share).map_or_else(
            || {
                let id = self.next_id;
                self.next_id = id.saturating_add(1);
                id
            },
            |old| old.id,
        );
        let same_balancing = old.filter(|old| old.destination.balancing == destination.balancing);
        let balancer = same_balancing
            .map_or_else(|| Arc::new(Balancer::new(destination.balancing.clone())), |old| old.balancer.clone());
        let breaker = (destination.limits != Limits::default()).then(|| cell.breaker());
        let outliers =
            destination.outlier.is_some().then(|| OutlierWatch::new(self.send_reports.clone(), cell.ejected()));
        Arc::new(LiveCluster {
            destination: destination.clone(),
            endpoints: cell.set.clone(),
            balancer,
            breaker,
            outliers,
            origination: originations.cell(destination),
            names: NamedHosts::of(destination, &self.of_requests),
            id,
        })
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn has_names(endpoints: &Endpoints) -> bool {
    endpoints.endpoints.iter().any(|endpoint| matches!(endpoint.address, EndpointAddress::Dns { .. }))
}

fn sockets(endpoints: Option<&Arc<Endpoints>>) -> Vec<(Endpoint, SocketAddr)> {
    let endpoints = endpoints.map(|endpoints| endpoints.endpoints.as_slice()).unwrap_or_default();
    let addresses = endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        EndpointAddress::Socket(address) => Some((endpoint.clone(), *address)),
        EndpointAddress::Unix(path) => Some((endpoint.clone(), EndpointAddress::stand_in(path))),
        EndpointAddress::Dns { .. } => None,
    });
    addresses.collect()
}

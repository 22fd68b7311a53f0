//! Unused connections go: those that nobody used for too long, those that the upstream closed, and those of clusters and
//! endpoints that are not in the tables any more. One task per worker, no timer per connection.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mesh_core::lb::EndpointSet;

use crate::live::{Cells, Live, LiveCluster};
use crate::tls::origination::OriginationCell;

use super::Pools;
use super::host::{HostKey, TlsKey};
use super::pool::{ClusterPool, Compared};

/// How often unused connections are looked at. Also the grain of idle timeouts.
const PERIOD: Duration = Duration::from_secs(1);
/// In a pool that is almost full, connections of quiet endpoints make room for those of busy ones.
const CROWDED_PATIENCE: Duration = Duration::from_secs(5);

impl Pools {
    /// Sweeps for as long as it is polled. To be spawned once on the worker's runtime.
    pub async fn run(self: Arc<Self>, cells: Arc<Cells>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep(Instant::now(), &cells.live.load());
        }
    }

    pub(super) fn sweep(&self, now: Instant, live: &Live) {
        let passed = now.saturating_duration_since(self.start).as_millis();
        self.clock.store(u64::try_from(passed).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut places = Places { live, by_id: None };
        self.clusters().retain(|id, pool| {
            let Some(cluster) = places.find(*id, &mut pool.position) else {
                pool.hosts.values().for_each(|host| host.close(&self.idle_total));
                return false;
            };
            self.close_removed(pool, cluster);
            let idle_timeout = self.patience(cluster.destination.idle_timeout);
            pool.hosts.values().for_each(|host| host.sweep(now, idle_timeout, &self.idle_total));
            true
        });
    }

    fn patience(&self, idle_timeout: Duration) -> Duration {
        let crowded = self.idle_total.load(Ordering::Relaxed) > self.limits.idle_total / 4 * 3;
        if crowded { idle_timeout.min(CROWDED_PATIENCE) } else { idle_timeout }
    }

    /// Requests of an older snapshot may still come for a removed endpoint: they make it again, for one period. Connections
    /// that were agreed under an older certificate, or older roots, go like those of endpoints that are gone.
    fn close_removed(&self, pool: &mut ClusterPool, cluster: &LiveCluster) {
        // Most have none.
        pool.hosts.retain(|_, host| {
            let keep = !host.speaks_for_nobody();
            if !keep {
                host.close(&self.idle_total);
            }
            keep
        });
        if !cluster.destination.reach.needs_endpoints() {
            // Any address is one of its.
            pool.hosts.retain(|_, host| !host.is_unused());
            return;
        }
        let endpoints = cluster.endpoints.load();
        if let Some(origin) = &cluster.origination {
            return self.close_unnamed(pool, &endpoints, origin);
        }
        let (generation, tls) = (self.workload.load().generation, cluster.destination.tls.clone());
        let unchanged = pool.compared.as_ref().is_some_and(|compared| {
            Arc::ptr_eq(&compared.endpoints, &endpoints) && compared.generation == generation && compared.tls == tls
        });
        if unchanged {
            return;
        }
        let present: HashSet<HostKey> =
            endpoints.iter().map(|endpoint| self.key_of(&tls, endpoint, generation)).collect();
        pool.hosts.retain(|key, host| {
            let keep = match key.client {
                None => present.contains(key),
                Some(_) => present.contains(&HostKey { client: None, ..key.clone() }),
            };
            if !keep {
                host.close(&self.idle_total);
            }
            keep
        });
        pool.compared = Some(Compared { endpoints: Arc::clone(&endpoints), generation, tls });
    }

    /// The same where clients choose the names that servers are asked for: those that nobody uses go, too.
    fn close_unnamed(&self, pool: &mut ClusterPool, endpoints: &EndpointSet, origin: &OriginationCell) {
        let current = origin.client().ok().map(|client| client.id);
        let present: HashSet<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        pool.hosts.retain(|key, host| {
            let known = matches!(key.tls, Some(TlsKey::Origin { client, .. }) if Some(client) == current);
            let keep = known && present.contains(&key.address);
            if !keep {
                host.close(&self.idle_total);
            }
            keep && !host.is_unused()
        });
    }
}

/// Finds clusters by id. Positions rarely change, so the index is only made when one did.
struct Places<'a> {
    live: &'a Live,
    by_id: Option<HashMap<u64, usize>>,
}

impl<'a> Places<'a> {
    fn find(&mut self, id: u64, position: &mut usize) -> Option<&'a LiveCluster> {
        let clusters = &self.live.clusters;
        if let Some(cluster) = clusters.get(*position).filter(|cluster| cluster.id == id) {
            return Some(cluster);
        }
        let by_id = self
            .by_id
            .get_or_insert_with(|| clusters.iter().enumerate().map(|(at, cluster)| (cluster.id, at)).collect());
        *position = *by_id.get(&id)?;
        clusters.get(*position).map(Arc::as_ref)
    }
}

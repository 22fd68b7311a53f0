//! The validated model: what `translate` yields, what travels to proxies, what `compile` reads. It knows nothing of the
//! users' API: names are resolved, defaults are filled in, conflicts are settled. Everything in it has a key and names
//! the user's object it comes from (`origin`).

mod action;
mod destination;
mod endpoint;
mod listener;
mod predicate;
mod proxy_info;
mod route;
mod settings;
mod tls;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use action::*;
pub use destination::*;
pub use endpoint::*;
pub use listener::*;
pub use predicate::*;
pub use proxy_info::*;
pub use route::*;
pub use settings::*;
pub use tls::*;

/// Key of a resource: unique among the resources of its type for one proxy, stable over changes.
pub type Key = Arc<str>;

/// All that one proxy needs. `Arc` per resource, so that unchanged parts are shared between generations and `compile`
/// can tell by pointer that a part did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSet {
    pub listeners: BTreeMap<Key, Arc<Listener>>,
    pub routes: BTreeMap<Key, Arc<RouteSet>>,
    pub destinations: BTreeMap<Key, Arc<Destination>>,
    /// By key of the destination.
    pub endpoints: BTreeMap<Key, Arc<Endpoints>>,
    /// By `namespace/name`, or by the name of the files for servers that name files.
    pub secrets: BTreeMap<Key, Arc<Secret>>,
}

impl ResourceSet {
    /// Takes the parts of `previous` that are equal, so that they are the same allocation in both generations: a later
    /// compile then sees by pointer that they did not change. Works down to the virtual hosts of a route set.
    pub fn reuse(&mut self, previous: &ResourceSet) {
        share(&mut self.listeners, &previous.listeners);
        share_routes(&mut self.routes, &previous.routes);
        share(&mut self.destinations, &previous.destinations);
        share(&mut self.endpoints, &previous.endpoints);
        share(&mut self.secrets, &previous.secrets);
    }
}

fn share<T: PartialEq>(new: &mut BTreeMap<Key, Arc<T>>, old: &BTreeMap<Key, Arc<T>>) {
    for (key, value) in new {
        if let Some(previous) = old.get(key)
            && (Arc::ptr_eq(value, previous) || **value == **previous)
        {
            *value = Arc::clone(previous);
        }
    }
}

fn share_routes(new: &mut BTreeMap<Key, Arc<RouteSet>>, old: &BTreeMap<Key, Arc<RouteSet>>) {
    for (key, set) in new {
        let Some(previous) = old.get(key) else { continue };
        if Arc::ptr_eq(set, previous) {
            continue;
        }
        let by_host: HashMap<&HostPattern, &Arc<VirtualHost>> =
            previous.virtual_hosts.iter().map(|host| (&host.host, host)).collect();
        let fresh = Arc::make_mut(set);
        for host in &mut fresh.virtual_hosts {
            if let Some(same) = by_host.get(&host.host).filter(|same| ***same == *host) {
                *host = Arc::clone(same);
            }
        }
        let unchanged = fresh.origin == previous.origin
            && fresh.virtual_hosts.len() == previous.virtual_hosts.len()
            && fresh.virtual_hosts.iter().zip(&previous.virtual_hosts).all(|(a, b)| Arc::ptr_eq(a, b));
        if unchanged {
            *set = Arc::clone(previous);
        }
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod reuse_tests;

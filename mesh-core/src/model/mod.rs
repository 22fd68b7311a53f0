//! The validated model: what `translate` yields, what travels to proxies, what `compile` reads. It knows nothing of the
//! users' API: names are resolved, defaults are filled in, conflicts are settled. Everything in it has a key and names
//! the user's object it comes from (`origin`).

mod action;
mod authorizer;
mod balancing;
mod captured;
mod challenge;
mod destination;
mod dns_name;
mod endpoint;
mod ip_families;
mod limits;
mod listener;
mod locality;
mod names;
mod on_demand;
mod outlier;
mod policy;
mod predicate;
mod proxy_info;
mod rate_limit;
mod retry;
mod route;
mod settings;
mod share;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;
/// What is different between two [`Resources`].
pub use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

pub use action::*;
pub use authorizer::*;
pub use balancing::*;
pub use captured::*;
pub use challenge::*;
pub use destination::*;
pub use dns_name::*;
pub use endpoint::*;
pub use ip_families::*;
pub use limits::*;
pub use listener::*;
pub use locality::*;
pub use names::Names;
pub use on_demand::*;
pub use outlier::*;
pub use policy::*;
pub use predicate::*;
pub use proxy_info::*;
pub use rate_limit::*;
pub use retry::*;
pub use route::*;
pub use settings::*;
pub use share::*;
pub use tls::*;

/// What means the default is not written out: most rules say little, and there are thousands of them on their way and kept as
/// they are sent.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Key of a resource: unique among the resources of its type for one proxy, stable over changes.
pub type Key = Arc<str>;

/// Resources of one type. A copy shares all but what is changed in it afterwards, so that thousands of resources cost a change
/// of one of them next to nothing, and two maps of which one comes from the other are compared by what is different.
pub type Resources<T> = OrdMap<Key, Arc<T>>;

/// All that one proxy needs. `Arc` per resource, so that unchanged parts are shared between generations and `compile`
/// can tell by pointer that a part did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSet {
    pub listeners: Resources<Listener>,
    pub routes: Resources<RouteSet>,
    pub destinations: Resources<Destination>,
    /// By key of the destination.
    pub endpoints: Resources<Endpoints>,
    /// By `namespace/name`, or by the name of the files for servers that name files.
    pub secrets: Resources<Secret>,
    /// By `namespace/name`, in the order in which they are looked at.
    #[serde(default)]
    pub authorization: Resources<Authorization>,
    /// By `namespace/name`.
    #[serde(default)]
    pub authentication: Resources<Authentication>,
    /// By `namespace/name`, in the order in which they count.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub rate_limits: Resources<RateLimits>,
    /// By name, in lower case; `*.example.com` stands for every name below.
    #[serde(default)]
    pub dns: Resources<DnsName>,
    /// By key of the secret.
    #[serde(default)]
    pub challenges: Resources<Challenge>,
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
        share(&mut self.authorization, &previous.authorization);
        share(&mut self.authentication, &previous.authentication);
        share(&mut self.rate_limits, &previous.rate_limits);
        share(&mut self.dns, &previous.dns);
        share(&mut self.challenges, &previous.challenges);
    }
}

fn share<T: Eq>(new: &mut Resources<T>, old: &Resources<T>) {
    let mut shared = old.clone();
    for difference in old.diff(new) {
        match difference {
            DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => {
                shared.insert(Key::clone(key), Arc::clone(value));
            }
            DiffItem::Remove(key, _) => drop(shared.remove(key)),
        }
    }
    *new = shared;
}

fn share_routes(new: &mut Resources<RouteSet>, old: &Resources<RouteSet>) {
    let mut shared = old.clone();
    for difference in old.diff(new) {
        match difference {
            DiffItem::Add(key, set) => drop(shared.insert(Key::clone(key), Arc::clone(set))),
            DiffItem::Update { old: (_, previous), new: (key, set) } => {
                shared.insert(Key::clone(key), Arc::new(with_hosts_of(previous, set)));
            }
            DiffItem::Remove(key, _) => drop(shared.remove(key)),
        }
    }
    *new = shared;
}

fn with_hosts_of(previous: &RouteSet, set: &RouteSet) -> RouteSet {
    let by_host: HashMap<&HostPattern, &Arc<VirtualHost>> =
        previous.virtual_hosts.iter().map(|host| (&host.host, host)).collect();
    let shared = |host: &Arc<VirtualHost>| {
        let same = by_host.get(&host.host).filter(|same| **same == host);
        Arc::clone(same.map_or(host, |same| *same))
    };
    RouteSet { virtual_hosts: set.virtual_hosts.iter().map(shared).collect(), ..set.clone() }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod reuse_tests;

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
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use action::*;
pub use destination::*;
pub use endpoint::*;
pub use listener::*;
pub use predicate::*;
pub use proxy_info::*;
pub use route::*;
pub use tls::*;

/// Key of a resource: unique among the resources of its type for one proxy, stable over changes.
pub type Key = Arc<str>;

/// All that one proxy needs. `Arc` per resource, so that unchanged parts are shared between generations and `compile`
/// can tell by pointer that a part did not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceSet {
    pub listeners: BTreeMap<Key, Arc<Listener>>,
    pub routes: BTreeMap<Key, Arc<RouteSet>>,
    pub destinations: BTreeMap<Key, Arc<Destination>>,
    /// By key of the destination.
    pub endpoints: BTreeMap<Key, Arc<Endpoints>>,
    /// By `namespace/name`, or by the name of the files for servers that name files.
    pub secrets: BTreeMap<Key, Arc<Secret>>,
}

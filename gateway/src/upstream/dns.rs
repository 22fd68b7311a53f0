//! Endpoints that are names: resolved before they are first published, and again whenever somebody asks. A name that
//! resolved once keeps its last addresses however long it fails afterwards.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_core::model::{Endpoint, EndpointAddress};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Lookups at a time: each takes a thread.
const LOOKUPS: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Times {
    /// An answer this young, or a failure, is not asked for again. The system's resolver tells no TTL.
    fresh: Duration,
    /// A lookup that takes longer has failed.
    lookup: Duration,
    /// How long somebody waits for new addresses where there are old ones.
    grace: Duration,
    /// A name that nobody asked for that long is forgotten.
    forget: Duration,
}

const TIMES: Times = Times {
    fresh: Duration::from_secs(4),
    lookup: Duration::from_secs(10),
    grace: Duration::from_millis(50),
    forget: Duration::from_secs(600),
};

type Lookup = dyn Fn(Arc<str>) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync;

/// Resolves names; one for the process, on the control runtime.
pub struct Resolver {
    lookup: Box<Lookup>,
    names: Mutex<HashMap<Arc<str>, Name>>,
    permits: Semaphore,
    times: Times,
}

struct Name {
    state: watch::Sender<State>,
    asked: Instant,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// The last good ones.
    addresses: Arc<[IpAddr]>,
    /// End of the last lookup, good or not.
    done: Option<Instant>,
    running: bool,
}

impl Resolver {
    /// Asks the system (`/etc/hosts`, `/etc/resolv.conf`).
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_lookup(TIMES, |host| {
            Box::pin(async move {
                let addresses = tokio::net::lookup_host((&*host, 0)).await?;
                Ok(addresses.map(|address| address.ip()).collect())
            })
        })
    }

    fn with_lookup<F>(times: Times, lookup: F) -> Arc<Self>
    where
        F: Fn(Arc<str>) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync + 'static,
    {
        Arc::new(Self { lookup: Box::new(lookup), names: Mutex::default(), permits: Semaphore::new(LOOKUPS), times })
    }

    /// Addresses of all endpoints that have some by then; a name with several addresses yields several. Names are looked
    /// up again unless they just were. Those without addresses are waited for until the `deadline`, the others a moment;
    /// lookups that take longer go on, and the next call has their answer.
    pub async fn resolve_now(
        self: &Arc<Self>,
        endpoints: &[Endpoint],
        deadline: Duration,
    ) -> Vec<(Endpoint, SocketAddr)> {
        let start = Instant::now();
        let mut names: HashMap<Arc<str>, watch::Receiver<State>> = HashMap::new();
        for endpoint in endpoints {
            if let EndpointAddress::Dns { host, .. } = &endpoint.address {
                names.entry(host.clone()).or_insert_with(|| self.refresh(host, start));
            }
        }
        for state in names.values_mut() {
            let patience = if state.borrow().addresses.is_empty() { deadline } else { deadline.min(self.times.grace) };
            // Who is late has no addresses, or the old ones.
            let _ = timeout_at(start + patience, state.wait_for(|state| !state.running)).await;
        }
        let mut resolved = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            match &endpoint.address {
                EndpointAddress::Socket(address) => resolved.push((endpoint.clone(), *address)),
                EndpointAddress::Dns { host, port } => {
                    let addresses = names.get(host).map(|state| state.borrow().addresses.clone()).unwrap_or_default();
                    let sockets = addresses.iter().map(|ip| (endpoint.clone(), SocketAddr::new(*ip, *port)));
                    resolved.extend(sockets);
                }
            }
        }
        resolved
    }

    /// Starts a lookup unless one runs or the answer is fresh.
    fn refresh(self: &Arc<Self>, host: &Arc<str>, now: Instant) -> watch::Receiver<State> {
        let mut names = self.names();
        if !names.contains_key(host) {
            names.retain(|_, name| now.duration_since(name.asked) < self.times.forget);
        }
        let name = names.entry(host.clone()).or_insert_with(|| Name { state: watch::Sender::default(), asked: now });
        name.asked = now;
        let due = name.state.send_if_modified(|state| {
            let fresh = state.done.is_some_and(|done| now.saturating_duration_since(done) < self.times.fresh);
            let due = !state.running && !fresh;
            state.running |= due;
            due
        });
        if due {
            tokio::spawn(Arc::clone(self).look_up(host.clone(), name.state.clone()));
        }
        name.state.subscribe()
    }

    async fn look_up(self: Arc<Self>, host: Arc<str>, state: watch::Sender<State>) {
        let answer = timeout(self.times.lookup, async {
            // Never closed.
            let _permit = self.permits.acquire().await;
            (self.lookup)(host.clone()).await
        });
        let answer = answer.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let good = match answer {
            Ok(addresses) => Some(usable(addresses)).filter(|addresses| !addresses.is_empty()),
            Err(error) => {
                tracing::debug!(%host, %error, "name does not resolve");
                None
            }
        };
        state.send_modify(|state| {
            if let Some(addresses) = good {
                state.addresses = addresses;
            }
            state.done = Some(Instant::now());
            state.running = false;
        });
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Arc<str>, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In a fixed order, so that the same answer makes the same set. As Istio's default (V4_ONLY), but names that have only
/// IPv6 addresses work too.
fn usable(addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    let all: BTreeSet<IpAddr> = addresses.into_iter().map(|address| address.to_canonical()).collect();
    let any_v4 = all.iter().any(IpAddr::is_ipv4);
    all.into_iter().filter(|address| address.is_ipv4() || !any_v4).collect()
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;

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

use super::named::{absolute, is_of_this_machine, localhost};

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

/// Of names that clients choose: times and number are Envoy's (`host_ttl`, `max_hosts`), but that there is no TTL.
const OF_REQUESTS: Times = Times {
    fresh: Duration::from_secs(5),
    lookup: Duration::from_secs(10),
    grace: Duration::ZERO,
    forget: Duration::from_secs(300),
};
const MOST_OF_REQUESTS: usize = 1024;

/// Owner of the names that objects write.
const WRITTEN: &str = "";

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
    permits: Arc<Semaphore>,
    times: Times,
    /// Names that are kept of one owner: clients of one destination take no room from those of another.
    most: usize,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// There is no room for another name: all that are kept are being looked up.
    Full,
    Unknown,
    /// They are this machine's.
    Refused,
}

struct Name {
    /// Who asked for it first.
    owner: Arc<str>,
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
    /// The last lookup found what is never called, and nothing else.
    refused: bool,
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

    /// The same for names that clients choose: apart, so that theirs keep nobody else's waiting.
    #[must_use]
    pub fn of_requests() -> Arc<Self> {
        Self::bounded(MOST_OF_REQUESTS, OF_REQUESTS, |host| {
            Box::pin(async move {
                if let Some(address) = localhost(&host) {
                    return Ok(vec![address]);
                }
                let addresses = tokio::net::lookup_host((absolute(&host), 0)).await?;
                let found: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
                let others: Vec<IpAddr> =
                    found.iter().filter(|address| !is_of_this_machine(**address)).copied().collect();
                match others.is_empty() && !found.is_empty() {
                    true => Err(io::ErrorKind::PermissionDenied.into()),
                    false => Ok(others),
                }
            })
        })
    }

    #[cfg(test)]
    pub(super) fn answering(
        most: usize,
        answer: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + Copy + 'static,
    ) -> Arc<Self> {
        Self::bounded(most, OF_REQUESTS, move |host| Box::pin(async move { Ok(answer(&host)) }))
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names().keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    fn with_lookup<F>(times: Times, lookup: F) -> Arc<Self>
    where
        F: Fn(Arc<str>) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync + 'static,
    {
        Self::bounded(usize::MAX, times, lookup)
    }

    fn bounded<F>(most: usize, times: Times, lookup: F) -> Arc<Self>
    where
        F: Fn(Arc<str>) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync + 'static,
    {
        let (names, permits) = (Mutex::default(), Arc::new(Semaphore::new(LOOKUPS)));
        Arc::new(Self { lookup: Box::new(lookup), names, permits, times, most })
    }

    /// The addresses of a name: those that are known, and only if there are none those that are found in time; at least one.
    /// `owner`: the destination's host.
    pub(super) async fn addresses(
        self: &Arc<Self>,
        owner: &Arc<str>,
        host: &str,
        wait: Duration,
    ) -> Result<Arc<[IpAddr]>, NoAddress> {
        let mut state = self.refresh(owner, host, Instant::now()).ok_or(NoAddress::Full)?;
        if state.borrow().addresses.is_empty() {
            let _ = timeout(wait, state.wait_for(|state| !state.running)).await;
        }
        let state = state.borrow();
        match (state.addresses.is_empty(), state.refused) {
            (false, _) => Ok(state.addresses.clone()),
            (true, true) => Err(NoAddress::Refused),
            (true, false) => Err(NoAddress::Unknown),
        }
    }

    /// Addresses of all endpoints that have some by then; a name with several addresses yields several. Names are looked
    /// up again unless they just were. Those without addresses are waited for until the `deadline`, the others a moment;
    /// lookups that take longer go on, and the next call has their answer.
    pub async fn resolve_now(
        self: &Arc<Self>,
        endpoints: &[Endpoint],
        deadline: Duration,
    ) -> Vec<(Endpoint, SocketAddr)> {
        let (start, owner) = (Instant::now(), Arc::from(WRITTEN));
        let mut names: HashMap<Arc<str>, watch::Receiver<State>> = HashMap::new();
        for endpoint in endpoints {
            if let EndpointAddress::Dns { host, .. } = &endpoint.address
                && !names.contains_key(host)
                && let Some(state) = self.refresh(&owner, host, start)
            {
                names.insert(host.clone(), state);
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
                EndpointAddress::Unix(path) => resolved.push((endpoint.clone(), EndpointAddress::stand_in(path))),
                EndpointAddress::Dns { host, port } => {
                    let addresses = names.get(host).map(|state| state.borrow().addresses.clone()).unwrap_or_default();
                    let sockets = addresses.iter().map(|ip| (endpoint.clone(), SocketAddr::new(*ip, *port)));
                    resolved.extend(sockets);
                }
            }
        }
        resolved
    }

    /// Starts a lookup unless one runs or the answer is fresh. None: there is no room for it.
    fn refresh(self: &Arc<Self>, owner: &Arc<str>, host: &str, now: Instant) -> Option<watch::Receiver<State>> {
        let mut names = self.names();
        if !names.contains_key(host) {
            if !self.make_room(&mut names, owner, now) {
                return None;
            }
            names.insert(host.into(), Name { owner: owner.clone(), state: watch::Sender::default(), asked: now });
        }
        let name = names.get_mut(host)?;
        name.asked = now;
        let due = name.state.send_if_modified(|state| {
            let fresh = state.done.is_some_and(|done| now.saturating_duration_since(done) < self.times.fresh);
            let due = !state.running && !fresh;
            state.running |= due;
            due
        });
        if due {
            tokio::spawn(Arc::clone(self).look_up(host.into(), name.state.clone()));
        }
        Some(name.state.subscribe())
    }

    /// For another name: of the owner's that are not being looked up, one without addresses goes first (somebody asks for what is
    /// not there), then the one that was not asked for the longest. False: there is none that could go.
    fn make_room(&self, names: &mut HashMap<Arc<str>, Name>, owner: &str, now: Instant) -> bool {
        names.retain(|_, name| now.saturating_duration_since(name.asked) < self.times.forget);
        if names.len() < self.most || names.values().filter(|name| *name.owner == *owner).count() < self.most {
            return true;
        }
        let mut first: Option<(&Arc<str>, (bool, Instant))> = None;
        for (host, name) in names.iter().filter(|(_, name)| *name.owner == *owner) {
            let state = name.state.borrow();
            let order = (!state.addresses.is_empty(), name.asked);
            if !state.running && first.is_none_or(|(_, least)| order < least) {
                first = Some((host, order));
            }
        }
        let Some(host) = first.map(|(host, _)| Arc::clone(host)) else { return false };
        names.remove(&host);
        true
    }

    async fn look_up(self: Arc<Self>, host: Arc<str>, state: watch::Sender<State>) {
        let answer = timeout(self.times.lookup, async {
            // Never closed.
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let lookup = (self.lookup)(host.clone());
            // A thread of the system's resolver cannot be called back: whoever gave up on it leaves it its permit.
            let lookup = tokio::spawn(async move {
                let answer = lookup.await;
                drop(permit);
                answer
            });
            lookup.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        });
        let answer = answer.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let refused = answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
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
            state.refused = refused;
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

//! What proxies of one class are to have, encoded once for all of them.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use itertools::{EitherOrBoth, Itertools};
use prost::bytes::Bytes;
use serde::Serialize;

use super::Kind;
use super::codec::{
    Config, SETTINGS, authentication_name, authorization_name, challenge_name, destination_name, dns_name, encode,
    host_name, listener_name, rate_limits_name, routes_name, version_of,
};
use crate::model::{DiffItem, Key, ProxySettings, ResourceSet, Resources, RouteSet, VirtualHost};

/// A resource as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub version: Arc<str>,
    pub body: Bytes,
}

/// Resources of one kind by name. Like [`Resources`], a table shares what it has in common with the one before.
pub type Table = OrdMap<Arc<str>, Encoded>;

/// One publication.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Grows with every change of the world.
    pub generation: u64,
    /// Secrets cannot be read: what the table lacks may exist, and a proxy keeps what it has of it.
    pub secrets_unread: bool,
    /// They are not read yet, and in a moment will be: who has none of what the table lacks is answered then.
    pub secrets_pending: bool,
    /// The names that it answers, if it holds only what was asked for ([`ResourceSet::on_demand`]).
    answered: Option<Arc<BTreeSet<Key>>>,
    tables: [Table; 3],
}

impl Published {
    /// Whether all that these names mean is here.
    pub fn answers(&self, names: &BTreeSet<Key>) -> bool {
        self.answered.as_ref().is_none_or(|answered| names.is_subset(answered))
    }

    pub fn table(&self, kind: Kind) -> &Table {
        let [config, endpoints, secrets] = &self.tables;
        match kind {
            Kind::Config => config,
            Kind::Endpoints => endpoints,
            Kind::Secret => secrets,
        }
    }
}

/// Encodes what changed since the last time.
#[derive(Debug, Default)]
pub struct Publication {
    set: Arc<ResourceSet>,
    settings: Option<ProxySettings>,
    published: Published,
}

impl Publication {
    /// Whether secrets cannot be read, and whether it is only not yet, from the next update on.
    pub fn leave_secrets(&mut self, unread: bool, pending: bool) {
        self.published.secrets_unread = unread;
        self.published.secrets_pending = pending;
    }

    /// The publication of `set`. Parts that are the same allocation as in the set before
    /// ([`ResourceSet::reuse`]) are not looked at.
    pub fn update(
        &mut self,
        set: Arc<ResourceSet>,
        settings: &ProxySettings,
        generation: u64,
    ) -> Result<Arc<Published>, serde_json::Error> {
        let old = std::mem::take(&mut self.set);
        let [config, endpoints, secrets] = &mut self.published.tables;
        let mut edits = Edits::default();
        edits.plain(&old.listeners, &set.listeners, listener_name, |listener| Config::Listener(listener.clone()))?;
        edits.plain(&old.destinations, &set.destinations, destination_name, |destination| {
            Config::Destination(destination.clone())
        })?;
        edits.routes(&old.routes, &set.routes)?;
        edits.plain(&old.authorization, &set.authorization, authorization_name, |policy| {
            Config::Authorization(policy.clone())
        })?;
        edits.plain(&old.authentication, &set.authentication, authentication_name, |policy| {
            Config::Authentication(policy.clone())
        })?;
        edits
            .plain(&old.rate_limits, &set.rate_limits, rate_limits_name, |limits| Config::RateLimits(limits.clone()))?;
        edits.plain(&old.dns, &set.dns, dns_name, |name| Config::DnsName(name.clone()))?;
        edits.plain(&old.challenges, &set.challenges, challenge_name, |challenge| {
            Config::Challenge(challenge.clone())
        })?;
        if self.settings.as_ref() != Some(settings) {
            edits.put(SETTINGS.to_owned(), &Config::Settings(settings.clone()))?;
            self.settings = Some(settings.clone());
        }
        edits.apply(config);
        let mut edits = Edits::default();
        edits.plain(&old.endpoints, &set.endpoints, |key| key.to_owned(), Clone::clone)?;
        edits.apply(endpoints);
        let mut edits = Edits::default();
        edits.plain(&old.secrets, &set.secrets, |key| key.to_owned(), Clone::clone)?;
        edits.apply(secrets);
        let answered = set.on_demand().map(|terms| &terms.answered);
        if answered != self.published.answered.as_deref() {
            self.published.answered = answered.cloned().map(Arc::new);
        }
        self.set = set;
        self.published.generation = generation;
        Ok(Arc::new(self.published.clone()))
    }
}

fn without_hosts(routes: &RouteSet) -> Config {
    Config::Routes { key: routes.key.clone(), tcp: routes.tcp.clone(), origin: routes.origin.clone() }
}

/// What to do with a table: a body, or none for a name that is gone.
#[derive(Default)]
struct Edits(Vec<(String, Option<Vec<u8>>)>);

impl Edits {
    fn put<T: Serialize>(&mut self, name: String, body: &T) -> Result<(), serde_json::Error> {
        self.0.push((name, Some(encode(body)?)));
        Ok(())
    }

    fn plain<T: Eq, B: Serialize>(
        &mut self,
        old: &Resources<T>,
        new: &Resources<T>,
        name: impl Fn(&str) -> String,
        body: impl Fn(&T) -> B,
    ) -> Result<(), serde_json::Error> {
        for difference in old.diff(new) {
            match difference {
                DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => {
                    self.put(name(key), &body(value))?;
                }
                DiffItem::Remove(key, _) => self.0.push((name(key), None)),
            }
        }
        Ok(())
    }

    fn routes(&mut self, old: &Resources<RouteSet>, new: &Resources<RouteSet>) -> Result<(), serde_json::Error> {
        for difference in old.diff(new) {
            match difference {
                DiffItem::Update { old: (_, before), new: (key, routes) } => {
                    if before.origin != routes.origin || before.tcp != routes.tcp {
                        self.put(routes_name(key), &without_hosts(routes))?;
                    }
                    self.hosts(key, &before.virtual_hosts, &routes.virtual_hosts)?;
                }
                DiffItem::Add(key, routes) => {
                    self.put(routes_name(key), &without_hosts(routes))?;
                    self.hosts(key, &[], &routes.virtual_hosts)?;
                }
                DiffItem::Remove(key, routes) => {
                    self.0.push((routes_name(key), None));
                    self.hosts(key, &routes.virtual_hosts, &[])?;
                }
            }
        }
        Ok(())
    }

    /// Both lists are sorted by host.
    fn hosts(
        &mut self,
        key: &Key,
        old: &[Arc<VirtualHost>],
        new: &[Arc<VirtualHost>],
    ) -> Result<(), serde_json::Error> {
        // Most of them are the same allocation: their names need not be looked at.
        let order = |a: &&Arc<VirtualHost>, b: &&Arc<VirtualHost>| {
            if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.host.cmp(&b.host) }
        };
        for pair in old.iter().merge_join_by(new, order) {
            match pair {
                EitherOrBoth::Both(before, host) if Arc::ptr_eq(before, host) => {}
                EitherOrBoth::Both(_, host) | EitherOrBoth::Right(host) => {
                    let body = Config::Host { routes: key.clone(), host: VirtualHost::clone(host) };
                    self.put(host_name(key, &host.host), &body)?;
                }
                EitherOrBoth::Left(host) => self.0.push((host_name(key, &host.host), None)),
            }
        }
        Ok(())
    }

    /// If nothing is different, the table stays what it is.
    fn apply(self, table: &mut Table) {
        for (name, body) in self.0 {
            match body.map(Encoded::new) {
                Some(body) if table.get(name.as_str()).is_some_and(|had| had.version == body.version) => {}
                Some(body) => drop(table.insert(name.into(), body)),
                None if table.contains_key(name.as_str()) => drop(table.remove(name.as_str())),
                None => {}
            }
        }
    }
}

impl Encoded {
    fn new(body: Vec<u8>) -> Encoded {
        // Thousands of these are kept: without the room that was left.
        Encoded { version: version_of(&body).into(), body: body.into_boxed_slice().into() }
    }
}

//! What proxies of one class are to have, encoded once for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use itertools::{EitherOrBoth, Itertools};
use prost::bytes::Bytes;
use serde::Serialize;

use super::Kind;
use super::codec::{Config, SETTINGS, destination_name, encode, host_name, listener_name, routes_name, version_of};
use crate::model::{Key, ProxySettings, ResourceSet, RouteSet, VirtualHost};

/// A resource as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub version: Arc<str>,
    pub body: Bytes,
}

/// Resources of one kind by name.
pub type Table = BTreeMap<Arc<str>, Encoded>;

/// One publication. Tables that did not change are shared with the one before.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Grows with every change of the world.
    pub generation: u64,
    tables: [Arc<Table>; 3],
}

impl Published {
    pub fn table(&self, kind: Kind) -> &Arc<Table> {
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
        self.set = set;
        self.published.generation = generation;
        Ok(Arc::new(self.published.clone()))
    }
}

/// What to do with a table: a body, or none for a name that is gone.
#[derive(Default)]
struct Edits(Vec<(String, Option<Vec<u8>>)>);

impl Edits {
    fn put<T: Serialize>(&mut self, name: String, body: &T) -> Result<(), serde_json::Error> {
        self.0.push((name, Some(encode(body)?)));
        Ok(())
    }

    fn plain<T, B: Serialize>(
        &mut self,
        old: &BTreeMap<Key, Arc<T>>,
        new: &BTreeMap<Key, Arc<T>>,
        name: impl Fn(&str) -> String,
        body: impl Fn(&T) -> B,
    ) -> Result<(), serde_json::Error> {
        for pair in old.iter().merge_join_by(new, |(a, _), (b, _)| a.cmp(b)) {
            match pair {
                EitherOrBoth::Both((_, before), (_, value)) if Arc::ptr_eq(before, value) => {}
                EitherOrBoth::Both(_, (key, value)) | EitherOrBoth::Right((key, value)) => {
                    self.put(name(key), &body(value))?;
                }
                EitherOrBoth::Left((key, _)) => self.0.push((name(key), None)),
            }
        }
        Ok(())
    }

    fn routes(
        &mut self,
        old: &BTreeMap<Key, Arc<RouteSet>>,
        new: &BTreeMap<Key, Arc<RouteSet>>,
    ) -> Result<(), serde_json::Error> {
        for pair in old.iter().merge_join_by(new, |(a, _), (b, _)| a.cmp(b)) {
            match pair {
                EitherOrBoth::Both((_, before), (_, routes)) if Arc::ptr_eq(before, routes) => {}
                EitherOrBoth::Both((_, before), (key, routes)) => {
                    if before.origin != routes.origin {
                        self.put(
                            routes_name(key),
                            &Config::Routes { key: key.clone(), origin: routes.origin.clone() },
                        )?;
                    }
                    self.hosts(key, &before.virtual_hosts, &routes.virtual_hosts)?;
                }
                EitherOrBoth::Right((key, routes)) => {
                    self.put(routes_name(key), &Config::Routes { key: key.clone(), origin: routes.origin.clone() })?;
                    self.hosts(key, &[], &routes.virtual_hosts)?;
                }
                EitherOrBoth::Left((key, routes)) => {
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
        for pair in old.iter().merge_join_by(new, |a, b| a.host.cmp(&b.host)) {
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

    /// A table that others hold stays as it is; if nothing is different, so does ours.
    fn apply(self, table: &mut Arc<Table>) {
        let edits: Vec<(String, Option<Encoded>)> = self
            .0
            .into_iter()
            .map(|(name, body)| (name, body.map(Encoded::new)))
            .filter(|(name, body)| {
                table.get(name.as_str()).map(|had| &had.version) != body.as_ref().map(|new| &new.version)
            })
            .collect();
        if edits.is_empty() {
            return;
        }
        let table = Arc::make_mut(table);
        for (name, body) in edits {
            match body {
                Some(body) => drop(table.insert(name.into(), body)),
                None => drop(table.remove(name.as_str())),
            }
        }
    }
}

impl Encoded {
    fn new(body: Vec<u8>) -> Encoded {
        Encoded { version: version_of(&body).into(), body: body.into() }
    }
}

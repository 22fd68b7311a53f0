//! From authority to virtual host: exact, then the longest `*.suffix`, then `*`. A host that is found is final: a
//! request that none of its rules matches never falls through to a wider host.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::choices::Choices;
use super::{Decision, Request, RouteTable};
use crate::model::{HostPattern, RouteSet, TcpRoute, VirtualHost};

/// Longest host name that a table finds, RFC 1035 section 2.3.4 with some room. Longer authorities match only `*`.
const LONGEST_HOST: usize = 256;

/// The routes of one listener or of one TLS server.
#[derive(Debug)]
pub struct HostTable {
    pub(crate) model: Arc<RouteSet>,
    index: Arc<HostIndex>,
    /// Numbers of the model's `tcp`.
    tcp: Choices,
    pub(crate) hosts: Vec<Arc<HostEntry>>,
    /// Whether nothing is wrong with any of the hosts ([`HostEntry::is_plain`]).
    pub(crate) plain: bool,
}

/// A number for each host pattern.
#[derive(Clone, Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<Arc<str>, u32, RandomState>,
    suffix: HashMap<Arc<str>, u32, RandomState>,
    any: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct HostEntry {
    pub(crate) model: Arc<VirtualHost>,
    pub(crate) table: Arc<RouteTable>,
    /// Index in the snapshot's clusters by the slots of the table's destinations.
    pub(crate) clusters: Arc<[Option<u32>]>,
    pub(crate) https_redirect: bool,
    /// Some rule has diagnostics.
    pub(crate) troubled: bool,
}

impl HostEntry {
    /// It has nothing to tell, and all that it leads to is there.
    pub(crate) fn is_plain(&self) -> bool {
        !self.troubled && self.clusters.iter().all(Option::is_some)
    }
}

impl HostTable {
    pub(crate) fn new(model: Arc<RouteSet>, hosts: Vec<Arc<HostEntry>>, plain: bool) -> HostTable {
        let mut index = HostIndex::default();
        index.exact.reserve(hosts.len());
        for (entry, number) in hosts.iter().zip(0_u32..) {
            index.add(&entry.model.host, number);
        }
        // Behind all hosts, which keep their names.
        for (entry, number) in hosts.iter().zip(0_u32..) {
            entry.model.aliases.iter().for_each(|alias| index.add(alias, number));
        }
        HostTable { tcp: choices(&model), model, index: Arc::new(index), hosts, plain }
    }

    /// The same host patterns in the same order, with other rules.
    pub(crate) fn with_entries(&self, model: Arc<RouteSet>, hosts: Vec<Arc<HostEntry>>, plain: bool) -> HostTable {
        HostTable { tcp: choices(&model), model, index: self.index.clone(), hosts, plain }
    }

    /// The entry with the same pattern, which is most likely at the same position.
    pub(crate) fn same_pattern(&self, likely: usize, host: &VirtualHost) -> Option<(usize, &Arc<HostEntry>)> {
        if let Some(entry) = self.hosts.get(likely).filter(|entry| entry.model.host == host.host) {
            return Some((likely, entry));
        }
        let at = match &host.host {
            HostPattern::Exact(name) => self.index.exact.get(name),
            HostPattern::Suffix(suffix) => self.index.suffix.get(suffix),
            HostPattern::Any => self.index.any.as_ref(),
        };
        let at = *at? as usize;
        // The name may have been another host's alias.
        Some((at, self.hosts.get(at).filter(|entry| entry.model.host == host.host)?))
    }

    /// Key of the route set.
    pub fn key(&self) -> &str {
        &self.model.key
    }

    /// Where bytes go; `sni` is the server name if they are TLS.
    pub fn tcp(&self, sni: Option<&str>) -> Option<&TcpRoute> {
        self.model.tcp.get(usize::try_from(self.tcp.find(sni)?).ok()?)
    }

    /// Whether a request with this authority would reach a virtual host of this table.
    pub fn has_host(&self, authority: &str) -> bool {
        self.entry(authority).is_some()
    }

    /// Whether a host without port is called just so here, rather than by another name or covered by a pattern: then no other host
    /// can be meant.
    pub(super) fn names(&self, host: &str) -> bool {
        let entry = self.index.exact_of(host).and_then(|at| self.hosts.get(at as usize));
        entry.is_some_and(
            |entry| matches!(&entry.model.host, HostPattern::Exact(name) if name.eq_ignore_ascii_case(host)),
        )
    }

    /// What is to happen to a request. `random` yields a number below its argument; it chooses among weights.
    pub fn route<'a>(&'a self, request: &Request<'_>, random: &mut dyn FnMut(u32) -> u32) -> Decision<'a> {
        // CONNECT never has a route at a gateway.
        if request.method == "CONNECT" {
            return Decision::NoRoute;
        }
        let Some(entry) = self.entry(request.authority) else { return Decision::NoRoute };
        if entry.https_redirect {
            return Decision::HttpsRedirect;
        }
        match entry.table.find(request) {
            Some(rule) => entry.decide(rule, random),
            None => Decision::NoRoute,
        }
    }

    pub(crate) fn entry(&self, authority: &str) -> Option<&HostEntry> {
        let position = self.index.lookup(host_of(authority))?;
        self.hosts.get(position as usize).map(Arc::as_ref)
    }
}

fn choices(model: &RouteSet) -> Choices {
    let mut choices = Choices::default();
    model.tcp.iter().zip(0..).for_each(|(route, number)| choices.add(&route.sni, number));
    choices
}

impl HostIndex {
    /// Of two equal patterns the first counts.
    pub(super) fn add(&mut self, pattern: &HostPattern, number: u32) {
        match pattern {
            HostPattern::Exact(host) => {
                self.exact.entry(host.clone()).or_insert(number);
            }
            HostPattern::Suffix(suffix) => {
                self.suffix.entry(suffix.clone()).or_insert(number);
            }
            HostPattern::Any => {
                self.any.get_or_insert(number);
            }
        }
    }

    /// Of the pattern that fits a name without port: exact, then the longest `*.suffix`, then `*`; any case.
    pub(super) fn lookup(&self, host: &str) -> Option<u32> {
        self.named(host).or(self.any)
    }

    fn exact_of(&self, host: &str) -> Option<u32> {
        let mut buffer = [0_u8; LONGEST_HOST];
        lower(host, &mut buffer).and_then(|host| self.exact.get(host)).copied()
    }

    fn named(&self, host: &str) -> Option<u32> {
        let mut buffer = [0_u8; LONGEST_HOST];
        let host = lower(host, &mut buffer)?;
        if let Some(position) = self.exact.get(host) {
            return Some(*position);
        }
        if self.suffix.is_empty() {
            return None;
        }
        // The first dot gives the longest suffix. Something must stand before it: `.example.com` is no match.
        let mut from = 1;
        while let Some(dot) = memchr::memchr(b'.', host.as_bytes().get(from..)?) {
            let at = from + dot;
            if let Some(position) = host.get(at..).and_then(|suffix| self.suffix.get(suffix)) {
                return Some(*position);
            }
            from = at + 1;
        }
        None
    }
}

/// A name that a table may have, as it stands there.
fn lower<'h>(host: &'h str, buffer: &'h mut [u8; LONGEST_HOST]) -> Option<&'h str> {
    if host.is_empty() || host.len() > LONGEST_HOST {
        return None;
    }
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(host);
    }
    let lower = buffer.get_mut(..host.len())?;
    lower.copy_from_slice(host.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

/// The authority without its port. An IPv6 literal keeps its brackets.
pub(super) fn host_of(authority: &str) -> &str {
    let bytes = authority.as_bytes();
    let from = if bytes.first() == Some(&b'[') { memchr::memchr(b']', bytes).unwrap_or(0) } else { 0 };
    let colon = bytes.get(from..).and_then(|rest| memchr::memchr(b':', rest));
    colon.and_then(|at| authority.get(..from + at)).unwrap_or(authority)
}

/// None: the authority has no port, or none that is one.
pub(super) fn port_of(authority: &str) -> Option<u16> {
    authority.get(host_of(authority).len()..)?.strip_prefix(':')?.parse().ok()
}

#[cfg(test)]
#[path = "host_table_tests.rs"]
mod tests;

//! From authority to virtual host: exact, then the longest `*.suffix`, then `*`. A host that is found is final: a
//! request that none of its rules matches never falls through to a wider host.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Decision, Request, RouteTable};
use crate::model::{HostPattern, RouteSet, VirtualHost};

/// Longest host name that a table holds, RFC 1035 section 2.3.4 with some room. Longer authorities match only `*`.
const LONGEST_HOST: usize = 256;

/// The routes of one listener (HTTP) or of one TLS server.
#[derive(Debug)]
pub struct HostTable {
    pub(crate) model: Arc<RouteSet>,
    pub(crate) exact: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    pub(crate) suffix: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    pub(crate) any: Option<u32>,
    pub(crate) hosts: Vec<HostEntry>,
}

#[derive(Clone, Debug)]
pub(crate) struct HostEntry {
    pub(crate) model: Arc<VirtualHost>,
    pub(crate) table: Arc<RouteTable>,
    /// Index in the snapshot's clusters by the table's slots.
    pub(crate) clusters: Arc<[Option<u32>]>,
}

impl HostTable {
    pub(crate) fn new(model: Arc<RouteSet>, hosts: Vec<HostEntry>) -> HostTable {
        let mut table = HostTable {
            model,
            exact: HashMap::with_capacity_and_hasher(hosts.len(), foldhash::fast::RandomState::default()),
            suffix: HashMap::default(),
            any: None,
            hosts: Vec::new(),
        };
        for (index, entry) in hosts.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            match &entry.model.host {
                HostPattern::Exact(host) => {
                    table.exact.entry(host.clone()).or_insert(index);
                }
                HostPattern::Suffix(suffix) => {
                    table.suffix.entry(suffix.clone()).or_insert(index);
                }
                HostPattern::Any => {
                    table.any.get_or_insert(index);
                }
            }
        }
        table.hosts = hosts;
        table
    }

    /// Whether a request with this authority would reach a virtual host of this table.
    pub fn has_host(&self, authority: &str) -> bool {
        self.entry(authority).is_some()
    }

    /// What is to happen to a request. `random` yields a number below its argument; it chooses among weights.
    pub fn route<'a>(&'a self, request: &Request<'_>, random: &mut dyn FnMut(u32) -> u32) -> Decision<'a> {
        // CONNECT never has a route at a gateway.
        if request.method == "CONNECT" {
            return Decision::NoRoute;
        }
        let Some(entry) = self.entry(request.authority) else { return Decision::NoRoute };
        if entry.model.https_redirect {
            return Decision::HttpsRedirect;
        }
        match entry.table.find(request) {
            Some(rule) => entry.decide(rule, random),
            None => Decision::NoRoute,
        }
    }

    pub(crate) fn entry(&self, authority: &str) -> Option<&HostEntry> {
        let index = self.lookup(host_of(authority)).or(self.any)?;
        self.hosts.get(index as usize)
    }

    fn lookup(&self, host: &str) -> Option<u32> {
        if host.is_empty() || host.len() > LONGEST_HOST {
            return None;
        }
        let mut buffer = [0_u8; LONGEST_HOST];
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let lower = buffer.get_mut(..host.len())?;
            lower.copy_from_slice(host.as_bytes());
            lower.make_ascii_lowercase();
            std::str::from_utf8(lower).ok()?
        } else {
            host
        };
        if let Some(index) = self.exact.get(host) {
            return Some(*index);
        }
        if self.suffix.is_empty() {
            return None;
        }
        // The first dot gives the longest suffix. Something must stand before it: `.example.com` is no match.
        let mut from = 1;
        while let Some(dot) = host.get(from..).and_then(|rest| rest.find('.')) {
            let at = from + dot;
            if let Some(index) = host.get(at..).and_then(|suffix| self.suffix.get(suffix)) {
                return Some(*index);
            }
            from = at + 1;
        }
        None
    }
}

/// The authority without its port. An IPv6 literal keeps its brackets.
fn host_of(authority: &str) -> &str {
    let colon = match authority.rfind(']') {
        Some(end) => authority.get(end..).and_then(|rest| rest.find(':')).map(|at| end + at),
        None => authority.find(':'),
    };
    colon.and_then(|at| authority.get(..at)).unwrap_or(authority)
}

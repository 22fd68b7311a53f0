//! Names that many resources have in common, kept once. What is decoded has a copy of a name wherever it stands, and its lists
//! have room for more than they hold.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use super::{Action, Destination, DestinationRef, Endpoints, HeaderOps, HostPattern, RetryPolicy, Rule, VirtualHost};
use crate::object::ObjectRef;

/// Fewer names than this are not worth to be looked through for those that nobody has any more.
const FEW: usize = 1024;

/// Most rules and destinations change no header.
static NO_OPS: LazyLock<Arc<HeaderOps>> = LazyLock::new(Arc::default);

/// See the module. Names that nobody else has any more are dropped when they may be many: there are never more than twice as
/// many as are used, and a few.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: HashSet<Arc<str>>,
    retries: HashSet<Arc<RetryPolicy>>,
    /// So many there were after the last time that unused ones were dropped.
    swept: usize,
    /// Resources that went since then.
    gone: usize,
}

impl Names {
    /// Replaces the name by the one that is known already, if there is one.
    pub fn share(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.known.get(name) {
            *name = Arc::clone(known);
            return;
        }
        if self.known.len() > FEW.max(self.swept.saturating_mul(2)) {
            self.sweep();
        }
        self.known.insert(Arc::clone(name));
    }

    /// So many resources went, and perhaps their names with them.
    pub fn went(&mut self, resources: usize) {
        self.gone = self.gone.saturating_add(resources);
        if self.gone > FEW.max(self.known.len() / 4) {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.known.retain(|name| Arc::strong_count(name) > 1);
        self.known.shrink_to_fit();
        self.retries.retain(|policy| Arc::strong_count(policy) > 1);
        (self.swept, self.gone) = (self.known.len(), 0);
    }

    pub fn share_object(&mut self, object: &mut ObjectRef) {
        self.share(&mut object.kind);
        self.share(&mut object.namespace);
        self.share(&mut object.name);
    }

    pub fn share_destination(&mut self, destination: &mut Destination) {
        self.share(&mut destination.key);
        self.share(&mut destination.host);
        self.share(&mut destination.service_name);
        self.share(&mut destination.service_namespace);
        destination.subset.iter_mut().for_each(|subset| self.share(subset));
        self.share_object(&mut destination.origin);
        destination.rule.iter_mut().for_each(|rule| self.share_object(rule));
    }

    pub fn share_endpoints(&mut self, endpoints: &mut Endpoints) {
        self.share(&mut endpoints.key);
        self.share_object(&mut endpoints.origin);
        endpoints.endpoints.shrink_to_fit();
        for endpoint in &mut endpoints.endpoints {
            self.share(&mut endpoint.locality);
            let Some(workload) = endpoint.workload.as_mut().and_then(Arc::get_mut) else { continue };
            for name in [
                &mut workload.name,
                &mut workload.namespace,
                &mut workload.app,
                &mut workload.version,
                &mut workload.canonical_service,
                &mut workload.canonical_revision,
                &mut workload.principal,
                &mut workload.cluster,
            ] {
                self.share(name);
            }
        }
    }

    /// Rules that stand one after the other and do the same share their actions again, too.
    pub fn share_host(&mut self, host: &mut VirtualHost) {
        host.aliases.shrink_to_fit();
        for pattern in std::iter::once(&mut host.host).chain(&mut host.aliases) {
            if let HostPattern::Exact(name) | HostPattern::Suffix(name) = pattern {
                self.share(name);
            }
        }
        self.share_object(&mut host.origin);
        host.rules.shrink_to_fit();
        let mut before: Option<&Rule> = None;
        for rule in &mut host.rules {
            self.share_object(&mut rule.source.object);
            rule.name.iter_mut().chain(&mut rule.stat_prefix).for_each(|name| self.share(name));
            match before {
                Some(before) if before.action == rule.action => rule.action = Arc::clone(&before.action),
                _ => self.share_action(&mut rule.action),
            }
            match before {
                Some(before) if before.headers == rule.headers => rule.headers = Arc::clone(&before.headers),
                _ => share_ops(&mut rule.headers),
            }
            before = Some(rule);
        }
    }

    fn share_action(&mut self, action: &mut Arc<Action>) {
        let Some(Action::Forward(forward)) = Arc::get_mut(action) else { return };
        match self.retries.get(&forward.retry) {
            Some(known) => forward.retry = Arc::clone(known),
            None => drop(self.retries.insert(Arc::clone(&forward.retry))),
        }
        forward.splits.shrink_to_fit();
        for split in &mut forward.splits {
            let (DestinationRef::Known(key) | DestinationRef::Unknown(key)) = &mut split.destination;
            self.share(key);
            share_ops(&mut split.headers);
        }
        forward.mirrors.shrink_to_fit();
        for mirror in &mut forward.mirrors {
            let (DestinationRef::Known(key) | DestinationRef::Unknown(key)) = &mut mirror.destination;
            self.share(key);
        }
    }
}

fn share_ops(ops: &mut Arc<HeaderOps>) {
    if ops.is_empty() {
        *ops = Arc::clone(&NO_OPS);
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;

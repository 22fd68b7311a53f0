//! What the store says of itself: what is served, what is wrong with it, and what the last change was.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use mesh_core::diag::Diagnostic;
use mesh_core::model::{DiffItem, ResourceSet, Resources};
use mesh_core::object::ObjectRef;

/// For admin pages. Replaced as a whole.
#[derive(Clone, Debug)]
pub struct Status {
    /// 0: nothing was published yet.
    pub generation: u64,
    pub published: SystemTime,
    pub set: Arc<ResourceSet>,
    /// Objects in force, if the source knows them: see [`Status::objects`].
    pub(super) objects: Option<Arc<[ObjectRef]>>,
    pub diagnostics: Vec<Diagnostic>,
}

pub type StatusCell = ArcSwap<Status>;

impl Default for Status {
    fn default() -> Self {
        Status {
            generation: 0,
            published: SystemTime::UNIX_EPOCH,
            set: Arc::default(),
            objects: None,
            diagnostics: Vec::new(),
        }
    }
}

impl Status {
    /// Objects in force: what the source says, or else those that the resources come from.
    pub fn objects(&self) -> Cow<'_, [ObjectRef]> {
        self.objects.as_deref().map_or_else(|| Cow::Owned(origins(&self.set)), Cow::Borrowed)
    }
}

/// The user's objects that the resources come from.
fn origins(set: &ResourceSet) -> Vec<ObjectRef> {
    let gateways = set.listeners.values().map(|listener| &listener.origin);
    let rules = set.routes.values().flat_map(|routes| &routes.virtual_hosts).flat_map(|host| &host.rules);
    let all = gateways
        .chain(rules.map(|rule| &rule.source.object))
        .chain(set.routes.values().flat_map(|routes| &routes.tcp).map(|route| &route.origin))
        .chain(set.destinations.values().map(|destination| &destination.origin))
        .chain(set.destinations.values().filter_map(|destination| destination.rule.as_ref()))
        .chain(set.secrets.values().map(|secret| &secret.origin))
        .chain(set.authorization.values().map(|policy| &policy.origin))
        .chain(set.authentication.values().map(|policy| &policy.origin))
        .chain(set.rate_limits.values().map(|limits| &limits.origin))
        .chain(set.dns.values().map(|name| &name.origin));
    all.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// What is different between two sets.
#[derive(Debug, Default)]
pub struct Changed {
    pub listeners: Delta,
    pub routes: Delta,
    pub destinations: Delta,
    pub endpoints: Delta,
    pub secrets: Delta,
    pub authorization: Delta,
    pub authentication: Delta,
    pub rate_limits: Delta,
    pub dns: Delta,
    /// They need no tables.
    pub challenges: Delta,
}

/// How many came, went, and changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
}

impl Changed {
    /// By value; what both sets share is not looked at.
    pub fn between(old: &ResourceSet, new: &ResourceSet) -> Changed {
        Changed {
            listeners: Delta::between(&old.listeners, &new.listeners),
            routes: Delta::between(&old.routes, &new.routes),
            destinations: Delta::between(&old.destinations, &new.destinations),
            endpoints: Delta::between(&old.endpoints, &new.endpoints),
            secrets: Delta::between(&old.secrets, &new.secrets),
            authorization: Delta::between(&old.authorization, &new.authorization),
            authentication: Delta::between(&old.authentication, &new.authentication),
            rate_limits: Delta::between(&old.rate_limits, &new.rate_limits),
            dns: Delta::between(&old.dns, &new.dns),
            challenges: Delta::between(&old.challenges, &new.challenges),
        }
    }

    /// How many parts.
    pub fn count(&self) -> usize {
        let policies = [self.authorization, self.authentication, self.rate_limits];
        let others = [self.listeners, self.routes, self.destinations, self.endpoints, self.secrets, self.dns];
        others.iter().chain(&policies).map(|delta| delta.added + delta.removed + delta.changed).sum()
    }

    /// Or nothing at all.
    pub fn only_endpoints(&self) -> bool {
        let policies = [self.authorization, self.authentication, self.rate_limits];
        let others = [self.listeners, self.routes, self.destinations, self.secrets, self.dns];
        !others.iter().chain(&policies).any(Delta::any)
    }
}

impl Delta {
    fn between<T: Eq>(old: &Resources<T>, new: &Resources<T>) -> Delta {
        let mut delta = Delta::default();
        for difference in old.diff(new) {
            let count = match difference {
                DiffItem::Add(..) => &mut delta.added,
                DiffItem::Update { .. } => &mut delta.changed,
                DiffItem::Remove(..) => &mut delta.removed,
            };
            *count = count.saturating_add(1);
        }
        delta
    }

    pub fn any(&self) -> bool {
        *self != Delta::default()
    }
}

/// `routes +1 ~2, endpoints -1`
impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("listeners", self.listeners),
            ("routes", self.routes),
            ("destinations", self.destinations),
            ("endpoints", self.endpoints),
            ("secrets", self.secrets),
            ("authorization", self.authorization),
            ("authentication", self.authentication),
            ("rate limits", self.rate_limits),
            ("dns", self.dns),
            ("challenges", self.challenges),
        ];
        let mut separator = "";
        for (name, delta) in parts.iter().filter(|(_, delta)| delta.any()) {
            write!(f, "{separator}{name}")?;
            for (sign, count) in [('+', delta.added), ('~', delta.changed), ('-', delta.removed)] {
                if count > 0 {
                    write!(f, " {sign}{count}")?;
                }
            }
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

//! Which of a destination's endpoints are preferred, by where they are. Where the proxy is, is its own affair: those that get the same
//! configuration are in different places.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::is_default;

/// Where somebody is. Empty: unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `region/zone/subzone`
    pub locality: Arc<str>,
    pub node: Arc<str>,
}

impl Place {
    /// With what is told now; what is empty there stays as it was known.
    #[must_use]
    pub fn updated(&self, told: Place) -> Place {
        let either = |told: Arc<str>, known: &Arc<str>| if told.is_empty() { Arc::clone(known) } else { told };
        Place { locality: either(told.locality, &self.locality), node: either(told.node, &self.node) }
    }
}

/// Region, zone and subzone; what is not said is empty.
#[must_use]
pub fn parts_of(locality: &str) -> [&str; 3] {
    let mut parts = locality.splitn(3, '/');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalityRule {
    /// The nearest ones, and others as these fail.
    Failover(Failover),
    /// Localities have shares, by where the proxy is; the first that fits counts.
    Distribute(Vec<Distribution>),
    /// The own region, in which the own locality gets what it can take, and others as that fails.
    ZoneAware(ZoneAware),
}

impl LocalityRule {
    /// What orders endpoints.
    #[must_use]
    pub fn failover(&self) -> Option<&Failover> {
        match self {
            LocalityRule::Failover(failover) => Some(failover),
            LocalityRule::ZoneAware(rule) => Some(&rule.failover),
            LocalityRule::Distribute(_) => None,
        }
    }
}

/// `zoneAwareLbSetting`: proxies of one workload keep as much in their locality as leaves each endpoint as much as the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneAware {
    /// What counts before the region, and which region comes next.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failover: Failover,
    /// Proxies of the workload, this one among them, by locality. Empty: in the region localities do not count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxies: Vec<(Arc<str>, u32)>,
    /// With fewer endpoints than this in the region, neither.
    pub minimum: u32,
}

/// How near an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// `failoverPriority`: the more of these hold, counted up to the first that does not, the nearer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub criteria: Vec<Criterion>,
    /// Behind those: subzone, zone and region.
    pub by_locality: bool,
    /// `failover`: from the proxy's region to the one that comes before all others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub regions: Vec<(Arc<str>, Arc<str>)>,
    /// Localities that are equally near have shares by their weight and health, instead of endpoints by their weight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weighted: bool,
}

/// What an endpoint may have in common with the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Criterion {
    Region,
    Zone,
    Subzone,
    Node,
    /// This value of a label: that of the proxy, or the one that the rule names. Empty: no such label.
    /// [`PriorityLabels::agreeing`] tells.
    Label {
        name: Arc<str>,
        value: Arc<str>,
    },
}

/// What [`Failover::criteria`] ask of an endpoint beyond its locality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PriorityLabels {
    /// A bit for each criterion, the lowest for the first: an endpoint has that label.
    pub agreeing: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub node: Arc<str>,
}

/// Most criteria that [`PriorityLabels::agreeing`] has a bit for.
pub const MAX_CRITERIA: usize = 64;

/// The shares for proxies in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    pub from: LocalityPattern,
    /// What is in none of these gets nothing.
    pub to: Vec<(LocalityPattern, u32)>,
}

/// `region/zone/subzone`, cut anywhere, each part may be `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalityPattern(pub Arc<str>);

impl LocalityPattern {
    #[must_use]
    pub fn matches(&self, locality: &str) -> bool {
        let ([region, zone, subzone], own) = (parts_of(&self.0), parts_of(locality));
        let open = |part: &str| part.is_empty() || part == "*";
        let [own_region, own_zone, own_subzone] = own;
        (region == "*" || region == own_region)
            && (open(zone) || zone == own_zone)
            && (open(subzone) || subzone == own_subzone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_may_be_cut_and_have_stars() {
        for (pattern, locality, fits) in [
            ("us", "us/a/1", true),
            ("us/*", "us/a/1", true),
            ("us/a", "us/a/1", true),
            ("us/a/*", "us/a", true),
            ("us/a/2", "us/a/1", false),
            ("us/b/*", "us/a/1", false),
            ("*", "us/a/1", true),
            ("*", "", true),
            ("us", "", false),
            ("us", "usa", false),
        ] {
            assert_eq!(LocalityPattern(pattern.into()).matches(locality), fits, "{pattern} {locality}");
        }
    }
}

//! Which endpoints of a service are preferred by where they are: `localityLbSetting` of its DestinationRule, `trafficDistribution` of the
//! Service, and what the mesh says, in this order. Where the proxy is, it knows itself.

use std::sync::Arc;

use super::Context;
use crate::api::{LocalityLbSetting, TRAFFIC_DISTRIBUTION};
use crate::model::{
    Criterion, Destination, Distribution, Failover, LocalityPattern, LocalityRule, MAX_CRITERIA, PriorityLabels,
    parts_of,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Instance, Service, Source};

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";
const NETWORK: &str = "topology.istio.io/network";
const CLUSTER: &str = "topology.istio.io/cluster";
/// The only cluster there is.
const CLUSTER_NAME: &str = "Kubernetes";

/// What `trafficDistribution` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    SameZone,
    SameNode,
}

impl Context<'_> {
    /// `rule`: of the DestinationRule. Without outlier detection nothing tells that those which are near fail, so Istio prefers nobody
    /// then, unless the Service asks for it.
    pub(super) fn locality_rule(
        &mut self,
        rule: Option<&LocalityLbSetting>,
        service: &Service,
        outlier_detection: bool,
    ) -> Option<Arc<LocalityRule>> {
        let usual = LocalityLbSetting::default();
        let setting = match rule {
            Some(setting) => setting,
            None => match self.distance(service) {
                Some(distance) => return Some(Arc::new(LocalityRule::Failover(self.by_distance(distance)))),
                None => self.world.mesh().config.locality_lb_setting.as_ref().unwrap_or(&usual),
            },
        };
        if setting.enabled == Some(false) {
            return None;
        }
        if !setting.distribute.is_empty() {
            return Some(Arc::new(LocalityRule::Distribute(distributions(setting))));
        }
        if !outlier_detection {
            return None;
        }
        let criteria = setting.failover_priority.iter().take(MAX_CRITERIA).map(|label| self.criterion(label)).collect();
        let regions = setting.failover.iter().filter_map(|one| {
            let (from, to) = (one.from.as_deref()?, one.to.as_deref()?);
            Some((from.into(), to.into()))
        });
        Some(Arc::new(LocalityRule::Failover(Failover {
            criteria,
            by_locality: setting.failover_priority.is_empty() || !setting.failover.is_empty(),
            regions: regions.collect(),
            weighted: !setting.failover.is_empty() || !setting.failover_priority.is_empty(),
        })))
    }

    fn distance(&mut self, service: &Service) -> Option<Distance> {
        let source = service.sources.first()?;
        let (spec, meta) = match source {
            Source::Kubernetes(entry) => (entry.spec.traffic_distribution.as_deref(), &entry.meta),
            Source::Entry(entry) => (None, &entry.meta),
        };
        match spec {
            Some("PreferClose" | "PreferSameZone") => return Some(Distance::SameZone),
            Some("PreferSameNode") => return Some(Distance::SameNode),
            _ => {}
        }
        let word = meta.annotations.get(TRAFFIC_DISTRIBUTION).map(|word| word.to_ascii_lowercase());
        if let Some(word) = word.filter(|word| !word.is_empty()) {
            return distance_of(&word);
        }
        let namespace = ObjectRef::new("Namespace", "", &service.namespace);
        let key = (Arc::clone(&namespace.namespace), Arc::clone(&namespace.name));
        self.reads.note(Cell::Object(namespace));
        let entry = self.world.objects().namespaces.get(&key)?;
        distance_of(&entry.meta.annotations.get(TRAFFIC_DISTRIBUTION)?.to_ascii_lowercase())
    }

    fn by_distance(&self, distance: Distance) -> Failover {
        let mut labels = vec![NETWORK, REGION, ZONE];
        if distance == Distance::SameNode {
            labels.extend([SUBZONE, HOSTNAME]);
        }
        let criteria = labels.into_iter().map(|label| self.criterion(label)).collect();
        Failover { criteria, by_locality: false, regions: Vec::new(), weighted: true }
    }

    /// `label`, or `label=value`.
    fn criterion(&self, text: &str) -> Criterion {
        if let Some((name, value)) = text.split_once('=') {
            return Criterion::Label { name: name.into(), value: value.into() };
        }
        match text {
            REGION => Criterion::Region,
            ZONE => Criterion::Zone,
            SUBZONE => Criterion::Subzone,
            HOSTNAME => Criterion::Node,
            name => {
                let own = self.proxy.labels.get(name).map(String::as_str);
                let value = own.unwrap_or(if name == CLUSTER { CLUSTER_NAME } else { "" });
                Criterion::Label { name: name.into(), value: value.into() }
            }
        }
    }
}

fn distance_of(word: &str) -> Option<Distance> {
    match word {
        "preferclose" | "prefersamezone" => Some(Distance::SameZone),
        "prefersamenode" => Some(Distance::SameNode),
        _ => None,
    }
}

fn distributions(setting: &LocalityLbSetting) -> Vec<Distribution> {
    let pattern = |text: &str| LocalityPattern(text.into());
    setting
        .distribute
        .iter()
        .map(|one| Distribution {
            from: pattern(one.from.as_deref().unwrap_or_default()),
            to: one.to.iter().map(|(to, percent)| (pattern(to), *percent)).collect(),
        })
        .collect()
}

/// What the destination's rule asks of an endpoint beyond its locality.
pub(super) fn priority_labels(destination: &Destination, instance: &Instance<'_>) -> Option<Box<PriorityLabels>> {
    let LocalityRule::Failover(failover) = destination.locality.as_deref()? else { return None };
    let mut labels = PriorityLabels::default();
    for (index, criterion) in failover.criteria.iter().enumerate().take(MAX_CRITERIA) {
        match criterion {
            Criterion::Region | Criterion::Zone | Criterion::Subzone => {}
            Criterion::Node => labels.node = instance.node.into(),
            Criterion::Label { name, value } => {
                labels.agreeing |= u64::from(value_of(instance, name) == &**value) << index;
            }
        }
    }
    (labels != PriorityLabels::default()).then(|| Box::new(labels))
}

/// Of a label that is known by other means, too.
fn value_of<'i>(instance: &'i Instance<'_>, name: &str) -> &'i str {
    let [region, zone, subzone] = parts_of(&instance.locality);
    let known = match name {
        REGION => region,
        ZONE => zone,
        SUBZONE => subzone,
        HOSTNAME => instance.node,
        CLUSTER => CLUSTER_NAME,
        _ => "",
    };
    match instance.labels.get(name) {
        Some(own) if known.is_empty() || name == CLUSTER => own,
        _ => known,
    }
}

#[cfg(test)]
#[path = "locality_tests.rs"]
mod tests;

//! Which endpoints of a service are preferred by where they are: `localityLbSetting` of its DestinationRule, `trafficDistribution` of the
//! Service, and what the mesh says, in this order. Where the proxy is, it knows itself.

use std::sync::Arc;

use super::Context;
use super::destination_rule::Policy;
use crate::api::{LocalityLbSetting, TRAFFIC_DISTRIBUTION, ZoneAwareLbSetting};
use crate::diag;
use crate::model::{
    Balancing, Criterion, Destination, Distribution, Failover, LocalityPattern, LocalityRule, MAX_CRITERIA,
    PriorityLabels, ZoneAware, parts_of,
};
use crate::object::ObjectRef;
use crate::world::{Cell, Consolidated, Instance, Service, Source};

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";
const NETWORK: &str = "topology.istio.io/network";
const CLUSTER: &str = "topology.istio.io/cluster";
/// The only cluster there is.
const CLUSTER_NAME: &str = "Kubernetes";

/// Endpoints of a region below which zones do not count (Envoy's default).
const MIN_CLUSTER_SIZE: u32 = 6;

/// What `trafficDistribution` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    SameZone,
    SameNode,
}

impl Context<'_> {
    /// Without outlier detection nothing tells that those which are near fail, so Istio prefers nobody
    /// then, unless the Service asks for it.
    pub(super) fn locality_rule(
        &mut self,
        policy: &Policy<'_>,
        rule: Option<&Consolidated<'_>>,
        service: &Service,
        outlier_detection: bool,
    ) -> Option<Arc<LocalityRule>> {
        if let Some(setting) = policy.zone_aware() {
            return Some(Arc::new(LocalityRule::ZoneAware(self.zone_aware(setting, policy, rule))));
        }
        let usual = LocalityLbSetting::default();
        let setting = match policy.locality() {
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
        let criteria = self.criteria(&setting.failover_priority);
        Some(Arc::new(LocalityRule::Failover(Failover {
            criteria,
            by_locality: setting.failover_priority.is_empty() || !setting.failover.is_empty(),
            regions: regions(&setting.failover),
            weighted: !setting.failover.is_empty() || !setting.failover_priority.is_empty(),
        })))
    }

    /// Who calls by the same destination are the proxies of this one's workload. With a hash it is the key that says where a request goes.
    fn zone_aware(
        &mut self,
        setting: &ZoneAwareLbSetting,
        policy: &Policy<'_>,
        rule: Option<&Consolidated<'_>>,
    ) -> ZoneAware {
        let hashes = matches!(policy.balancing(), Balancing::Hash(_));
        let proxies = match hashes || self.sees_all {
            true => Vec::new(),
            false => {
                let (namespace, labels) = (&self.proxy.namespace, &self.proxy.labels);
                self.world.places_of(namespace, labels, &mut self.reads).into_iter().collect()
            }
        };
        if let Some(rule) = rule.filter(|_| proxies.is_empty() && !hashes && !self.sees_all) {
            let labels: Vec<String> = self.proxy.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let message = format!(
                "no Pod that is ready and no WorkloadEntry in `{}` has the labels of this proxy ({}), so that it is not known \
                 how many of its kind are in which zone: in its region zones do not count",
                self.proxy.namespace,
                labels.join(",")
            );
            let field = "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting";
            let help = "add a WorkloadEntry with `labels` and `locality` for each of them".to_owned();
            self.findings.report(diag::FIELD_DOUBTFUL, rule.first, field, message, Some(help));
        }
        let failover = Failover {
            criteria: self.criteria(&setting.failover_priority),
            regions: regions(&setting.failover),
            ..Failover::default()
        };
        ZoneAware { failover, proxies, minimum: setting.min_cluster_size.unwrap_or(MIN_CLUSTER_SIZE) }
    }

    fn criteria(&self, labels: &[String]) -> Vec<Criterion> {
        labels.iter().take(MAX_CRITERIA).map(|label| self.criterion(label)).collect()
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

fn regions(list: &[crate::api::Failover]) -> Vec<(Arc<str>, Arc<str>)> {
    let pair = |one: &crate::api::Failover| Some((one.from.as_deref()?.into(), one.to.as_deref()?.into()));
    list.iter().filter_map(pair).collect()
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
    let failover = destination.locality.as_deref()?.failover()?;
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

//! `DestinationRule`: what `ValidateDestinationRule` refuses. The scopes are a subset and a block of a policy.

use std::collections::BTreeSet;

use super::super::DestinationRule;
use super::{Checks, Wrong, names, traffic_policy, visibility};

pub(super) fn check(rule: &mut DestinationRule, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| {
        checks.check("spec.host", names::wildcard_host(&rule.host));
        visibility::check(&rule.export_to, false, checks);
        selector(rule, checks);
    })?;
    if let Some(policy) = &mut rule.traffic_policy {
        traffic_policy::check("spec.trafficPolicy", policy, checks)?;
    }
    let mut seen = BTreeSet::new();
    rule.subsets.retain_mut(|subset| {
        let at = format!("spec.subsets[{}]", subset.index);
        let valid = checks.part(|checks| {
            checks.check(format_args!("{at}.name"), names::label(&subset.name, "the name of a subset"));
            checks.check(format_args!("{at}.labels"), names::labels(&subset.labels));
            if !seen.insert(subset.name.clone()) {
                let message = format!("the subset `{}` is defined before", subset.name);
                checks.error(format_args!("{at}.name"), message, "the first one counts");
            }
        });
        let policy = match &mut subset.traffic_policy {
            Some(policy) => traffic_policy::check(&format!("{at}.trafficPolicy"), policy, checks),
            None => Ok(()),
        };
        valid.is_ok() && policy.is_ok()
    });
    Ok(())
}

/// A rule for some clients of a namespace cannot be for other namespaces.
fn selector(rule: &DestinationRule, checks: &mut Checks<'_>) {
    let Some(selector) = &rule.workload_selector else { return };
    checks.check("spec.workloadSelector.matchLabels", names::selector(&selector.match_labels));
    if selector.match_labels.is_empty() {
        checks.doubt("spec.workloadSelector", "the selector has no labels, so it selects all workloads", "");
    }
    let beyond = rule.export_to.iter().position(|entry| entry != "." && *entry != checks.namespace);
    if let Some(index) = beyond {
        let message = "a rule with `workloadSelector` cannot be exported to other namespaces";
        checks.error(format_args!("spec.exportTo[{index}]"), message, "allowed: `.`");
    }
}

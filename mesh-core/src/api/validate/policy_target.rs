//! Whom a policy is for: what `validateOneOfSelectorType` and `validatePolicyTargetReference` refuse.

use super::super::{MatchLabels, TargetReference};
use super::{Checks, names};

/// Groups and kinds that policies can be attached to.
const TARGETS: [(&str, &str); 4] = [
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
];

pub(super) fn check(
    selector: Option<&MatchLabels>,
    single: Option<&TargetReference>,
    several: &[TargetReference],
    checks: &mut Checks<'_>,
) {
    let given = [selector.is_some(), single.is_some(), !several.is_empty()];
    if given.iter().filter(|given| **given).count() > 1 {
        let message = "only one of `selector`, `targetRef` and `targetRefs` can be set";
        checks.error("spec", message, "");
    }
    if let Some(selector) = selector {
        self::selector(selector, checks);
    }
    if let Some(target) = single {
        check_target("spec.targetRef", target, checks);
    }
    for (index, target) in several.iter().enumerate() {
        check_target(&format!("spec.targetRefs[{index}]"), target, checks);
    }
}

pub(super) fn selector(selector: &MatchLabels, checks: &mut Checks<'_>) {
    checks.check("spec.selector.matchLabels", names::selector(&selector.match_labels));
    if selector.match_labels.is_empty() {
        checks.doubt("spec.selector", "the selector has no labels, so it selects every workload", "");
    }
}

fn check_target(at: &str, target: &TargetReference, checks: &mut Checks<'_>) {
    if target.name.is_empty() {
        checks.missing(format_args!("{at}.name"), "a target needs a name", "");
    }
    if target.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty()) {
        let help = "a policy is in the namespace of its target";
        checks.error(format_args!("{at}.namespace"), "a target cannot be in another namespace", help);
    }
    if target.kind.is_empty() {
        return checks.missing(format_args!("{at}.kind"), "a target needs a kind", "");
    }
    let known = TARGETS.iter().any(|(group, kind)| *group == target.group && *kind == target.kind);
    if !known {
        let message = format!("policies cannot be attached to a {} of the group `{}`", target.kind, target.group);
        let help = "allowed: Gateway and GatewayClass (gateway.networking.k8s.io), Service, ServiceEntry (networking.istio.io)";
        return checks.error(format_args!("{at}.kind"), message, help);
    }
    if target.kind != "Gateway" {
        let message =
            format!("not built yet: waypoints, for which alone a policy of a {} counts; it has no effect", target.kind);
        let help = "to have it count at sidecars and gateways, use a `selector`";
        checks.not_built(format_args!("{at}.kind"), message, help);
    }
}

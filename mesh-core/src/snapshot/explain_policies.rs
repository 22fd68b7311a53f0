//! What policies and limits say of a request that nobody sent. Of such a request not everything is known: an answer that hangs on
//! what is not known says so.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::policy_test::Test;
use super::{Authorizer, CompiledLimit, CompiledPolicy, Facts, RateLimiter, Ruling};
use crate::model::PolicyAction;
use crate::object::ObjectRef;

/// A rate limit that counts a request, whether it has room or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedLimit {
    pub object: ObjectRef,
    /// `namespace/name/limit`
    pub limit: String,
    /// `100 in 60s, 20 at once, by header x-api-key`
    pub amount: String,
    /// What decides whether it counts the request, and was not told: `remote.ip`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Cow<'static, str>>,
}

/// Whether a request is let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedAuthorization {
    /// False also where it is not known: see `depends_on`.
    pub allowed: bool,
    /// What decides, and was not told: `source.ip`, `remote.ip`. Empty: the answer is sure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Cow<'static, str>>,
    /// The policy that denies it; none: policies allow things, and none of them allows this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ObjectRef>,
    /// Index in `spec.rules` of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// An extension provider that decides first; `allowed` is what comes then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// As in the access log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Policies that match and are only tried out, or only tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_effect: Vec<ObjectRef>,
}

impl Authorizer {
    /// None: there are no policies.
    pub fn explain(&self, facts: &Facts<'_>) -> Option<ExplainedAuthorization> {
        if self.is_empty() {
            return None;
        }
        let mut ruling = self.decide(facts);
        let mut asks = None;
        if let Ruling::Ask(policy, _) = ruling
            && let PolicyAction::Custom { provider, authorizer: Some(_) } = &policy.model.action
        {
            asks = Some(provider.to_string());
            ruling = self.decide_alone(facts);
        }
        let by = match ruling {
            Ruling::Ask(policy, rule) => Some((policy, rule)),
            Ruling::Denied(Some(rule)) => {
                let has = |policy: &&CompiledPolicy| policy.rules.iter().any(|one| std::ptr::eq(one, rule));
                self.deny.iter().find(has).map(|policy| (policy, rule))
            }
            Ruling::Denied(None) | Ruling::Allowed => None,
        };
        Some(ExplainedAuthorization {
            allowed: matches!(ruling, Ruling::Allowed),
            depends_on: self.depends_on(facts),
            policy: by.map(|(policy, _)| policy.model.origin.clone()),
            rule: by.map(|(_, rule)| rule.index),
            asks,
            details: ruling.details(),
            without_effect: self.observers(facts).map(|policy| policy.model.origin.clone()).collect(),
        })
    }

    /// What is not known and would decide.
    fn depends_on(&self, facts: &Facts<'_>) -> Vec<Cow<'static, str>> {
        let has = |policies: &[CompiledPolicy], unknown: bool| {
            policies.iter().any(|policy| policy.rules.iter().any(|rule| rule.matches(facts, unknown)))
        };
        let mut open = BTreeSet::new();
        let mut gather = |policies: &[CompiledPolicy]| {
            for rule in policies.iter().flat_map(|policy| &policy.rules) {
                if rule.matches(facts, true) && !rule.matches(facts, false) {
                    open.extend(lacking(rule.tests(), facts));
                }
            }
        };
        if !has(&self.custom, false) {
            gather(&self.custom);
        }
        if !has(&self.deny, false) {
            // Nothing is allowed, whatever the address is: that nobody denies it changes nothing.
            let allowed = |unknown: bool| self.allow.is_empty() || has(&self.allow, unknown);
            if allowed(true) {
                gather(&self.deny);
            }
            if !allowed(false) {
                gather(&self.allow);
            }
        }
        open.into_iter().map(Cow::Borrowed).collect()
    }
}

impl RateLimiter {
    /// The limits that count a request, or may, in their order.
    pub fn explain(&self, facts: &Facts<'_>) -> Vec<ExplainedLimit> {
        let told = |limit: &CompiledLimit| {
            let open = if limit.surely_matches(facts) { BTreeSet::new() } else { lacking(limit.tests(), facts) };
            ExplainedLimit {
                object: limit.origin.clone(),
                limit: limit.name.to_string(),
                amount: limit.amount.to_string(),
                depends_on: open.into_iter().map(Cow::Borrowed).collect(),
            }
        };
        self.matching(facts).map(told).collect()
    }
}

/// What is asked for and not known.
fn lacking<'t>(tests: impl Iterator<Item = &'t Test>, facts: &Facts<'_>) -> BTreeSet<&'static str> {
    tests.filter_map(|test| test.lacks(facts)).collect()
}

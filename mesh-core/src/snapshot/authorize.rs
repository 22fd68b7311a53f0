//! Who may do what: the policies of a proxy, and their answer to a request or a connection.
//!
//! Custom policies are asked first, then those that deny, then those that allow: if there are any, one of them must match. What is
//! not known of a connection that is not HTTP does not make a policy match that allows, and does not keep one from matching that
//! denies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::Request;
use super::policy_test::Test;
use crate::identity::SpiffeId;
use crate::model::{Authorization, PolicyAction, Resources};

/// What is known of who asks for what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// None: it is not HTTP.
    pub request: Option<Request<'a>>,
    /// Who the other end of the connection has proved to be.
    pub peer: Option<PeerFacts<'a>>,
    /// Other end of the connection.
    pub source: Option<IpAddr>,
    /// The client, as far as proxies in front can be believed.
    pub remote: Option<IpAddr>,
    /// This end of the connection.
    pub local: Option<SocketAddr>,
    pub sni: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct PeerFacts<'a> {
    /// `cluster.local/ns/default/sa/a`; of a certificate without a SPIFFE id, its other name.
    pub principal: &'a str,
    pub id: Option<&'a SpiffeId>,
}

/// The policies of a proxy, prepared.
#[derive(Debug, Default)]
pub struct Authorizer {
    pub(crate) custom: Vec<CompiledPolicy>,
    pub(crate) deny: Vec<CompiledPolicy>,
    pub(crate) allow: Vec<CompiledPolicy>,
    pub(crate) audit: Vec<CompiledPolicy>,
    /// Policies that are tried out.
    pub(crate) trial: Vec<CompiledPolicy>,
    /// What it is made from.
    pub(crate) source: Resources<Authorization>,
}

#[derive(Debug)]
pub struct CompiledPolicy {
    pub model: Arc<Authorization>,
    pub rules: Vec<CompiledPolicyRule>,
}

#[derive(Debug)]
pub struct CompiledPolicyRule {
    /// In `spec.rules`.
    pub index: u32,
    /// `ns[default]-policy[a]-rule[0]`, as Istio's logs have it.
    pub name: Arc<str>,
    pub(crate) from: Vec<Vec<Test>>,
    pub(crate) to: Vec<Vec<Test>>,
    pub(crate) when: Vec<Test>,
}

/// What the policies say.
#[derive(Clone, Copy, Debug)]
pub enum Ruling<'p> {
    Allowed,
    /// By a rule; none: no policy allows it.
    Denied(Option<&'p CompiledPolicyRule>),
    /// An external authorizer decides, and then the other policies do.
    Ask(&'p CompiledPolicy, &'p CompiledPolicyRule),
}

impl Ruling<'_> {
    /// `response_code_details` of what is denied, as Envoy's.
    pub fn details(&self) -> String {
        match self {
            Ruling::Denied(Some(rule)) => format!("rbac_access_denied_matched_policy[{}]", rule.name),
            Ruling::Denied(None) => "rbac_access_denied_matched_policy[none]".to_owned(),
            Ruling::Ask(..) => "ext_authz_error".to_owned(),
            Ruling::Allowed => String::new(),
        }
    }
}

impl Authorizer {
    /// Without policies everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    pub fn decide(&self, facts: &Facts<'_>) -> Ruling<'_> {
        if let Some((policy, rule)) = first(&self.custom, facts) {
            return Ruling::Ask(policy, rule);
        }
        self.decide_alone(facts)
    }

    /// Whether any policy leaves anything to external authorizers.
    pub fn asks(&self) -> bool {
        !self.custom.is_empty()
    }

    /// The policies that match and leave it to external authorizers.
    pub fn to_ask(&self, facts: &Facts<'_>) -> SmallVec<[&CompiledPolicy; 1]> {
        self.custom.iter().filter(|policy| policy.matching(facts).is_some()).collect()
    }

    /// Without asking external authorizers.
    pub fn decide_alone(&self, facts: &Facts<'_>) -> Ruling<'_> {
        if let Some((_, rule)) = first(&self.deny, facts) {
            return Ruling::Denied(Some(rule));
        }
        if self.allow.is_empty() || first(&self.allow, facts).is_some() {
            Ruling::Allowed
        } else {
            Ruling::Denied(None)
        }
    }

    /// Policies that match and do nothing: those that are tried out, and those that tell.
    pub fn observers<'p>(&'p self, facts: &'p Facts<'p>) -> impl Iterator<Item = &'p CompiledPolicy> {
        self.trial.iter().chain(&self.audit).filter(move |policy| policy.matching(facts).is_some())
    }
}

fn first<'p>(
    policies: &'p [CompiledPolicy],
    facts: &Facts<'_>,
) -> Option<(&'p CompiledPolicy, &'p CompiledPolicyRule)> {
    policies.iter().find_map(|policy| policy.matching(facts).map(|rule| (policy, rule)))
}

impl CompiledPolicy {
    fn matching(&self, facts: &Facts<'_>) -> Option<&CompiledPolicyRule> {
        let denies = matches!(self.model.action, PolicyAction::Deny | PolicyAction::Custom { .. });
        self.rules.iter().find(|rule| rule.matches(facts, denies))
    }
}

impl CompiledPolicyRule {
    /// `unknown`: what counts of what is not known.
    pub(super) fn matches(&self, facts: &Facts<'_>, unknown: bool) -> bool {
        let all = |tests: &Vec<Test>| tests.iter().all(|test| test.holds(facts, unknown));
        let any = |lists: &[Vec<Test>]| lists.is_empty() || lists.iter().any(all);
        any(&self.from) && any(&self.to) && all(&self.when)
    }

    pub(super) fn tests(&self) -> impl Iterator<Item = &Test> {
        self.from.iter().chain(&self.to).flatten().chain(&self.when)
    }
}

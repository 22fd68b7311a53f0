//! AuthorizationPolicies: what their rules mean.
//!
//! What cannot be understood denies, in the smallest scope: in a policy that allows, a value that cannot be read is no value, and a
//! condition that cannot be read does not hold; in one that denies, such a condition holds.

use std::sync::Arc;

use super::Context;
use crate::api::{AuthorizationAction, AuthorizationPolicy, AuthorizationRule, RuleCondition, RuleFrom, RuleTo};
use crate::attribute::{self, Attribute, ValueMatch};
use crate::diag;
use crate::model::{Authorization, Clause, PolicyAction, PolicyRule};
use crate::world::{Entry, Mesh};

/// Fields of a source or an operation: name, values, and those that must not be.
type Fields<'f> = &'f [(&'static str, &'f [String], &'f [String])];

impl Context<'_> {
    pub(super) fn authorization(&mut self, entry: &Entry<AuthorizationPolicy>) -> Authorization {
        let spec = &entry.spec;
        let action = match spec.action.unwrap_or_default() {
            AuthorizationAction::Allow => PolicyAction::Allow,
            AuthorizationAction::Deny => PolicyAction::Deny,
            AuthorizationAction::Audit => PolicyAction::Audit,
            AuthorizationAction::Custom => {
                let provider: Arc<str> = spec.provider.as_ref().map_or("", |provider| &provider.name).into();
                let authorizer = self.external_authorizer(entry, &provider);
                PolicyAction::Custom { provider, authorizer }
            }
        };
        let mesh = self.world.mesh();
        let denies = matches!(action, PolicyAction::Deny | PolicyAction::Custom { .. });
        let mut reader = Reader { context: self, entry, mesh, denies };
        let rules =
            spec.rules.iter().zip(0_u32..).filter_map(|(rule, index)| reader.rule(rule.as_ref(), index)).collect();
        let dry_run = entry.meta.annotations.get("istio.io/dry-run").and_then(|value| attribute::boolean(value));
        Authorization {
            key: format!("{}/{}", entry.reference.namespace, entry.reference.name).into(),
            action,
            dry_run: dry_run.unwrap_or_default(),
            rules,
            origin: entry.reference.clone(),
        }
    }
}

/// Reads conditions of an object.
pub(super) struct Reader<'r, 'a, T> {
    pub context: &'r mut Context<'a>,
    pub entry: &'r Entry<T>,
    pub mesh: &'r Mesh,
    /// What cannot be understood holds; else it does not.
    pub denies: bool,
}

/// `from`, `to` and `when` of a rule: as they are written, and what they mean.
type Written<'p> = (&'p [Option<RuleFrom>], &'p [Option<RuleTo>], &'p [Option<RuleCondition>]);
type Meant = (Vec<Vec<Clause>>, Vec<Vec<Clause>>, Vec<Clause>);

impl<T> Reader<'_, '_, T> {
    /// None: it never matches.
    fn rule(&mut self, rule: Option<&AuthorizationRule>, index: u32) -> Option<PolicyRule> {
        let Some(rule) = rule else {
            return self.denies.then(|| PolicyRule { index, from: Vec::new(), to: Vec::new(), when: Vec::new() });
        };
        let parts = (&*rule.from, &*rule.to, &*rule.when);
        let (from, to, when) = self.parts(parts, &format!("spec.rules[{index}]"));
        Some(PolicyRule { index, from, to, when })
    }

    /// `at`: what they are fields of.
    pub fn parts(&mut self, (from, to, when): Written<'_>, at: &str) -> Meant {
        let sources = from.iter().map(|from| from.as_ref().and_then(|from| from.source.as_ref()));
        let from = sources.map(|source| self.fields(source.map(|source| source.fields()).as_ref().map(|all| &all[..])));
        let from = from.collect();
        let operations = to.iter().map(|to| to.as_ref().and_then(|to| to.operation.as_ref()));
        let to = operations
            .map(|operation| self.fields(operation.map(|operation| operation.fields()).as_ref().map(|all| &all[..])));
        let to = to.collect();
        let mut conditions = Vec::new();
        for (place, condition) in when.iter().enumerate() {
            self.condition(condition.as_ref(), &format!("{at}.when[{place}].key"), &mut conditions);
        }
        (from, to, conditions)
    }

    /// None: it could not be read.
    fn fields(&self, fields: Option<Fields<'_>>) -> Vec<Clause> {
        let mut clauses = Vec::new();
        for (name, values, others) in fields.unwrap_or_default() {
            if let Some(attribute) = Attribute::of_field(name) {
                self.clauses(&attribute, values, others, &mut clauses);
            }
        }
        let given = fields
            .is_some_and(|fields| fields.iter().any(|(_, values, others)| !(values.is_empty() && others.is_empty())));
        if !given {
            // One without a condition is refused by Istio.
            clauses.extend(self.not_understood());
        }
        clauses
    }

    fn condition(&mut self, condition: Option<&RuleCondition>, field: &str, clauses: &mut Vec<Clause>) {
        let Some(condition) = condition else { return clauses.extend(self.not_understood()) };
        if attribute::is_envoys(&condition.key) {
            let meaning = if self.denies { "it is taken to hold" } else { "the rule never matches" };
            let message = format!("`{}` has a meaning for Envoy only; {meaning}", condition.key);
            self.context.findings.report(diag::CONDITION_NOT_BUILT, self.entry, field, message, None);
        }
        let empty = condition.values.is_empty() && condition.not_values.is_empty();
        match Attribute::of_key(&condition.key) {
            Ok(attribute) if !empty => self.clauses(&attribute, &condition.values, &condition.not_values, clauses),
            // What is wrong was found when the object was read.
            _ => clauses.extend(self.not_understood()),
        }
    }

    fn not_understood(&self) -> Option<Clause> {
        (!self.denies).then(Clause::never)
    }

    fn clauses(&self, attribute: &Attribute, values: &[String], others: &[String], clauses: &mut Vec<Clause>) {
        if !values.is_empty() {
            let (values, all) = self.values(attribute, values);
            // Where one of the values may be anything, all are denied.
            if all || !self.denies {
                clauses.push(Clause { attribute: attribute.clone(), values, negated: false });
            }
        }
        if !others.is_empty() {
            let (values, all) = self.values(attribute, others);
            if all || self.denies {
                clauses.push(Clause { attribute: attribute.clone(), values, negated: true });
            } else {
                clauses.push(Clause::never());
            }
        }
    }

    /// Those that can be read, and whether these are all.
    fn values(&self, attribute: &Attribute, texts: &[String]) -> (Vec<ValueMatch>, bool) {
        let mut values = Vec::with_capacity(texts.len());
        let mut all = true;
        for text in texts {
            match attribute.value(text) {
                Ok(value) => self.expand(attribute, value, &mut values),
                Err(_) => all = false,
            }
        }
        (values, all)
    }

    /// Names that depend on where the policy stands, and on what the mesh is called.
    fn expand(&self, attribute: &Attribute, value: ValueMatch, values: &mut Vec<ValueMatch>) {
        match (attribute, value) {
            (Attribute::SourceServiceAccount, ValueMatch::Exact(name)) if !name.contains('/') => {
                values.push(ValueMatch::Exact(format!("{}/{name}", self.entry.reference.namespace)));
            }
            (Attribute::SourcePrincipal, ValueMatch::Exact(name)) => {
                values.extend(self.principals(&name).map(ValueMatch::Exact));
            }
            (Attribute::SourcePrincipal, ValueMatch::Prefix(name)) if name.contains('/') => {
                values.extend(self.principals(&name).map(ValueMatch::Prefix));
            }
            (_, value) => values.push(value),
        }
    }

    /// The principal in all trust domains of the mesh, if it is in one of them. `cluster.local` always means the mesh's.
    fn principals(&self, name: &str) -> impl Iterator<Item = String> {
        let bundle = std::iter::once(&self.mesh.trust_domain).chain(&self.mesh.config.trust_domain_aliases);
        let bundle: Vec<&str> = bundle.map(String::as_str).collect();
        let expanded = match name.split_once('/') {
            Some((domain, rest)) if domain == "cluster.local" || bundle.contains(&domain) => {
                let domains = std::iter::once(domain).chain(bundle.iter().copied().filter(|other| *other != domain));
                domains.map(|domain| format!("{domain}/{rest}")).collect()
            }
            _ => vec![name.to_owned()],
        };
        expanded.into_iter()
    }
}

//! `AuthorizationPolicy`: what `ValidateAuthorizationPolicy` refuses. What is wrong in a rule is reported and stays where it is:
//! `translate` makes it deny rather than allow. What is wrong around the rules refuses the object.

use std::fmt::Display;

use super::super::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Meta, RequestOperation, RequestSource, RuleCondition,
    RuleFrom, RuleTo, negated,
};
use super::{Checks, Wrong, policy_target};
use crate::attribute::{self, Attribute};

/// Annotation of policies that are tried out.
const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn check(policy: &AuthorizationPolicy, meta: &Meta, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| {
        policy_target::check(policy.selector.as_ref(), policy.target_ref.as_ref(), &policy.target_refs, checks);
        action(policy, checks);
        dry_run(policy, meta, checks);
    })?;
    let action = policy.action.unwrap_or_default();
    for (index, rule) in policy.rules.iter().enumerate() {
        if let Some(rule) = rule {
            check_rule(&format!("spec.rules[{index}]"), rule, action, checks);
        }
    }
    Ok(())
}

fn action(policy: &AuthorizationPolicy, checks: &mut Checks<'_>) {
    let action = policy.action.unwrap_or_default();
    let provider = policy.provider.as_ref();
    let meaningless = || "use `rules: [{}]` if every request is meant";
    match action {
        AuthorizationAction::Custom => {
            if policy.rules.is_empty() {
                checks.missing("spec.rules", "a CUSTOM policy without rules never has an effect", meaningless());
            }
            if provider.is_none_or(|provider| provider.name.is_empty()) {
                checks.missing("spec.provider.name", "a CUSTOM policy needs the name of its provider", "");
            }
        }
        _ if provider.is_some() => {
            checks.error("spec.provider", "`provider` is for the action CUSTOM only", "");
        }
        AuthorizationAction::Deny if policy.rules.is_empty() => {
            checks.missing("spec.rules", "a DENY policy without rules never has an effect", meaningless());
        }
        _ => {}
    }
}

fn dry_run(policy: &AuthorizationPolicy, meta: &Meta, checks: &mut Checks<'_>) {
    let Some(value) = meta.annotations.get(DRY_RUN) else { return };
    let field = format!("metadata.annotations.{DRY_RUN}");
    if attribute::boolean(value).is_none() {
        checks.error(&field, format!("`{value}` is neither true nor false"), "");
    } else if !matches!(policy.action.unwrap_or_default(), AuthorizationAction::Allow | AuthorizationAction::Deny) {
        checks.error(&field, "only ALLOW and DENY policies can be tried out", "");
    }
}

fn check_rule(at: &str, rule: &AuthorizationRule, action: AuthorizationAction, checks: &mut Checks<'_>) {
    check_parts(at, (&rule.from, &rule.to, &rule.when), action, checks);
}

/// Of a rule `from`, `to` and `when`.
pub(super) type Parts<'p> = (&'p [Option<RuleFrom>], &'p [Option<RuleTo>], &'p [Option<RuleCondition>]);

/// `at`: what they are fields of.
pub(super) fn check_parts(at: &str, parts: Parts<'_>, action: AuthorizationAction, checks: &mut Checks<'_>) {
    let (from, to, when) = parts;
    for (index, from) in from.iter().enumerate() {
        let field = format!("{at}.from[{index}].source");
        match from.as_ref().map(|from| &from.source) {
            None => {}
            Some(None) => checks.missing(&field, "`from` needs a `source`", ""),
            Some(Some(source)) => check_source(&field, source, action, checks),
        }
    }
    for (index, to) in to.iter().enumerate() {
        let field = format!("{at}.to[{index}].operation");
        match to.as_ref().map(|to| &to.operation) {
            None => {}
            Some(None) => checks.missing(&field, "`to` needs an `operation`", ""),
            Some(Some(operation)) => check_operation(&field, operation, checks),
        }
    }
    for (index, condition) in when.iter().enumerate() {
        if let Some(condition) = condition {
            check_condition(&format!("{at}.when[{index}]"), condition, action, checks);
        }
    }
}

fn check_source(at: &str, source: &RequestSource, action: AuthorizationAction, checks: &mut Checks<'_>) {
    let fields = source.fields();
    if fields.iter().all(|(_, values, others)| values.is_empty() && others.is_empty()) {
        checks.missing(at, "a source needs a condition", "leave `from` out if any source is meant");
    }
    let given = |name: &str| {
        fields.iter().any(|(field, values, others)| *field == name && !(values.is_empty() && others.is_empty()))
    };
    if given("serviceAccounts") && (given("principals") || given("namespaces")) {
        let message = "`serviceAccounts` cannot be combined with `principals` or `namespaces`";
        checks.error(format_args!("{at}.serviceAccounts"), message, "");
    }
    for (name, ..) in fields.iter().filter(|(name, ..)| given(name)) {
        if let Some(attribute) = Attribute::of_field(name) {
            with_action(&format!("{at}.{name}"), &attribute, action, checks);
        }
    }
    check_lists(at, &fields, checks);
}

fn with_action(field: &str, attribute: &Attribute, action: AuthorizationAction, checks: &mut Checks<'_>) {
    if action == AuthorizationAction::Custom && !attribute.is_for_custom() {
        let message = format!("`{attribute}` cannot be used with the action CUSTOM");
        checks.error(field, message, "external authorizers are asked before peers and tokens are looked at");
    }
}

fn check_operation(at: &str, operation: &RequestOperation, checks: &mut Checks<'_>) {
    let fields = operation.fields();
    if fields.iter().all(|(_, values, others)| values.is_empty() && others.is_empty()) {
        checks.missing(at, "an operation needs a condition", "leave `to` out if any operation is meant");
    }
    check_lists(at, &fields, checks);
}

fn check_lists(at: &str, fields: &[(&'static str, &[String], &[String])], checks: &mut Checks<'_>) {
    for (name, values, others) in fields {
        let Some(attribute) = Attribute::of_field(name) else { continue };
        for (field, values) in [((*name).to_owned(), values), (negated(name), others)] {
            let field = format!("{at}.{field}");
            for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
                checks.missing(Index(&field, index), "an empty value is not allowed here", "");
            }
            check_values(&field, &attribute, values, checks);
        }
    }
}

fn check_values(at: &str, attribute: &Attribute, values: &[String], checks: &mut Checks<'_>) {
    for (index, value) in values.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
        if let Err(problem) = attribute.value(value) {
            checks.error(Index(at, index), problem, "");
        } else if let Some((problem, help)) = doubtful(attribute, value) {
            checks.doubt(Index(at, index), problem, &help);
        }
    }
}

/// What no request has: that Istio takes it makes it match nothing all the same.
fn doubtful(attribute: &Attribute, value: &str) -> Option<(String, String)> {
    match attribute {
        Attribute::Method => {
            let letters = value.trim_matches('*');
            let is_token = http::Method::from_bytes(letters.as_bytes()).is_ok() || letters.is_empty();
            if !is_token {
                return Some((format!("`{value}` is no method, so no request has it"), String::new()));
            }
            let upper = value.to_ascii_uppercase();
            let message =
                format!("`{value}` is not `{upper}`: methods are compared with their case, and clients send `{upper}`");
            let is_usual = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
            (upper != value && is_usual.contains(&&*upper)).then(|| (message, format!("write `{upper}`")))
        }
        Attribute::Path if !value.starts_with(['/', '*']) => {
            let message = format!("paths begin with `/`, so no request has `{value}`");
            Some((message, format!("write `/{value}`, or `*{value}` for what ends so")))
        }
        Attribute::Host if value.contains('/') => {
            let name = value.split_once("://").map_or(value, |(_, rest)| rest).split('/').next().unwrap_or_default();
            let message = format!("a host has no `/`, so no request has `{value}`");
            Some((message, format!("write the name alone: `{name}`")))
        }
        _ => None,
    }
}

struct Index<'a>(&'a str, usize);

impl Display for Index<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.0, self.1)
    }
}

fn check_condition(at: &str, condition: &RuleCondition, action: AuthorizationAction, checks: &mut Checks<'_>) {
    if condition.key.is_empty() {
        return checks.missing(format_args!("{at}.key"), "a condition needs the name of an attribute", "");
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        checks.missing(format_args!("{at}.values"), "a condition needs `values` or `notValues`", "");
    }
    if attribute::is_envoys(&condition.key) {
        return;
    }
    match Attribute::of_key(&condition.key) {
        Ok(attribute) => {
            with_action(&format!("{at}.key"), &attribute, action, checks);
            check_values(&format!("{at}.values"), &attribute, &condition.values, checks);
            check_values(&format!("{at}.notValues"), &attribute, &condition.not_values, checks);
        }
        Err(problem) => checks.error(format_args!("{at}.key"), problem, attribute::KEYS),
    }
}

//! Policies become tests.

use std::fmt::Write as _;
use std::sync::Arc;

use super::regex::Patterns;
use super::rules::header_key;
use crate::diag::{self, Diagnostic};
use crate::model::{Attribute, Authorization, Clause, PolicyAction, PolicyRule, Resources, ValueMatch};
use crate::object::ObjectRef;
use crate::snapshot::{Authorizer, CompiledPolicy, CompiledPolicyRule, Subject, Test, Texts};

/// What a segment may have that `{*}` stands for, as Envoy has it.
const SEGMENT: &str = r"a-zA-Z0-9\-._~%!$&'()+,;:@=";

/// The one before, if nothing is different.
pub(super) fn authorizer(
    policies: &Resources<Authorization>,
    previous: Option<&Arc<Authorizer>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Arc<Authorizer> {
    if let Some(previous) = previous.filter(|previous| previous.source.diff(policies).next().is_none()) {
        return Arc::clone(previous);
    }
    let mut authorizer = Authorizer { source: policies.clone(), ..Authorizer::default() };
    let mut patterns = Patterns::default();
    for policy in policies.values() {
        let list = match policy.action {
            _ if policy.dry_run => &mut authorizer.trial,
            PolicyAction::Custom { .. } => &mut authorizer.custom,
            PolicyAction::Deny => &mut authorizer.deny,
            PolicyAction::Allow => &mut authorizer.allow,
            PolicyAction::Audit => &mut authorizer.audit,
        };
        let denies = matches!(policy.action, PolicyAction::Deny | PolicyAction::Custom { .. });
        let mut compiler = Compiler {
            origin: &policy.origin,
            list: "rules",
            patterns: &mut patterns,
            diagnostics,
            wide: denies,
            refused_holds: denies,
        };
        let rules = policy.rules.iter().map(|rule| compiler.rule(rule)).collect();
        list.push(CompiledPolicy { model: Arc::clone(policy), rules });
    }
    Arc::new(authorizer)
}

/// Of the conditions of an object.
pub(super) struct Compiler<'c> {
    pub origin: &'c ObjectRef,
    /// `rules`: the list in which they are.
    pub list: &'static str,
    pub patterns: &'c mut Patterns,
    pub diagnostics: &'c mut Vec<Diagnostic>,
    /// Nobody gets around them by another spelling of the same host or path.
    pub wide: bool,
    /// A pattern that is refused is as if it were not there; else what it is a condition of never holds.
    pub refused_holds: bool,
}

/// `from`, `to` and `when`.
type Parts = (Vec<Vec<Test>>, Vec<Vec<Test>>, Vec<Test>);

impl Compiler<'_> {
    fn rule(&mut self, rule: &PolicyRule) -> CompiledPolicyRule {
        let origin = self.origin;
        let name = format!("ns[{}]-policy[{}]-rule[{}]", origin.namespace, origin.name, rule.index).into();
        let (from, to, when) = self.parts((&rule.from, &rule.to, &rule.when), rule.index);
        CompiledPolicyRule { index: rule.index, name, from, to, when }
    }

    pub(super) fn parts(&mut self, parts: (&[Vec<Clause>], &[Vec<Clause>], &[Clause]), index: u32) -> Parts {
        let (from, to, when) = parts;
        let mut lists =
            |lists: &[Vec<Clause>]| lists.iter().map(|clauses| self.tests(clauses, index)).collect::<Vec<_>>();
        let (from, to) = (lists(from), lists(to));
        (from, to, self.tests(when, index))
    }

    fn tests(&mut self, clauses: &[Clause], rule: u32) -> Vec<Test> {
        clauses.iter().filter_map(|clause| self.test(clause, rule)).collect()
    }

    /// None: it holds.
    fn test(&mut self, clause: &Clause, rule: u32) -> Option<Test> {
        let networks = || {
            clause.values.iter().filter_map(|value| match value {
                ValueMatch::Network(network) => Some(*network),
                _ => None,
            })
        };
        let subject = match &clause.attribute {
            Attribute::SourceIp => Subject::SourceIp(networks().collect()),
            Attribute::RemoteIp => Subject::RemoteIp(networks().collect()),
            Attribute::DestinationIp => Subject::DestinationIp(networks().collect()),
            Attribute::DestinationPort => Subject::DestinationPort(
                clause
                    .values
                    .iter()
                    .filter_map(|value| match value {
                        ValueMatch::Port(port) => Some(*port),
                        _ => None,
                    })
                    .collect(),
            ),
            Attribute::SourceServiceAccount => Subject::ServiceAccount(
                clause
                    .values
                    .iter()
                    .filter_map(|value| match value {
                        ValueMatch::Exact(text) => {
                            text.split_once('/').map(|(namespace, name)| (namespace.into(), name.into()))
                        }
                        _ => None,
                    })
                    .collect(),
            ),
            attribute => {
                let Some(texts) = self.texts(clause, rule) else {
                    // What denies does so without it, what allows never does.
                    return (!self.refused_holds)
                        .then(|| Test { subject: Subject::Method(Texts::default()), negated: false });
                };
                text_subject(attribute, texts, self.wide && !clause.negated)
            }
        };
        Some(Test { subject, negated: clause.negated })
    }

    fn texts(&mut self, clause: &Clause, rule: u32) -> Option<Texts> {
        let (mut exact, mut prefixes, mut suffixes, mut patterns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut present = false;
        let fold = |text: &str| -> Box<str> {
            if clause.attribute == Attribute::Host { text.to_ascii_lowercase().into() } else { text.into() }
        };
        for value in &clause.values {
            match value {
                ValueMatch::Present => present = true,
                ValueMatch::Exact(text) => exact.push(fold(text)),
                ValueMatch::Prefix(text) => prefixes.push(fold(text)),
                ValueMatch::Suffix(text) => suffixes.push(fold(text)),
                ValueMatch::Template(text) => {
                    match self.patterns.single(&template(text, self.wide != clause.negated)) {
                        Ok(pattern) => patterns.push(pattern),
                        Err(reason) => {
                            let message = format!("the path `{text}` cannot be used: {reason}");
                            let field = format!("spec.{}[{rule}]", self.list);
                            let diagnostic = Diagnostic::new(diag::REGEX_REFUSED, message);
                            self.diagnostics.push(diagnostic.object(self.origin).field(field));
                            return None;
                        }
                    }
                }
                ValueMatch::Network(_) | ValueMatch::Port(_) => {}
            }
        }
        exact.sort_unstable();
        Some(Texts {
            present,
            exact: exact.into(),
            prefixes: prefixes.into(),
            suffixes: suffixes.into(),
            patterns: patterns.into(),
        })
    }
}

fn text_subject(attribute: &Attribute, texts: Texts, loose: bool) -> Subject {
    let claim = |name: &str| -> Box<[String]> { Box::new([name.to_owned()]) };
    match attribute {
        Attribute::SourcePrincipal => Subject::Principal(texts),
        Attribute::SourceNamespace => Subject::Namespace(texts),
        Attribute::SourceTrustDomain => Subject::TrustDomain(texts),
        Attribute::RequestPrincipal => Subject::RequestPrincipal(texts),
        Attribute::Audiences => Subject::Claim(claim("aud"), texts),
        Attribute::Presenter => Subject::Claim(claim("azp"), texts),
        Attribute::Claim(names) => Subject::Claim(names.clone().into(), texts),
        Attribute::Host => Subject::Host { hosts: texts, loose },
        Attribute::Path => Subject::Path(texts),
        Attribute::Header(name) => Subject::Header(header_key(name), texts),
        Attribute::Sni => Subject::Sni(texts),
        _ => Subject::Method(texts),
    }
}

/// `wide`: what denies takes every character of a segment, so that none slips through.
fn template(text: &str, wide: bool) -> String {
    let (one, many) = if wide {
        ("[^/]+".to_owned(), "(?s:.*)".to_owned())
    } else {
        (format!("[{SEGMENT}]+"), format!("[{SEGMENT}/]*"))
    };
    let mut pattern = String::with_capacity(text.len() * 2);
    for (index, part) in text.split("{*}").enumerate() {
        if index > 0 {
            pattern.push_str(&one);
        }
        for (index, literal) in part.split("{**}").enumerate() {
            if index > 0 {
                pattern.push_str(&many);
            }
            let _ = write!(pattern, "{}", regex_syntax::escape(literal));
        }
    }
    pattern
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;

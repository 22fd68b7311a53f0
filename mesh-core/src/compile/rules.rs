//! One rule, prepared: its action and all of its conditions but the path, which the index answers.

use std::sync::Arc;

use http::HeaderName;

use super::actions::Actions;
use super::regex::Patterns;
use crate::diag::{self, Diagnostic};
use crate::model::{HeaderMatch, PathMatch, Predicate, Rule, RuleSource, StringMatch};
use crate::snapshot::{CompiledRule, Condition, HeaderKey, PathKind, TextMatch};

pub(super) fn compiled_rule(rule: &Rule, actions: &mut Actions, patterns: &mut Patterns) -> CompiledRule {
    let mut reader = Reader { source: &rule.source, patterns, refused: None, diagnostics: Vec::new() };
    let path = match &rule.predicate.path {
        PathMatch::Any => PathKind::Any,
        PathMatch::Exact { .. } => PathKind::Exact,
        PathMatch::Prefix { value, .. } => PathKind::Prefix(value.len()),
        PathMatch::Regex(text) => {
            if let Err(reason) = reader.patterns.parsed(text) {
                reader.refuse(text, "uri", &reason);
            }
            PathKind::Regex
        }
    };
    let conditions = reader.conditions(&rule.predicate);
    let Reader { refused, diagnostics: mut found, .. } = reader;
    let prepared = actions.prepare(rule, patterns);
    let diagnostics = if found.is_empty() {
        prepared.diagnostics
    } else {
        found.extend(prepared.diagnostics.iter().flat_map(|more| more.iter().cloned()));
        Some(found.into())
    };
    CompiledRule {
        source: rule.source.clone(),
        name: rule.name.clone(),
        stat_prefix: rule.stat_prefix.clone(),
        headers: prepared.headers,
        action: prepared.action,
        path,
        conditions,
        refused,
        diagnostics,
    }
}

struct Reader<'a> {
    source: &'a RuleSource,
    patterns: &'a mut Patterns,
    refused: Option<Arc<str>>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn conditions(&mut self, predicate: &Predicate) -> Arc<[Condition]> {
        let mut conditions = Vec::new();
        for (value, field, condition) in [
            (&predicate.method, "method", Condition::Method as fn(TextMatch) -> Condition),
            (&predicate.scheme, "scheme", Condition::Scheme),
            (&predicate.authority, "authority", Condition::Authority),
        ] {
            if let Some(value) = value {
                conditions.push(condition(self.text(value, || field.to_owned())));
            }
        }
        for header in &predicate.headers {
            let value = self.text(&header.value, || header_field(header));
            conditions.push(Condition::Header { name: header_key(&header.name), value, invert: header.invert });
        }
        for query in &predicate.query {
            let value = self.text(&query.value, || format!("queryParams[{}]", query.name));
            conditions.push(Condition::Query { name: query.name.as_str().into(), value });
        }
        for claim in &predicate.claims {
            let field = if claim.invert { "withoutHeaders" } else { "headers" };
            let value =
                self.text(&claim.value, || format!("{field}[@request.auth.claims[{}]]", claim.claim.join("][")));
            let names = claim.claim.clone().into();
            conditions.push(Condition::Claim { names, value, invert: claim.invert });
        }
        conditions.into()
    }

    fn text(&mut self, value: &StringMatch, field: impl FnOnce() -> String) -> TextMatch {
        match value {
            StringMatch::Exact(text) => TextMatch::Exact(text.as_str().into()),
            StringMatch::Prefix(text) => TextMatch::Prefix(text.as_str().into()),
            StringMatch::Present => TextMatch::Present,
            StringMatch::Regex(text) => match self.patterns.single(text) {
                Ok(pattern) => TextMatch::Regex(pattern),
                Err(reason) => {
                    self.refuse(text, &field(), &reason);
                    // Never asked: the rule is left out of the index.
                    TextMatch::Present
                }
            },
        }
    }

    fn refuse(&mut self, text: &str, field: &str, reason: &str) {
        let source = self.source;
        self.refused.get_or_insert_with(|| format!("{field}: regex {text:?}").into());
        self.diagnostics.push(
            Diagnostic::new(diag::REGEX_REFUSED, format!("{text:?}: {reason}; the rule never matches"))
                .object(&source.object)
                .field(format!("{}.{field}.regex", match_field(source))),
        );
    }
}

fn header_field(header: &HeaderMatch) -> String {
    let field = if header.invert { "withoutHeaders" } else { "headers" };
    format!("{field}[{}]", header.name)
}

pub(super) fn header_key(name: &str) -> HeaderKey {
    match name {
        ":method" => HeaderKey::Method,
        ":path" => HeaderKey::Path,
        ":scheme" => HeaderKey::Scheme,
        ":authority" | "host" => HeaderKey::Authority,
        _ => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => HeaderKey::Line(name),
            Err(_) => HeaderKey::Impossible(name.into()),
        },
    }
}

/// `spec.http[0].match[1]`
fn match_field(source: &RuleSource) -> String {
    match source.r#match {
        Some(index) => format!("spec.http[{}].match[{index}]", source.http),
        None => format!("spec.http[{}]", source.http),
    }
}

//! The rules of a virtual host become a route table.

use std::sync::Arc;

use http::HeaderName;

use super::{actions, regex};
use crate::diag::{self, Diagnostic};
use crate::model::{HeaderMatch, PathMatch, Predicate, Rule, RuleSource, StringMatch, VirtualHost};
use crate::snapshot::{CompiledRule, Condition, HeaderKey, PathKind, Pattern, RouteTable, TextMatch};

pub(super) fn route_table(host: &Arc<VirtualHost>, diagnostics: &mut Vec<Diagnostic>) -> RouteTable {
    let mut actions = actions::Actions::default();
    let mut rules = Vec::with_capacity(host.rules.len());
    let mut patterns = Vec::with_capacity(host.rules.len());
    for rule in &host.rules {
        let pattern = match &rule.predicate.path {
            PathMatch::Regex(text) => Some(pattern(text, &rule.source, "uri", diagnostics)),
            _ => None,
        };
        patterns.push(pattern);
        rules.push(Arc::new(compiled_rule(rule, &mut actions, diagnostics)));
    }
    RouteTable { model: host.clone(), rules, patterns, slots: actions.slots() }
}

fn compiled_rule(rule: &Rule, actions: &mut actions::Actions, diagnostics: &mut Vec<Diagnostic>) -> CompiledRule {
    let path = match &rule.predicate.path {
        PathMatch::Any => PathKind::Any,
        PathMatch::Exact { .. } => PathKind::Exact,
        PathMatch::Prefix { value, .. } => PathKind::Prefix(value.len()),
        PathMatch::Regex(_) => PathKind::Regex,
    };
    let (action, headers) = actions.prepare(rule, diagnostics);
    CompiledRule {
        source: rule.source.clone(),
        name: rule.name.clone(),
        headers,
        action,
        path,
        conditions: conditions(&rule.predicate, &rule.source, diagnostics),
    }
}

fn conditions(predicate: &Predicate, source: &RuleSource, diagnostics: &mut Vec<Diagnostic>) -> Box<[Condition]> {
    let mut text = |value: &StringMatch, field: &str| text_match(value, source, field, diagnostics);
    let method = predicate.method.iter().map(|value| (value, "method"));
    let mut conditions: Vec<Condition> = method.map(|(value, field)| Condition::Method(text(value, field))).collect();
    conditions.extend(predicate.scheme.iter().map(|value| Condition::Scheme(text(value, "scheme"))));
    conditions.extend(predicate.authority.iter().map(|value| Condition::Authority(text(value, "authority"))));
    conditions.extend(predicate.headers.iter().map(|header| Condition::Header {
        name: header_key(&header.name),
        value: text(&header.value, &header_field(header)),
        invert: header.invert,
    }));
    conditions.extend(predicate.query.iter().map(|query| Condition::Query {
        name: query.name.as_str().into(),
        value: text(&query.value, &format!("queryParams[{}]", query.name)),
    }));
    conditions.into()
}

fn header_field(header: &HeaderMatch) -> String {
    let field = if header.invert { "withoutHeaders" } else { "headers" };
    format!("{field}[{}]", header.name)
}

fn header_key(name: &str) -> HeaderKey {
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

fn text_match(value: &StringMatch, source: &RuleSource, field: &str, diagnostics: &mut Vec<Diagnostic>) -> TextMatch {
    match value {
        StringMatch::Exact(text) => TextMatch::Exact(text.as_str().into()),
        StringMatch::Prefix(text) => TextMatch::Prefix(text.as_str().into()),
        StringMatch::Present => TextMatch::Present,
        StringMatch::Regex(text) => TextMatch::Regex(pattern(text, source, field, diagnostics)),
    }
}

fn pattern(text: &str, source: &RuleSource, field: &str, diagnostics: &mut Vec<Diagnostic>) -> Arc<Pattern> {
    Arc::new(match regex::full(text) {
        Ok(regex) => Pattern::new(text, regex),
        Err(reason) => {
            diagnostics.push(
                Diagnostic::new(diag::REGEX_REFUSED, format!("{text:?} never matches: {reason}"))
                    .object(&source.object)
                    .field(format!("{}.{field}.regex", match_field(source))),
            );
            Pattern::never(text)
        }
    })
}

/// `spec.http[0].match[1]`
fn match_field(source: &RuleSource) -> String {
    match source.r#match {
        Some(index) => format!("spec.http[{}].match[{index}]", source.http),
        None => format!("spec.http[{}]", source.http),
    }
}

//! Header operations in the order that Istio defines, with their values parsed. One that is not legal is left out.

use http::{HeaderName, HeaderValue};

use super::template;
use crate::diag::{self, Diagnostic};
use crate::model::{HeaderOp, HeaderOps, RuleSource};
use crate::snapshot::{CompiledHeaderOp, CompiledHeaderOps, Pass, Side, Template, Value};

/// Where in the user's object an operation stands.
struct Place<'a> {
    source: &'a RuleSource,
    /// `route[1].`, empty for the rule itself.
    split: &'a str,
    side: Side,
}

/// Operations of the rule alone.
pub(super) fn rule_only(rule: &HeaderOps, source: &RuleSource, diagnostics: &mut Vec<Diagnostic>) -> CompiledHeaderOps {
    let mut side = |side, op| {
        let level = compile(op, &Place { source, split: "", side }, diagnostics);
        CompiledHeaderOp { side, passes: passes([level.pass]), authority: level.authority }
    };
    CompiledHeaderOps { request: side(Side::Request, &rule.request), response: side(Side::Response, &rule.response) }
}

/// Operations of a rule and of one of its destinations. A lone destination: one pass, in which the destination's come
/// last and so win. One of several: the destination's pass, then the rule's. The rule's authority always wins.
pub(super) fn merged(
    rule: &HeaderOps,
    split: &HeaderOps,
    alone: bool,
    source: &RuleSource,
    index: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> CompiledHeaderOps {
    let name = format!("route[{index}].");
    let mut merge = |side, outer: &HeaderOp, inner: &HeaderOp| {
        // Of the rule's own operations `rule_only` has already told.
        let outer = compile(outer, &Place { source, split: "", side }, &mut Vec::new());
        let inner = compile(inner, &Place { source, split: &name, side }, diagnostics);
        let passes = if alone { passes([outer.pass.join(inner.pass)]) } else { passes([inner.pass, outer.pass]) };
        CompiledHeaderOp { side, passes, authority: outer.authority.or(inner.authority) }
    };
    CompiledHeaderOps {
        request: merge(Side::Request, &rule.request, &split.request),
        response: merge(Side::Response, &rule.response, &split.response),
    }
}

fn passes<const N: usize>(all: [Pass; N]) -> Vec<Pass> {
    all.into_iter().filter(|pass| !pass.is_empty()).collect()
}

#[derive(Default)]
struct Level {
    pass: Pass,
    authority: Option<Template>,
}

fn compile(op: &HeaderOp, place: &Place<'_>, diagnostics: &mut Vec<Diagnostic>) -> Level {
    let mut level = Level::default();
    for name in &op.remove {
        match header_name(name, place.side, true) {
            Ok(name) => level.pass.remove.push(name),
            Err(reason) => diagnostics.push(place.refused("remove", name, &reason)),
        }
    }
    for (kind, entries) in [("set", &op.set), ("add", &op.add)] {
        for (name, text) in entries {
            match entry(name, text, place.side) {
                Ok(Entry::Nothing) => {}
                Ok(Entry::Authority(template)) => level.authority = Some(template),
                Ok(Entry::Header(name, value)) if kind == "set" => level.pass.set.push((name, value)),
                Ok(Entry::Header(name, value)) => level.pass.add.push((name, value)),
                Err(reason) => diagnostics.push(place.refused(kind, name, &reason)),
            }
        }
    }
    level
}

enum Entry {
    Nothing,
    Authority(Template),
    Header(HeaderName, Value),
}

fn entry(name: &str, text: &str, side: Side) -> Result<Entry, String> {
    let template = template::parse(text)?;
    if side == Side::Request && is_authority(name) {
        return Ok(if text.is_empty() { Entry::Nothing } else { Entry::Authority(template) });
    }
    let name = header_name(name, side, false)?;
    let value = match template.literal() {
        Some("") => return Ok(Entry::Nothing),
        Some(text) => Value::Ready(
            HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no legal header value"))?,
        ),
        None => Value::Template(template),
    };
    Ok(Entry::Header(name, value))
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

fn header_name(name: &str, side: Side, remove: bool) -> Result<HeaderName, String> {
    if name.starts_with(':') {
        return Err("pseudo headers cannot be changed".to_owned());
    }
    if side == Side::Request && remove && is_authority(name) {
        return Err("the authority cannot be removed".to_owned());
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no legal header name"))?;
    if side == Side::Response && (name == http::header::SERVER || name == http::header::DATE) {
        return Err(format!("the proxy sets {name:?} itself"));
    }
    Ok(name)
}

impl Place<'_> {
    fn refused(&self, kind: &str, name: &str, reason: &str) -> Diagnostic {
        let side = match self.side {
            Side::Request => "request",
            Side::Response => "response",
        };
        let field = format!("spec.http[{}].{}headers.{side}.{kind}[{name}]", self.source.http, self.split);
        Diagnostic::new(diag::HEADER_OP_REFUSED, reason).object(&self.source.object).field(field)
    }
}

//! `corsPolicy`, prepared.

use http::HeaderValue;

use super::regex::Patterns;
use crate::diag::{self, Diagnostic};
use crate::model::{Cors, RuleSource, StringMatch};
use crate::snapshot::{CompiledCors, Listed, TextMatch};

/// An origin whose pattern is refused allows nobody.
pub(super) fn cors(
    cors: &Cors,
    source: &RuleSource,
    patterns: &mut Patterns,
    diagnostics: &mut Vec<Diagnostic>,
) -> CompiledCors {
    let mut origins = Vec::with_capacity(cors.origins.len());
    for (index, origin) in cors.origins.iter().enumerate() {
        match origin {
            StringMatch::Exact(text) => origins.push(TextMatch::Exact(text.as_str().into())),
            StringMatch::Prefix(text) => origins.push(TextMatch::Prefix(text.as_str().into())),
            StringMatch::Present => origins.push(TextMatch::Present),
            StringMatch::Regex(text) => match patterns.single(text) {
                Ok(pattern) => origins.push(TextMatch::Regex(pattern)),
                Err(reason) => diagnostics.push(
                    Diagnostic::new(diag::REGEX_REFUSED, format!("{text:?}: {reason}; it allows no origin"))
                        .object(&source.object)
                        .field(format!("spec.http[{}].corsPolicy.allowOrigins[{index}].regex", source.http)),
                ),
            },
        }
    }
    // As Envoy: who matches `*` means everybody.
    if origins.iter().any(|origin| origin.matches(b"*")) {
        origins = vec![TextMatch::Present];
    }
    CompiledCors {
        origins: origins.into(),
        methods: listed(&cors.methods),
        headers: listed(&cors.headers),
        expose: value(&cors.expose).unwrap_or_else(|| HeaderValue::from_static("")),
        max_age: cors.max_age.map(HeaderValue::from),
        credentials: cors.credentials,
        answer_unmatched: cors.answer_unmatched,
    }
}

fn listed(text: &str) -> Listed {
    match value(text) {
        None => Listed::Nothing,
        Some(_) if text == "*" => Listed::Asked,
        Some(value) => Listed::These(value),
    }
}

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|value| !value.is_empty())
}

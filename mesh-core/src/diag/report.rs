//! Diagnostics for people and for programs: the same words and the same shape wherever they are shown.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Diagnostic, SOURCE_UNREADABLE, Severity, YAML_SYNTAX, istio_code};

/// The shape for programs.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub diagnostics: Vec<Finding<'a>>,
}

/// One diagnostic.
#[derive(Debug, Serialize)]
pub struct Finding<'a> {
    code: &'a str,
    /// What `istioctl analyze` calls the same.
    #[serde(rename = "istioCode", skip_serializing_if = "Option::is_none")]
    istio_code: Option<&'static str>,
    severity: Severity,
    /// `Kind/namespace/name`
    object: Option<String>,
    field: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    message: &'a str,
    help: Option<&'a str>,
}

/// For `-o json` and pages.
#[must_use]
pub fn report(diagnostics: &[Diagnostic]) -> Report<'_> {
    let findings = diagnostics.iter().map(|diagnostic| {
        let position = diagnostic.position.as_ref();
        Finding {
            code: diagnostic.code,
            istio_code: istio_code(diagnostic.code),
            severity: diagnostic.severity,
            object: diagnostic.object.as_ref().map(ToString::to_string),
            field: &diagnostic.field,
            file: position.map(|position| &*position.file),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            message: &diagnostic.message,
            help: diagnostic.help.as_deref(),
        }
    });
    Report { diagnostics: findings.collect() }
}

/// In the order in which they are shown, each once.
pub fn arrange(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| (&a.position, &a.object, a.code).cmp(&(&b.position, &b.object, b.code)));
    diagnostics.dedup();
}

/// What they come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing worse than warnings.
    Fine,
    /// Something could not be read at all.
    BadData,
    /// Errors of objects.
    Problems,
}

/// Files that cannot be read are bad data; errors of objects are problems; warnings are neither.
#[must_use]
pub fn verdict(diagnostics: &[Diagnostic]) -> Verdict {
    let unreadable = [YAML_SYNTAX.id, SOURCE_UNREADABLE.id];
    if diagnostics.iter().any(|diagnostic| unreadable.contains(&diagnostic.code)) {
        Verdict::BadData
    } else if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        Verdict::Problems
    } else {
        Verdict::Fine
    }
}

/// For people; `objects` is the number of those that were looked at.
#[must_use]
pub fn text(diagnostics: &[Diagnostic], objects: usize, color: bool) -> String {
    let mut out = String::new();
    let paint = |code: &'static str| if color { code } else { "" };
    for diagnostic in diagnostics {
        let shade = match diagnostic.severity {
            Severity::Error => paint("\x1b[1;31m"),
            Severity::Warning => paint("\x1b[1;33m"),
            Severity::Info => paint("\x1b[1;36m"),
        };
        let (bold, dim, off) = (paint("\x1b[1m"), paint("\x1b[2m"), paint("\x1b[0m"));
        let severity = diagnostic.severity.as_str();
        let _ = writeln!(out, "{shade}{severity}[{}]{off}{bold}: {}{off}", diagnostic.code, diagnostic.message);
        if let Some(position) = &diagnostic.position {
            let _ = writeln!(out, "  {dim}-->{off} {position}");
        }
        if let Some(object) = &diagnostic.object {
            let _ = writeln!(out, "   {dim}={off} object: {object}");
        }
        if !diagnostic.field.is_empty() {
            let _ = writeln!(out, "   {dim}={off} field: {}", diagnostic.field);
        }
        if let Some(help) = &diagnostic.help {
            let _ = writeln!(out, "   {dim}={off} help: {help}");
        }
        out.push('\n');
    }
    let count = |severity: Severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let _ = writeln!(
        out,
        "{}: {}, {}, {}",
        plural(objects, "object"),
        plural(count(Severity::Error), "error"),
        plural(count(Severity::Warning), "warning"),
        plural(count(Severity::Info), "info"),
    );
    out
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;

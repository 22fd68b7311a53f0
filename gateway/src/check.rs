//! `meshgate check`: reads objects as `run` would, and says what is wrong with them, for people or for programs.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::SystemTime;

use mesh_core::compile::compile;
use mesh_core::diag::{self, Diagnostic, Severity};
use mesh_core::model::ResourceSet;
use serde::Serialize;

use crate::exit;
use crate::source::{FilesOptions, load};
use crate::tls::certs::CertificateTable;

/// The shape of `-o json` and of the admin page `/diagnostics`.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub diagnostics: Vec<Finding<'a>>,
}

#[derive(Debug, Serialize)]
pub struct Finding<'a> {
    code: &'a str,
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

#[must_use]
pub fn report(diagnostics: &[Diagnostic]) -> Report<'_> {
    let findings = diagnostics.iter().map(|diagnostic| {
        let position = diagnostic.position.as_ref();
        Finding {
            code: diagnostic.code,
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

/// Reads, prints, and yields the exit code.
pub fn run(files: FilesOptions, json: bool) -> anyhow::Result<u8> {
    let (diagnostics, objects) = findings(files)?;
    let mut stdout = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut stdout, &report(&diagnostics))?;
        writeln!(stdout)?;
    } else {
        let color = stdout.is_terminal();
        stdout.write_all(text(&diagnostics, objects, color).as_bytes())?;
    }
    Ok(exit_code(&diagnostics))
}

/// Everything that `run` would find out without opening a socket, and the number of objects.
fn findings(files: FilesOptions) -> anyhow::Result<(Vec<Diagnostic>, usize)> {
    let configuration = load(files).configuration;
    let mut diagnostics = configuration.diagnostics.clone();
    diagnostics.extend(compile(&configuration.set, None, 1).diagnostics);
    diagnostics.extend(certificates(&configuration.set)?);
    configuration.locate(&mut diagnostics);
    diagnostics.sort_by(|a, b| (&a.position, &a.object, a.code).cmp(&(&b.position, &b.object, b.code)));
    diagnostics.dedup();
    Ok((diagnostics, configuration.objects.len()))
}

/// Of secrets. Files that a server names are the gateway's, and need not be here.
fn certificates(set: &ResourceSet) -> anyhow::Result<Vec<Diagnostic>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = runtime.block_on(CertificateTable::build(set, &CertificateTable::default(), SystemTime::now()));
    let of_files = |diagnostic: &Diagnostic| {
        diagnostic.code == diag::CERTIFICATE_UNUSABLE.id && diagnostic.field.starts_with("spec.servers[")
    };
    Ok(table.1.into_iter().filter(|diagnostic| !of_files(diagnostic)).collect())
}

/// Files that cannot be read are bad data; errors of objects are problems; warnings are neither.
fn exit_code(diagnostics: &[Diagnostic]) -> u8 {
    let unreadable = [diag::YAML_SYNTAX.id, diag::SOURCE_UNREADABLE.id];
    if diagnostics.iter().any(|diagnostic| unreadable.contains(&diagnostic.code)) {
        exit::BAD_DATA
    } else if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        exit::FOUND_PROBLEMS
    } else {
        exit::OK
    }
}

fn text(diagnostics: &[Diagnostic], objects: usize, color: bool) -> String {
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
#[path = "check_tests.rs"]
mod tests;

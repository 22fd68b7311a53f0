//! RE2 patterns of users become automata.

use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;
use regex_syntax::hir::{Hir, Look};

/// Largest NFA of one pattern.
const SIZE_LIMIT: usize = 1 << 20;

/// A regex that matches whole texts only.
pub(super) fn full(text: &str) -> Result<Regex, String> {
    let hir = parse(text)?;
    build(&Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]))
}

/// A regex that matches anywhere.
pub(super) fn anywhere(text: &str) -> Result<Regex, String> {
    build(&parse(text)?)
}

fn parse(text: &str) -> Result<Hir, String> {
    let config = syntax::Config::new().utf8(false).nest_limit(128);
    syntax::parse_with(text, &config).map_err(|error| one_line(&error.to_string()))
}

fn build(hir: &Hir) -> Result<Regex, String> {
    meta::Builder::new()
        .configure(meta::Config::new().nfa_size_limit(Some(SIZE_LIMIT)).utf8_empty(true))
        .build_from_hir(hir)
        .map_err(|error| one_line(&error.to_string()))
}

/// The last line of the parser's drawing is the reason.
fn one_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(text);
    line.trim().trim_start_matches("error: ").to_owned()
}

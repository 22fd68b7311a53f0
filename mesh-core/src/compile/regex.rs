//! RE2 patterns of users become automata. Each distinct pattern is prepared once per compile, however many rules use it.

use std::collections::HashMap;
use std::sync::Arc;

use regex_automata::dfa::{StartKind, dense};
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson;
use regex_automata::{MatchKind, dfa};
use regex_syntax::hir::{Dot, Hir, HirKind, Look};

use crate::re2;
use crate::snapshot::{Engine, Pattern, PatternSet};

/// Largest NFA of one pattern.
const NFA_LIMIT: usize = 1 << 20;
/// Largest DFA of one pattern; beyond it the meta engine takes over.
const DFA_LIMIT: usize = 128 << 10;
/// How much a DFA of several patterns may grow for each of them.
const DFA_LIMIT_EACH: usize = 8 << 10;
/// How many patterns are put in one DFA at most.
const LARGEST_SET: usize = 256;

/// A pattern that was understood.
pub(super) struct Parsed {
    hir: Hir,
    /// What every match begins with.
    pub(super) prefix: Vec<u8>,
    pub(super) shape: Shape,
}

/// Patterns that need no automaton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The prefix and nothing else.
    Literal,
    /// The prefix, then `.*`.
    PrefixThenAny,
    Other,
}

/// All patterns of one compile.
#[derive(Default)]
pub(super) struct Patterns {
    parsed: HashMap<Box<str>, Result<Arc<Parsed>, String>>,
    single: HashMap<Box<str>, Result<Arc<Pattern>, String>>,
    sets: HashMap<Vec<Box<str>>, Arc<PatternSet>>,
}

impl Patterns {
    pub(super) fn parsed(&mut self, text: &str) -> Result<Arc<Parsed>, String> {
        if let Some(known) = self.parsed.get(text) {
            return known.clone();
        }
        let parsed = understand(text).map(Arc::new);
        self.parsed.insert(text.into(), parsed.clone());
        parsed
    }

    /// The pattern as one that must match the whole text.
    pub(super) fn single(&mut self, text: &str) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.single.get(text) {
            return known.clone();
        }
        let pattern =
            self.parsed(text).and_then(|parsed| engine(&parsed.hir)).map(|engine| Arc::new(Pattern::new(text, engine)));
        self.single.insert(text.into(), pattern.clone());
        pattern
    }

    /// Patterns that are matched together. All of them have been understood.
    pub(super) fn set(&mut self, texts: Vec<Box<str>>) -> Arc<PatternSet> {
        if let Some(known) = self.sets.get(&texts) {
            return known.clone();
        }
        let parsed: Vec<Option<Arc<Parsed>>> = texts.iter().map(|text| self.parsed(text).ok()).collect();
        let never = Hir::fail();
        let hirs: Vec<&Hir> =
            parsed.iter().map(|parsed| parsed.as_ref().map_or(&never, |parsed| &parsed.hir)).collect();
        let mut set = PatternSet::default();
        let mut first = 0;
        for chunk in hirs.chunks(LARGEST_SET) {
            add(&mut set, first, chunk);
            first += chunk.len();
        }
        let set = Arc::new(set);
        self.sets.insert(texts, set.clone());
        set
    }
}

/// One DFA for all if it stays small, else two halves.
fn add(set: &mut PatternSet, first: usize, hirs: &[&Hir]) {
    match hirs {
        [] => {}
        [hir] => {
            if let Ok(engine) = engine(hir) {
                set.push(first, engine);
            }
        }
        _ => {
            if let Some(dfa) = dense(hirs, DFA_LIMIT + hirs.len() * DFA_LIMIT_EACH) {
                set.push(first, Engine::Dense(Box::new(dfa)));
                return;
            }
            let (left, right) = hirs.split_at(hirs.len() / 2);
            add(set, first, left);
            add(set, first + left.len(), right);
        }
    }
}

fn engine(hir: &Hir) -> Result<Engine, String> {
    if let Some(dfa) = dense(&[hir], DFA_LIMIT) {
        return Ok(Engine::Dense(Box::new(dfa)));
    }
    let whole = Hir::concat(vec![Hir::look(Look::Start), hir.clone(), Hir::look(Look::End)]);
    Ok(Engine::Meta(Box::new(meta_regex(&whole)?)))
}

/// A regex that matches anywhere, for substitutions.
pub(super) fn anywhere(text: &str) -> Result<Regex, String> {
    meta_regex(&re2::parse(text)?)
}

fn meta_regex(hir: &Hir) -> Result<Regex, String> {
    meta::Builder::new()
        .configure(meta::Config::new().nfa_size_limit(Some(NFA_LIMIT)).utf8_empty(true))
        .build_from_hir(hir)
        .map_err(|_| "it is too large".to_owned())
}

fn dense(hirs: &[&Hir], limit: usize) -> Option<dense::DFA<Vec<u32>>> {
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(limit))
                .which_captures(thompson::WhichCaptures::None),
        )
        .build_many_from_hir(hirs)
        .ok()?;
    let config = dfa::dense::Config::new()
        .start_kind(StartKind::Anchored)
        .match_kind(MatchKind::All)
        .accelerate(false)
        .dfa_size_limit(Some(limit))
        .determinize_size_limit(Some(limit.saturating_mul(2)));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()
}

fn understand(text: &str) -> Result<Parsed, String> {
    let hir = re2::parse(text)?;
    // Its size is judged now, so that a set needs no error of its own.
    thompson::Compiler::new()
        .configure(thompson::Config::new().utf8(false).nfa_size_limit(Some(NFA_LIMIT)))
        .build_from_hir(&hir)
        .map_err(|_| "it is too large".to_owned())?;
    let mut prefix = Vec::new();
    let literal = push_prefix(&hir, &mut prefix);
    let shape = if literal { Shape::Literal } else { shape(&hir) };
    Ok(Parsed { hir, prefix, shape })
}

fn shape(hir: &Hir) -> Shape {
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    // The whole path must match anyway.
    if let [first, rest @ ..] = parts
        && matches!(first.kind(), HirKind::Look(Look::Start))
    {
        parts = rest;
    }
    if let [rest @ .., last] = parts
        && matches!(last.kind(), HirKind::Look(Look::End))
    {
        parts = rest;
    }
    let literal = |hir: &Hir| matches!(hir.kind(), HirKind::Literal(_));
    match parts {
        [first] if literal(first) => Shape::Literal,
        [first] if is_anything(first) => Shape::PrefixThenAny,
        [first, last] if literal(first) && is_anything(last) => Shape::PrefixThenAny,
        _ => Shape::Other,
    }
}

/// `.*`. A path has no line feed, so it does not matter whether the dot matches one.
fn is_anything(hir: &Hir) -> bool {
    let HirKind::Repetition(repetition) = hir.kind() else { return false };
    repetition.min == 0
        && repetition.max.is_none()
        && (*repetition.sub == Hir::dot(Dot::AnyCharExceptLF) || *repetition.sub == Hir::dot(Dot::AnyChar))
}

/// Collects the text that every match begins with; true if that is all of it.
fn push_prefix(hir: &Hir, prefix: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Literal(literal) => {
            prefix.extend_from_slice(&literal.0);
            true
        }
        HirKind::Look(Look::Start) => prefix.is_empty(),
        HirKind::Capture(capture) => push_prefix(&capture.sub, prefix),
        HirKind::Concat(parts) => parts.iter().all(|part| push_prefix(part, prefix)),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            push_prefix(&repetition.sub, prefix);
            false
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "regex_tests.rs"]
mod tests;

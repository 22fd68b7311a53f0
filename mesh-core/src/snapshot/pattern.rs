//! Regular expressions that must match a whole text, alone or many at once.
//!
//! Each is a complete DFA where that stays small: a walk over a table, without cache, lock or allocation. A DFA of
//! several patterns ends in a state that names all the patterns that match. What grows too large as a DFA is left to the
//! `meta` engine, which works in bounded memory with a pool of caches.

use std::fmt;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::meta::Regex;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;

/// One user's pattern.
pub(crate) struct Pattern {
    text: Box<str>,
    engine: Engine,
}

pub(crate) enum Engine {
    /// Started at the beginning, read at the end of the text; all matches are kept.
    Dense(Box<dense::DFA<Vec<u32>>>),
    /// Anchored at both ends.
    Meta(Box<Regex>),
}

impl Pattern {
    pub(crate) fn new(text: &str, engine: Engine) -> Pattern {
        Pattern { text: text.into(), engine }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        match &self.engine {
            Engine::Dense(dfa) => end_state(dfa, value).is_some_and(|state| dfa.is_match_state(state)),
            Engine::Meta(regex) => regex.is_match(value),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

/// Several patterns, numbered from 0.
#[derive(Default)]
pub(crate) struct PatternSet {
    parts: Vec<SetPart>,
}

struct SetPart {
    /// Number of the part's first pattern.
    first: usize,
    engine: Engine,
}

impl PatternSet {
    /// Adds patterns whose first has this number.
    pub(crate) fn push(&mut self, first: usize, engine: Engine) {
        self.parts.push(SetPart { first, engine });
    }

    /// Tells the number of every pattern that matches the whole text.
    pub(crate) fn matches(&self, text: &[u8], mut found: impl FnMut(usize)) {
        for part in &self.parts {
            match &part.engine {
                Engine::Meta(regex) => {
                    if regex.is_match(text) {
                        found(part.first);
                    }
                }
                Engine::Dense(dfa) => {
                    if let Some(state) = end_state(dfa, text).filter(|state| dfa.is_match_state(*state)) {
                        for index in 0..dfa.match_len(state) {
                            found(part.first + dfa.match_pattern(state, index).as_usize());
                        }
                    }
                }
            }
        }
    }
}

impl fmt::Debug for PatternSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternSet").field("parts", &self.parts.len()).finish()
    }
}

/// Where the automaton stands behind the whole text; none if nothing can match any more.
fn end_state(dfa: &dense::DFA<Vec<u32>>, text: &[u8]) -> Option<StateID> {
    let mut state = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
    for byte in text {
        state = dfa.next_state(state, *byte);
        if dfa.is_special_state(state) && (dfa.is_dead_state(state) || dfa.is_quit_state(state)) {
            return None;
        }
    }
    Some(dfa.next_eoi_state(state))
}

//! Sets of texts as automata over bytes.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

/// Largest automaton of one pattern, in bytes.
pub(super) const SIZE_LIMIT: usize = 1 << 20;

/// A set of texts.
#[derive(Debug)]
pub(super) enum Machine {
    All,
    /// Where case does not matter the text is in lower case.
    Exact {
        text: Box<[u8]>,
        any_case: bool,
    },
    Prefix {
        text: Box<[u8]>,
        any_case: bool,
    },
    /// The whole text must match.
    Pattern(Box<dense::DFA<Vec<u32>>>),
}

/// A state: nothing that follows is accepted.
pub(super) const DEAD: u32 = u32::MAX;
/// A state: everything that follows is accepted.
pub(super) const FULL: u32 = u32::MAX - 1;

impl Machine {
    /// None: it would be too large.
    pub(super) fn of_pattern(hir: &Hir) -> Option<Machine> {
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(SIZE_LIMIT))
                    .which_captures(thompson::WhichCaptures::None),
            )
            .build_from_hir(hir)
            .ok()?;
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::All)
            .accelerate(false)
            .dfa_size_limit(Some(SIZE_LIMIT))
            .determinize_size_limit(Some(2 * SIZE_LIMIT));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        Some(Machine::Pattern(Box::new(dfa)))
    }

    /// Bytes that it takes, beyond those of the text that it was made of.
    pub(super) fn size(&self) -> usize {
        match self {
            Machine::Pattern(dfa) => dfa.memory_usage(),
            Machine::All | Machine::Exact { .. } | Machine::Prefix { .. } => 0,
        }
    }

    pub(super) fn exact(text: &str, any_case: bool) -> Machine {
        Machine::Exact { text: folded(text, any_case), any_case }
    }

    pub(super) fn prefix(text: &str, any_case: bool) -> Machine {
        if text.is_empty() {
            return Machine::All;
        }
        Machine::Prefix { text: folded(text, any_case), any_case }
    }

    pub(super) fn start(&self) -> u32 {
        match self {
            Machine::All => FULL,
            Machine::Exact { .. } | Machine::Prefix { .. } => 0,
            Machine::Pattern(dfa) => {
                let start = dfa.start_state(&start::Config::new().anchored(Anchored::Yes));
                start.map_or(DEAD, |state| known(dfa, state))
            }
        }
    }

    pub(super) fn next(&self, at: u32, byte: u8) -> u32 {
        if at >= FULL {
            return at;
        }
        match self {
            Machine::All => FULL,
            Machine::Exact { text, any_case } => step(text, *any_case, at, byte),
            Machine::Prefix { text, any_case } => match step(text, *any_case, at, byte) {
                next if next as usize == text.len() => FULL,
                next => next,
            },
            Machine::Pattern(dfa) => state(at).map_or(DEAD, |state| known(dfa, dfa.next_state(state, byte))),
        }
    }

    /// Whether the text may end here.
    pub(super) fn accepts(&self, at: u32) -> bool {
        match self {
            _ if at >= FULL => at == FULL,
            Machine::All => true,
            Machine::Exact { text, .. } => at as usize == text.len(),
            Machine::Prefix { .. } => false,
            Machine::Pattern(dfa) => state(at).is_some_and(|state| dfa.is_match_state(dfa.next_eoi_state(state))),
        }
    }

    pub(super) fn walk(&self, from: u32, text: &[u8]) -> u32 {
        text.iter().fold(from, |at, byte| self.next(at, *byte))
    }

    pub(super) fn contains(&self, text: &[u8]) -> bool {
        self.accepts(self.walk(self.start(), text))
    }

    /// What every text of it begins with, for sure, letter by letter.
    pub(super) fn certain(&self) -> &[u8] {
        match self {
            Machine::Exact { text, any_case: false } | Machine::Prefix { text, any_case: false } => text,
            _ => &[],
        }
    }

    /// Whether it is plain that no text is in both. False may mean that nobody looked.
    pub(super) fn is_apart(&self, other: &Machine) -> bool {
        let (Some((a, a_ends)), Some((b, b_ends))) = (self.literal(), other.literal()) else { return false };
        let length = a.len().min(b.len());
        if (a_ends && b.len() > a.len()) || (b_ends && a.len() > b.len()) {
            return true;
        }
        a_ends && b_ends && a.len() != b.len()
            || a.iter().zip(b).take(length).any(|(a, b)| !a.eq_ignore_ascii_case(b))
            || !(self.ignores_case() || other.ignores_case()) && a.get(..length) != b.get(..length)
    }

    fn literal(&self) -> Option<(&[u8], bool)> {
        match self {
            Machine::Exact { text, .. } => Some((text, true)),
            Machine::Prefix { text, .. } => Some((text, false)),
            Machine::All | Machine::Pattern(_) => None,
        }
    }

    fn ignores_case(&self) -> bool {
        matches!(self, Machine::Exact { any_case: true, .. } | Machine::Prefix { any_case: true, .. })
    }

    /// Marks bytes that it tells from all others, and splits classes of bytes that it tells apart.
    pub(super) fn tell_apart(&self, single: &mut [bool; 256], classes: &mut [u16; 256]) {
        match self {
            Machine::All => {}
            Machine::Exact { text, any_case } | Machine::Prefix { text, any_case } => {
                let mut mark = |byte: u8| single.get_mut(usize::from(byte)).into_iter().for_each(|place| *place = true);
                for byte in text {
                    mark(*byte);
                    if *any_case {
                        mark(byte.to_ascii_uppercase());
                    }
                }
            }
            Machine::Pattern(dfa) => {
                let mut numbers = std::collections::HashMap::new();
                for (byte, class) in (0..=u8::MAX).zip(classes.iter_mut()) {
                    let fresh = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
                    *class = *numbers.entry((*class, dfa.byte_classes().get(byte))).or_insert(fresh);
                }
            }
        }
    }
}

fn folded(text: &str, any_case: bool) -> Box<[u8]> {
    if any_case { text.to_ascii_lowercase().into_bytes().into() } else { text.as_bytes().into() }
}

fn step(text: &[u8], any_case: bool, at: u32, byte: u8) -> u32 {
    let byte = if any_case { byte.to_ascii_lowercase() } else { byte };
    if text.get(at as usize) == Some(&byte) { at + 1 } else { DEAD }
}

fn state(at: u32) -> Option<StateID> {
    StateID::new(at as usize).ok()
}

fn known(dfa: &dense::DFA<Vec<u32>>, state: StateID) -> u32 {
    if dfa.is_dead_state(state) || dfa.is_quit_state(state) { DEAD } else { state.as_u32() }
}

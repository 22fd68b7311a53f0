//! One regular expression that must match the whole text.

use std::fmt;

use regex_automata::Input;
use regex_automata::meta::Regex;

/// A user's pattern; one that was refused never matches.
pub(crate) struct Pattern {
    text: Box<str>,
    engine: Engine,
}

enum Engine {
    Meta(Box<Regex>),
    Never,
}

impl Pattern {
    /// `regex` is anchored at both ends.
    pub(crate) fn new(text: &str, regex: Regex) -> Pattern {
        Pattern { text: text.into(), engine: Engine::Meta(Box::new(regex)) }
    }

    pub(crate) fn never(text: &str) -> Pattern {
        Pattern { text: text.into(), engine: Engine::Never }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        match &self.engine {
            Engine::Meta(regex) => regex.is_match(Input::new(value)),
            Engine::Never => false,
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

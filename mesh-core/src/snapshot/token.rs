//! What a token (JWT) that was found good says.

use serde_json::{Map, Value};

/// Claims that are lists of words, whatever the policy says (as with Istio).
const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Token {
    claims: Map<String, Value>,
    /// `issuer/subject`
    principal: Option<String>,
}

impl Token {
    /// `space_delimited`: further claims whose text is a list of words.
    pub fn new(mut claims: Map<String, Value>, space_delimited: &[String]) -> Token {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let principal = text("iss").zip(text("sub")).map(|(issuer, subject)| format!("{issuer}/{subject}"));
        for name in SPACE_DELIMITED.into_iter().chain(space_delimited.iter().map(String::as_str)) {
            if let Some(claim) = claims.get_mut(name)
                && let Some(text) = claim.as_str()
            {
                *claim = text.split_ascii_whitespace().map(Value::from).collect();
            }
        }
        Token { claims, principal }
    }

    /// `issuer/subject`; none without one of them.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// A claim, and the names of the claims that it is in before its own.
    pub fn claim(&self, names: &[String]) -> Option<&Value> {
        let (first, rest) = names.split_first()?;
        rest.iter().try_fold(self.claims.get(first)?, |claim, name| claim.get(name))
    }

    /// Whether a claim is a text, or a list with a text, that passes.
    pub(crate) fn has(&self, names: &[String], passes: impl Fn(&[u8]) -> bool) -> bool {
        match self.claim(names) {
            Some(Value::String(text)) => passes(text.as_bytes()),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(|text| passes(text.as_bytes())),
            _ => false,
        }
    }
}

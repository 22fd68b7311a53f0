//! What a request must be for a rule to match. A proxy that does not know a predicate refuses the resource.

use serde::{Deserialize, Serialize};

use super::is_default;

/// All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: PathMatch,
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: Option<StringMatch>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheme: Option<StringMatch>,
    /// Compared with the authority as sent, port included, case-sensitive.
    #[serde(default, skip_serializing_if = "is_default")]
    pub authority: Option<StringMatch>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: Vec<HeaderMatch>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub query: Vec<QueryMatch>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub claims: Vec<ClaimMatch>,
}

/// On the normalised path without query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    #[default]
    Any,
    Exact {
        value: String,
        ignore_case: bool,
    },
    /// A prefix of the string, not of segments: `/foo` also matches `/foobar`.
    Prefix {
        value: String,
        ignore_case: bool,
    },
    /// RE2 syntax; the whole path must match.
    Regex(String),
}

/// Case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    /// RE2 syntax; the whole value must match.
    Regex(String),
    /// The value is there, possibly empty.
    Present,
}

/// Repeated header lines are tested one by one; one that matches is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Lower case. `:method`, `:path` (with query), `:scheme`, `:authority` and `host` (the authority) work too.
    pub name: String,
    pub value: StringMatch,
    /// `withoutHeaders`: the condition holds if no line matches. A header that is missing counts as the empty string
    /// here, except for [`StringMatch::Present`].
    pub invert: bool,
}

/// The first value of the key counts; neither key nor value is decoded. A key without `=` has the empty value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryMatch {
    pub name: String,
    pub value: StringMatch,
}

/// A claim of a token that was found good: a text, or a list of which one text is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimMatch {
    /// The names of the claims that it is in, and its own.
    pub claim: Vec<String>,
    pub value: StringMatch,
    /// The condition holds if no text matches, or there is no token.
    pub invert: bool,
}

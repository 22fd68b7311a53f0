//! `StringMatch`: how a string is compared.

use serde::Deserialize;

/// How a string is compared (networking/v1 `StringMatch`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "StringMatchFields")]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    /// RE2; the whole value must match.
    Regex(String),
    /// `{}`: in a header or query match, that the value is there.
    Present,
}

/// The message as it is written; at most one may be set.
#[derive(Deserialize)]
#[serde(rename = "StringMatch")]
struct StringMatchFields {
    exact: Option<String>,
    prefix: Option<String>,
    regex: Option<String>,
}

impl TryFrom<StringMatchFields> for StringMatch {
    type Error = &'static str;

    fn try_from(fields: StringMatchFields) -> Result<Self, Self::Error> {
        match fields {
            StringMatchFields { exact: Some(value), prefix: None, regex: None } => Ok(Self::Exact(value)),
            StringMatchFields { exact: None, prefix: Some(value), regex: None } => Ok(Self::Prefix(value)),
            StringMatchFields { exact: None, prefix: None, regex: Some(value) } => Ok(Self::Regex(value)),
            StringMatchFields { exact: None, prefix: None, regex: None } => Ok(Self::Present),
            _ => Err("only one of `exact`, `prefix` and `regex` can be set"),
        }
    }
}

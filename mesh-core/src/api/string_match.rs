//! `StringMatch`: how a string is compared.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;

/// How a string is compared (networking/v1 `StringMatch`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "StringMatch")]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = schema::at_most_one(&["exact", "prefix", "regex"]))))]
struct StringMatchFields {
    /// The same string.
    exact: Option<String>,
    /// Starts with this.
    prefix: Option<String>,
    /// RE2; the whole value must match.
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

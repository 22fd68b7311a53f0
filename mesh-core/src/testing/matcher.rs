//! What a text must be.

use std::str::FromStr;

use serde::Deserialize;

/// Written as one string: `absent`, `present`, `contains TEXT`, `starts TEXT`, `ends TEXT`, `not TEXT`, `= TEXT`, else the
/// text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    Absent,
    Present,
    Contains(String),
    StartsWith(String),
    EndsWith(String),
    Not(String),
    Exact(String),
}

impl Matcher {
    /// `values`: every line of a header, or the one text there is. With several lines one that fits is enough, except for
    /// `absent` and `not`.
    pub fn accepts(&self, values: &[&str]) -> bool {
        match self {
            Matcher::Absent => values.is_empty(),
            Matcher::Present => !values.is_empty(),
            Matcher::Contains(text) => values.iter().any(|value| value.contains(text.as_str())),
            Matcher::StartsWith(text) => values.iter().any(|value| value.starts_with(text.as_str())),
            Matcher::EndsWith(text) => values.iter().any(|value| value.ends_with(text.as_str())),
            Matcher::Not(text) => values.iter().all(|value| value != text),
            Matcher::Exact(text) => values.iter().any(|value| value == text),
        }
    }
}

impl FromStr for Matcher {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let owned = str::to_owned;
        Ok(match text.split_once(' ') {
            Some(("contains", rest)) => Matcher::Contains(owned(rest)),
            Some(("starts", rest)) => Matcher::StartsWith(owned(rest)),
            Some(("ends", rest)) => Matcher::EndsWith(owned(rest)),
            Some(("not", rest)) => Matcher::Not(owned(rest)),
            Some(("=", rest)) => Matcher::Exact(owned(rest)),
            _ if text == "absent" => Matcher::Absent,
            _ if text == "present" => Matcher::Present,
            _ => Matcher::Exact(owned(text)),
        })
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Scalar {
            Text(String),
            Number(u64),
            Flag(bool),
        }
        let text = match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => text,
            Scalar::Number(number) => number.to_string(),
            Scalar::Flag(flag) => flag.to_string(),
        };
        text.parse().map_err(|_: std::convert::Infallible| serde::de::Error::custom("unreachable"))
    }
}

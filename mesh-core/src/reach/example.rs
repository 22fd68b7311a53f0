//! A request that stands for others.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::snapshot::{Request, Token};

/// A request as a client would send it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Example {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Of a token that is found good: the names that lead to a claim, and its texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<(Vec<String>, Vec<String>)>,
}

impl Example {
    /// Asks as tables are asked. None: it is no request.
    pub fn ask<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
        }
        let token = if self.claims.is_empty() { None } else { Some(Token::new(self.token()?, &[])) };
        Some(ask(&Request {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &headers,
            token: token.as_ref(),
        }))
    }

    /// None: a claim would be a text and hold others.
    fn token(&self) -> Option<Map<String, Value>> {
        let mut claims = Map::new();
        for (names, texts) in &self.claims {
            let (last, before) = names.split_last()?;
            let mut at = &mut claims;
            for name in before {
                at = at.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())).as_object_mut()?;
            }
            let value = match texts.as_slice() {
                [text] => Value::from(text.as_str()),
                texts => texts.iter().map(|text| Value::from(text.as_str())).collect(),
            };
            if at.insert(last.clone(), value).is_some() {
                return None;
            }
        }
        Some(claims)
    }

    /// `http://host/path?query`
    #[must_use]
    pub fn url(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}://{}{}{query}", self.scheme, self.authority, self.path)
    }
}

/// `GET http://host/path?query with x: 1 and claim a.b = c`
impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url())?;
        let quoted = |text: &str| if text.is_empty() { "\"\"".to_owned() } else { text.to_owned() };
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {}", quoted(value)));
        let claims = self.claims.iter().map(|(names, texts)| {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("claim {} = {}", names.join("."), texts.join(" and "))
        });
        let more: Vec<String> = headers.chain(claims).collect();
        if more.is_empty() { Ok(()) } else { write!(f, " with {}", more.join(", ")) }
    }
}

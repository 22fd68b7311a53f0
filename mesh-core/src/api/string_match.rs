//! `StringMatch` and the other one-of messages that several kinds share.

use serde::{Deserialize, Serialize};

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

/// A share in percent, 0.0 to 100.0 (networking/v1 `Percent`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Percent {
    pub value: Option<f64>,
}

/// Application protocol of a port, written in any case (`pkg/config/protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Protocol {
    #[default]
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Tcp,
    Udp,
    Mongo,
    Redis,
    Mysql,
    HttpProxy,
}

impl Protocol {
    /// With the names that errors list.
    pub const ALL: &[(&'static str, Protocol)] = &[
        ("HTTP", Self::Http),
        ("HTTP2", Self::Http2),
        ("GRPC", Self::Grpc),
        ("GRPC-WEB", Self::GrpcWeb),
        ("HTTPS", Self::Https),
        ("TLS", Self::Tls),
        ("TCP", Self::Tcp),
        ("UDP", Self::Udp),
        ("MONGO", Self::Mongo),
        ("REDIS", Self::Redis),
        ("MYSQL", Self::Mysql),
        ("HTTP_PROXY", Self::HttpProxy),
    ];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, protocol)| *protocol)
    }

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, protocol)| *protocol == self).map_or("", |(name, _)| name)
    }

    /// HTTP, HTTP2, GRPC, GRPC-WEB, HTTP_PROXY: HTTP without TLS.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy)
    }

    /// HTTPS, TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProtocolVisitor;
        impl serde::de::Visitor<'_> for ProtocolVisitor {
            type Value = Protocol;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one of ")?;
                for (index, (name, _)) in Protocol::ALL.iter().enumerate() {
                    write!(f, "{}`{name}`", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Protocol, E> {
                Protocol::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(ProtocolVisitor)
    }
}

/// Body of a direct response (networking/v1 `HTTPBody`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HttpBodyFields")]
pub enum HttpBody {
    String(String),
    /// Written in base64.
    Bytes(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(rename = "HTTPBody")]
struct HttpBodyFields {
    string: Option<String>,
    bytes: Option<super::Bytes>,
}

impl TryFrom<HttpBodyFields> for HttpBody {
    type Error = &'static str;

    fn try_from(fields: HttpBodyFields) -> Result<Self, Self::Error> {
        match fields {
            HttpBodyFields { string: Some(text), bytes: None } => Ok(Self::String(text)),
            HttpBodyFields { string: None, bytes: Some(bytes) } => Ok(Self::Bytes(bytes.0)),
            HttpBodyFields { string: None, bytes: None } => Ok(Self::String(String::new())),
            _ => Err("only one of `string` and `bytes` can be set"),
        }
    }
}

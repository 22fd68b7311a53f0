//! Somebody else who decides about requests (`envoyExtAuthzHttp`, `envoyExtAuthzGrpc`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DestinationRef, is_default};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAuthorizer {
    /// One that is unknown cannot be asked.
    pub destination: DestinationRef,
    pub protocol: AuthorizerProtocol,
    /// For one answer.
    pub timeout: Duration,
    /// Requests are let through while it cannot be asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fail_open: bool,
    /// Of what is refused because it cannot be asked.
    pub status_on_error: u16,
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: Option<BodyInCheck>,
}

/// How much of a request's body it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyInCheck {
    /// Bytes.
    pub limit: u32,
    /// A longer body is told in part; else the request is refused with 413.
    #[serde(default, skip_serializing_if = "is_default")]
    pub partial: bool,
    /// As bytes instead of text (gRPC).
    #[serde(default, skip_serializing_if = "is_default")]
    pub bytes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthorizerProtocol {
    /// `envoy.service.auth.v3.Authorization/Check`
    Grpc,
    Http(HttpCheck),
}

/// What an authorizer is told, and what becomes of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// Stands before the path of the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path_prefix: String,
    /// Headers of the request that it is told, besides `authorization`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub told: Vec<NameMatch>,
    /// Headers that it is told besides. Lower case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub added: Vec<(String, String)>,
    /// Headers of its answer that the request gets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upstream: Vec<NameMatch>,
    /// Headers of its answer that a refusal gets; none: all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub refusal: Vec<NameMatch>,
    /// Headers of its answer that the response gets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub response: Vec<NameMatch>,
}

/// Names of headers, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
}

impl NameMatch {
    /// `NAME`, `PREFIX*`, `*SUFFIX`; `*` is any.
    pub fn read(text: &str) -> NameMatch {
        let text = text.to_ascii_lowercase();
        match (text.strip_suffix('*'), text.strip_prefix('*')) {
            (Some(prefix), _) => NameMatch::Prefix(prefix.to_owned()),
            (None, Some(suffix)) => NameMatch::Suffix(suffix.to_owned()),
            (None, None) => NameMatch::Exact(text),
        }
    }

    pub fn holds(&self, name: &str) -> bool {
        match self {
            NameMatch::Exact(own) => own == name,
            NameMatch::Prefix(own) => name.starts_with(own),
            NameMatch::Suffix(own) => name.ends_with(own),
        }
    }
}

//! `MeshConfig.ExtensionProvider`: the external authorizers that an AuthorizationPolicy with action CUSTOM can name. Providers of other
//! kinds (access logs, tracing, metrics) are kept by their names alone.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Duration;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionProvider {
    pub name: String,
    /// Asked by an HTTP request.
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    /// Asked by `envoy.service.auth.v3.Authorization/Check`.
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
}

/// `EnvoyExternalAuthorizationHttpProvider`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtAuthzHttp {
    /// `HOST` or `NAMESPACE/HOST`
    pub service: String,
    pub port: u32,
    /// 600 s if absent.
    pub timeout: Option<Duration>,
    /// Stands before the path of the request.
    pub path_prefix: Option<String>,
    /// Requests are let through while it cannot be asked.
    pub fail_open: Option<bool>,
    /// 403 if absent.
    pub status_on_error: Option<String>,
    /// Deprecated name of `includeRequestHeadersInCheck`.
    #[serde(default)]
    pub include_headers_in_check: Vec<String>,
    /// Headers of the request that it is told: `NAME`, `PREFIX*`, `*SUFFIX`.
    #[serde(default)]
    pub include_request_headers_in_check: Vec<String>,
    /// Headers that it is told besides.
    #[serde(default)]
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    pub include_request_body_in_check: Option<RequestBodyInCheck>,
    /// Headers of its answer that the request gets.
    #[serde(default)]
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of its answer that the refusal gets; none: all of them.
    #[serde(default)]
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of its answer that the response gets.
    #[serde(default)]
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// `EnvoyExternalAuthorizationGrpcProvider`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtAuthzGrpc {
    /// `HOST` or `NAMESPACE/HOST`
    pub service: String,
    pub port: u32,
    /// 600 s if absent.
    pub timeout: Option<Duration>,
    /// Requests are let through while it cannot be asked.
    pub fail_open: Option<bool>,
    /// 403 if absent.
    pub status_on_error: Option<String>,
    pub include_request_body_in_check: Option<RequestBodyInCheck>,
}

/// `RequestBody`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestBodyInCheck {
    /// Bytes.
    pub max_request_bytes: Option<u32>,
    /// A longer body is told in part; else the request is refused with 413.
    pub allow_partial_message: Option<bool>,
    /// As bytes instead of text (gRPC).
    pub pack_as_bytes: Option<bool>,
}

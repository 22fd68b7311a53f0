//! The one table that turns a failure into status, response flag, details and body, in the words of Envoy.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use mesh_core::model::AbortStatus;

use crate::live::Unfound;
use crate::observe::ResponseFlags;

/// Why the proxy answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No virtual host, or none of its rules matches.
    NoRoute,
    /// The authority belongs to another server of this listener (RFC 9110 section 15.5.20).
    Misdirected,
    /// The rule names a host, port or subset that does not exist.
    ClusterNotFound,
    /// The host may be a service of the mesh, and nobody says which.
    NotAnswered,
    /// The destination has no endpoint.
    NoHealthyUpstream,
    /// The host of the request has no address (`DYNAMIC_DNS`).
    NotResolved,
    /// The host of the request is none of the destination's (`DYNAMIC_DNS`).
    OtherName,
    /// The addresses of the host of the request are such as are never called (`DYNAMIC_DNS`).
    AddressRefused,
    /// There is no room for another host.
    TooManyNames,
    /// No connection could be made.
    ConnectFailed { detail: Cow<'static, str> },
    /// As above, for lack of time.
    ConnectTimeout,
    /// The destination has no room for another request.
    Overflow,
    /// The upstream closed or reset the connection before it answered.
    UpstreamClosed,
    /// The upstream sent something that is not HTTP.
    UpstreamProtocol,
    /// The upstream reset the HTTP/2 stream.
    UpstreamReset { refused: bool },
    /// The route's time is over.
    Timeout,
    /// The time of a try is over (`perTryTimeout`).
    TryTimeout,
    /// The client went away; nothing is sent.
    ClientGone,
    /// The client did not send what it announced, for too long.
    Stalled,
    /// There are as many requests as this process may have at a time.
    Overload,
    /// The connection is older than what is demanded of its client now: it is in clear, or another certificate was asked for or
    /// none; nothing is sent.
    TooOpen,
    /// The request's body is malformed.
    BadBody { status: u16, detail: &'static str },
    /// The path cannot be made canonical.
    BadPath,
    /// A request that is well-formed HTTP and still not to be forwarded.
    BadRequest { status: u16, detail: &'static str },
    /// A policy denies it.
    Denied { details: String },
    /// A rate limit has no room for it.
    RateLimited(Box<RateLimited>),
    /// An external authorizer is to decide and cannot be asked.
    NotAsked { status: u16 },
    /// An external authorizer answers in our place.
    Refused(Box<Refusal>),
    /// The token is not good.
    BadToken { status: u16, text: &'static str },
    /// A rule wants it to fail.
    Aborted(AbortStatus),
    /// `Upgrade` to something else than `websocket`.
    UpgradeRefused,
    /// The destination speaks HTTP/2 only, which carries no upgrade (it would have to offer RFC 8441).
    UpgradeOverHttp2,
}

/// Which limit has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimited {
    /// `namespace/name/limit`
    pub limit: Arc<str>,
    /// Seconds until there is room.
    pub retry_after: u64,
}

/// What an external authorizer answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What to send and what to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    pub status: u16,
    pub body: Cow<'static, str>,
    pub flags: ResponseFlags,
    pub details: Cow<'static, str>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    pub transport_failure: Cow<'static, str>,
}

const BEFORE_HEADERS: &str = "upstream connect error or disconnect/reset before headers. ";

impl Failure {
    /// `tries`: how often the request was sent, or was to be.
    pub fn reply(&self, tries: u32) -> LocalReply {
        match self {
            Failure::NoRoute => reply(404, "", ResponseFlags::NR, "route_not_found"),
            Failure::Misdirected => reply(421, "", ResponseFlags::NR, "misdirected_request"),
            Failure::ClusterNotFound => reply(503, "", ResponseFlags::NC, "cluster_not_found"),
            Failure::NotAnswered => reply(503, "", ResponseFlags::NC, "controller_did_not_answer"),
            Failure::NoHealthyUpstream => reply(503, "no healthy upstream", ResponseFlags::UH, "no_healthy_upstream"),
            Failure::NotResolved => reply(503, "DNS resolution failure", ResponseFlags::DF, "dns_resolution_failure"),
            Failure::OtherName => reply(503, "", ResponseFlags::UH, "host_is_not_of_destination"),
            Failure::AddressRefused => reply(503, "", ResponseFlags::UH, "address_of_host_refused"),
            Failure::TooManyNames => reply(503, "DNS cache overflow", ResponseFlags::UO, "dns_cache_overflow"),
            Failure::ConnectFailed { detail } => LocalReply {
                transport_failure: detail.clone(),
                ..before_headers(
                    503,
                    "remote connection failure",
                    format!("remote_connection_failure|{detail}"),
                    ResponseFlags::UF,
                    tries,
                )
            },
            Failure::ConnectTimeout => {
                before_headers(503, "connection timeout", "connection_timeout", ResponseFlags::UF, tries)
            }
            Failure::Overflow => before_headers(503, "overflow", "overflow", ResponseFlags::UO, tries),
            Failure::UpstreamClosed => {
                before_headers(503, "connection termination", "connection_termination", ResponseFlags::UC, tries)
            }
            Failure::UpstreamProtocol => {
                before_headers(502, "protocol error", "protocol_error", ResponseFlags::UPE, tries)
            }
            Failure::UpstreamReset { refused: true } => before_headers(
                503,
                "remote refused stream reset",
                "remote_refused_stream_reset",
                ResponseFlags::UR,
                tries,
            ),
            Failure::UpstreamReset { refused: false } => {
                before_headers(503, "remote reset", "remote_reset", ResponseFlags::UR, tries)
            }
            Failure::Timeout => reply(504, "upstream request timeout", ResponseFlags::UT, "response_timeout"),
            Failure::TryTimeout => {
                reply(504, "upstream request timeout", ResponseFlags::UT, "upstream_per_try_timeout")
            }
            Failure::ClientGone => reply(0, "", ResponseFlags::DC, "downstream_remote_disconnect"),
            Failure::Stalled => reply(408, "stream timeout", ResponseFlags::SI, "stream_idle_timeout"),
            Failure::Overload => reply(503, "envoy overloaded", ResponseFlags::OM, "overload"),
            Failure::TooOpen => reply(0, "", ResponseFlags::NONE, "mutual_tls_demanded"),
            Failure::BadBody { status, detail } => reply(*status, reason(*status), ResponseFlags::DPE, detail),
            Failure::BadPath => reply(400, "", ResponseFlags::NONE, "path_normalization_failed"),
            Failure::BadRequest { status, detail } => reply(*status, "", ResponseFlags::NONE, detail),
            Failure::Denied { details } => LocalReply {
                details: Cow::Owned(details.clone()),
                ..reply(403, "RBAC: access denied", ResponseFlags::NONE, "")
            },
            Failure::RateLimited(limited) => LocalReply {
                details: Cow::Owned(format!("local_rate_limited[{}]", limited.limit)),
                ..reply(429, "local_rate_limited", ResponseFlags::RL, "")
            },
            Failure::Refused(refusal) => reply(refusal.status, "", ResponseFlags::UAEX, "ext_authz_denied"),
            Failure::NotAsked { status } => reply(*status, "", ResponseFlags::UAEX, "ext_authz_error"),
            Failure::BadToken { status, text } => LocalReply {
                details: Cow::Owned(format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"))),
                ..reply(*status, text, ResponseFlags::NONE, "")
            },
            Failure::Aborted(status) => {
                let status = match status {
                    AbortStatus::Http(status) => *status,
                    // A client of another kind is told no status that it would understand.
                    AbortStatus::Grpc(_) => 200,
                };
                reply(status, "fault filter abort", ResponseFlags::FI, "fault_filter_abort")
            }
            Failure::UpgradeRefused => reply(403, "", ResponseFlags::NONE, "upgrade_failed"),
            Failure::UpgradeOverHttp2 => {
                reply(502, "no upgrade to an HTTP/2 destination", ResponseFlags::UPE, "upgrade_to_http2_destination")
            }
        }
    }
}

impl From<Unfound> for Failure {
    fn from(unfound: Unfound) -> Failure {
        match unfound {
            Unfound::NoEndpoint => Failure::NoHealthyUpstream,
            Unfound::NotResolved => Failure::NotResolved,
            Unfound::OtherName => Failure::OtherName,
            Unfound::AddressRefused => Failure::AddressRefused,
            Unfound::TooManyNames => Failure::TooManyNames,
        }
    }
}

fn reply(status: u16, body: &'static str, flags: ResponseFlags, details: &'static str) -> LocalReply {
    LocalReply {
        status,
        body: Cow::Borrowed(body),
        flags,
        details: Cow::Borrowed(details),
        transport_failure: Cow::Borrowed("-"),
    }
}

/// A failure before the upstream's head: the text says the reason, and that it was retried if it was.
fn before_headers(status: u16, reason: &str, detail: impl AsRef<str>, flags: ResponseFlags, tries: u32) -> LocalReply {
    let prefix = if tries > 1 { "retried and the latest " } else { "" };
    LocalReply {
        status,
        body: Cow::Owned(format!("{BEFORE_HEADERS}{prefix}reset reason: {reason}")),
        flags,
        details: Cow::Owned(format!("upstream_reset_before_response_started{{{}}}", detail.as_ref())),
        transport_failure: Cow::Borrowed("-"),
    }
}

/// The reason phrase that Envoy uses as the body of its codec errors.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}

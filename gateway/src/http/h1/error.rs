//! What can be wrong with a message, and the answer, response-code details and flag that each failure gets.
//!
//! The detail strings are Envoy's, because dashboards and runbooks search for them.

use std::io;

use http::StatusCode;

use super::fields::BlockError;
use super::framing::FramingError;

const CODEC_ERROR: &str = "http1.codec_error";
const INVALID_CHARACTERS: &str = "http1.invalid_characters";
const HEADERS_TOO_LARGE: &str = "http1.headers_too_large";
const TOO_MANY_HEADERS: &str = "http1.too_many_headers";
const INVALID_AUTHORITY: &str = "http.invalid_authority";

/// Line-level errors, the same in requests, responses and trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    /// RFC 9112 section 2.2: a recipient must not treat a bare CR as a line end.
    #[error("bare CR")]
    BareCr,
    /// RFC 9112 section 2.2 lets a recipient accept a bare LF; we do not.
    #[error("bare LF")]
    BareLf,
    /// RFC 9112 section 5.2.
    #[error("obsolete line folding")]
    ObsFold,
    #[error("header line without colon")]
    MissingColon,
    /// RFC 9112 section 5.1: also white space between name and colon.
    #[error("invalid header name")]
    InvalidName,
    /// RFC 9110 section 5.5: control bytes.
    #[error("invalid byte in a header value")]
    InvalidValue,
}

impl Syntax {
    fn details(self) -> &'static str {
        match self {
            Syntax::InvalidName | Syntax::InvalidValue => INVALID_CHARACTERS,
            _ => CODEC_ERROR,
        }
    }
}

/// Why no request could be read. Every one of them ends the connection after the answer.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    #[error("connection failed: {0}")]
    Io(#[source] io::Error),
    #[error("connection closed inside a request head")]
    Incomplete,
    /// Never returned by the codec: for the caller that owns the deadline (408).
    #[error("request head did not arrive in time")]
    Timeout,
    #[error("request head too large")]
    TooLarge,
    #[error("too many headers")]
    TooManyHeaders,
    #[error("{0}")]
    Syntax(#[from] Syntax),
    #[error("too many empty lines before the request line")]
    LeadingEmptyLines,
    /// RFC 9112 section 3: exactly two single spaces.
    #[error("malformed request line")]
    RequestLine,
    #[error("malformed method")]
    Method,
    #[error("malformed HTTP version")]
    Version,
    #[error("HTTP version not supported")]
    UnsupportedVersion,
    #[error("HTTP/1.0 is not served")]
    LowVersion,
    #[error("malformed request target")]
    Target,
    #[error("{0}")]
    Framing(#[from] FramingError),
    #[error("no Host header")]
    MissingHost,
    #[error("more than one Host header")]
    DuplicateHost,
    #[error("invalid host")]
    InvalidHost,
}

impl HeadError {
    /// The answer; `None` if nobody is there to read one.
    pub fn status(&self) -> Option<StatusCode> {
        Some(match self {
            HeadError::Io(_) => return None,
            HeadError::Timeout => StatusCode::REQUEST_TIMEOUT,
            HeadError::TooLarge | HeadError::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            HeadError::LowVersion => StatusCode::UPGRADE_REQUIRED,
            HeadError::Framing(FramingError::UnknownCoding) => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        })
    }

    /// Envoy's response-code details.
    pub fn details(&self) -> &'static str {
        match self {
            HeadError::Io(_) => "downstream_remote_disconnect",
            HeadError::Timeout => "request_header_timeout",
            HeadError::TooLarge => HEADERS_TOO_LARGE,
            HeadError::TooManyHeaders => TOO_MANY_HEADERS,
            HeadError::Syntax(syntax) => syntax.details(),
            HeadError::LowVersion => "low_version",
            HeadError::UnsupportedVersion => "http1.unsupported_version",
            HeadError::Framing(framing) => framing.details(),
            HeadError::MissingHost => "missing_host_header",
            HeadError::DuplicateHost | HeadError::InvalidHost => INVALID_AUTHORITY,
            _ => CODEC_ERROR,
        }
    }

    /// Whether the access log gets the flag DPE (downstream protocol error).
    pub fn is_protocol_error(&self) -> bool {
        !matches!(self, HeadError::Io(_) | HeadError::Timeout | HeadError::MissingHost)
    }
}

/// Why a body could not be read to its end, in either direction.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("connection failed: {0}")]
    Io(#[source] io::Error),
    #[error("connection closed before the end of the body")]
    Truncated,
    /// RFC 9112 section 7.1: size missing, not hexadecimal, longer than 16 digits or above 2^63-1.
    #[error("invalid chunk size")]
    ChunkSize,
    #[error("invalid chunk extension")]
    ChunkExtension,
    #[error("chunk extensions too large")]
    ChunkExtensionTooLarge,
    #[error("no CRLF after chunk data")]
    ChunkEnd,
    #[error("{0} in a chunk line or trailer")]
    Syntax(#[from] Syntax),
    #[error("trailers too large")]
    TrailersTooLarge,
    #[error("too many trailers")]
    TooManyTrailers,
}

impl BodyError {
    /// The answer to a request with this body, if no response was started; `None` if the peer is gone.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            BodyError::Io(_) | BodyError::Truncated => None,
            BodyError::TrailersTooLarge | BodyError::TooManyTrailers => {
                Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
            }
            _ => Some(StatusCode::BAD_REQUEST),
        }
    }

    /// Envoy's response-code details, for a request's body.
    pub fn details(&self) -> &'static str {
        match self {
            BodyError::Io(_) | BodyError::Truncated => "downstream_remote_disconnect",
            BodyError::TrailersTooLarge => HEADERS_TOO_LARGE,
            BodyError::TooManyTrailers => TOO_MANY_HEADERS,
            BodyError::Syntax(syntax) => syntax.details(),
            _ => CODEC_ERROR,
        }
    }

    /// True for malformed bytes, false if the connection ended.
    pub fn is_protocol_error(&self) -> bool {
        !matches!(self, BodyError::Io(_) | BodyError::Truncated)
    }
}

/// Why an upstream's response head could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// Closed or reset before any byte of a response: 503, flag UC, `connection_termination`; the request may be
    /// tried again.
    #[error("connection closed before a response")]
    Closed(#[source] Option<io::Error>),
    /// Closed or reset inside a head: 502, flag UPE.
    #[error("connection closed inside a response head")]
    Incomplete(#[source] Option<io::Error>),
    #[error("response head too large")]
    TooLarge,
    #[error("too many response headers")]
    TooManyHeaders,
    #[error("{0}")]
    Syntax(#[from] Syntax),
    /// RFC 9112 section 4.
    #[error("malformed status line")]
    StatusLine,
    #[error("HTTP version not supported")]
    Version,
    #[error("{0}")]
    Framing(#[from] FramingError),
    /// RFC 9110 section 8.6, RFC 9112 section 6.1: 1xx and 204 must not announce a body.
    #[error("body on a response that cannot have one")]
    ForbiddenBody,
    /// RFC 9110 section 15.2.2: 101 answers only a request that asked for an upgrade.
    #[error("101 without a request for an upgrade")]
    UnaskedUpgrade,
    #[error("too many interim responses")]
    TooManyInformational,
}

impl ResponseError {
    /// True for everything that is answered 502 with flag UPE; false for [`ResponseError::Closed`].
    pub fn is_protocol_error(&self) -> bool {
        !matches!(self, ResponseError::Closed(_))
    }
}

impl From<BlockError> for HeadError {
    fn from(error: BlockError) -> HeadError {
        match error {
            BlockError::Syntax(syntax) => HeadError::Syntax(syntax),
            BlockError::TooLarge => HeadError::TooLarge,
            BlockError::TooManyLines => HeadError::TooManyHeaders,
        }
    }
}

impl From<BlockError> for ResponseError {
    fn from(error: BlockError) -> ResponseError {
        match error {
            BlockError::Syntax(syntax) => ResponseError::Syntax(syntax),
            BlockError::TooLarge => ResponseError::TooLarge,
            BlockError::TooManyLines => ResponseError::TooManyHeaders,
        }
    }
}

impl From<BlockError> for BodyError {
    fn from(error: BlockError) -> BodyError {
        match error {
            BlockError::Syntax(syntax) => BodyError::Syntax(syntax),
            BlockError::TooLarge => BodyError::TrailersTooLarge,
            BlockError::TooManyLines => BodyError::TooManyTrailers,
        }
    }
}

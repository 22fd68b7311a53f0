//! HTTP/1.1 on the wire (RFC 9112): strict, poll-based and cancel-safe codecs for both sides of the gateway.
//!
//! This room decides what is a well-formed message and where it ends; anything ambiguous is refused, because two
//! parsers that disagree about the end of a message is what request smuggling is made of. It knows nothing of routes,
//! timeouts or hop-by-hop headers (the engine's), and it adds no header beyond what frames the message
//! (`content-length`, `transfer-encoding`, `connection: close`).

mod body;
mod chunked;
mod client;
mod error;
mod fields;
mod framing;
mod head;
mod read;
mod response;
mod server;
mod target;
mod write;

#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod smoke_tests;
#[cfg(test)]
mod socket_tests;
#[cfg(test)]
mod testing;

use bytes::Bytes;
use http::HeaderMap;

pub use client::ClientCodec;
pub use error::{BodyError, HeadError, ResponseError, Syntax};
pub use framing::FramingError;
pub use head::RequestHead;
pub use response::{ResponseBody, ResponseHead};
pub use server::ServerCodec;
pub use target::{Ascii, Scheme, Target};

/// What one connection may cost before it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the head, request line included; trailers count on top of their head. Above: 431.
    pub head_bytes: usize,
    /// Fields of the head; trailers count on top of their head. Above: 431.
    pub headers: usize,
    /// Bytes of the method token.
    pub method_bytes: usize,
    /// Empty lines tolerated before a request line (RFC 9112 section 2.2).
    pub leading_empty_lines: u8,
    /// Bytes of chunk extensions on one chunk line.
    pub chunk_extension_line: usize,
    /// Bytes of chunk extensions in one body.
    pub chunk_extension_body: usize,
    /// Serve HTTP/1.0 instead of answering 426 as Istio does.
    pub allow_http_1_0: bool,
    /// Bytes waiting to be written above which `poll_ready` is pending.
    pub high_water: usize,
    /// Largest single read of a body.
    pub largest_read: usize,
    /// Interim responses accepted before the final one.
    pub informational: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 60 * 1024,
            headers: 100,
            method_bytes: 32,
            leading_empty_lines: 2,
            chunk_extension_line: 4 * 1024,
            chunk_extension_body: 16 * 1024,
            allow_http_1_0: false,
            high_water: 64 * 1024,
            largest_read: 64 * 1024,
            informational: 32,
        }
    }
}

/// The versions this codec speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V1_0,
    V1_1,
}

/// A piece of a body, in order; trailers come last and at most once.
#[derive(Debug, Clone)]
pub enum Frame {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// How a request's body is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    None,
    Length(u64),
    Chunked,
}

/// How the body that follows a head to be sent is delimited. The writer emits the framing headers from this and ignores
/// `content-length` and `transfer-encoding` of the header map, so that the two can never disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body. On a response that could have one this is written as `content-length: 0`; on the answer to HEAD and on
    /// 304 a `content-length` of the header map is kept.
    None,
    Length(u64),
    Chunked,
    /// Responses only: the body ends with the connection. To a client of HTTP/1.0 `Chunked` means this too.
    UntilClose,
}

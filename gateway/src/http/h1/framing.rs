//! Where a message ends (RFC 9112 section 6.3), from the two headers that may say so. There is one right way to write
//! each; every other is refused, also those that RFC 9112 lets a recipient repair.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::Version;

/// Ambiguous or unsupported framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("invalid Content-Length")]
    ContentLength,
    /// Also when the values are equal.
    #[error("more than one Content-Length")]
    DuplicateContentLength,
    /// RFC 9112 section 6.1: "ought to be handled as an error".
    #[error("Content-Length beside Transfer-Encoding")]
    LengthAndCoding,
    /// Anything but `chunked` alone: 501 (RFC 9112 section 6.1).
    #[error("unknown Transfer-Encoding")]
    UnknownCoding,
    #[error("more than one Transfer-Encoding")]
    DuplicateCoding,
    /// RFC 9112 section 6.1: framing of HTTP/1.0 messages with Transfer-Encoding is faulty.
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
}

impl FramingError {
    pub(super) fn details(self) -> &'static str {
        match self {
            FramingError::LengthAndCoding => "http1.content_length_and_chunked_not_allowed",
            FramingError::UnknownCoding | FramingError::DuplicateCoding | FramingError::CodingInHttp10 => {
                "http1.invalid_transfer_encoding"
            }
            _ => "http1.codec_error",
        }
    }
}

/// What the headers say about the body, before the rules for methods and status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads the framing headers and leaves them in canonical form (`chunked` in lower case, no leading zeros).
pub(super) fn declared(headers: &mut HeaderMap, version: Version) -> Result<Declared, FramingError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Declared::Nothing),
        (Some(_), Some(_)) => Err(FramingError::LengthAndCoding),
        (Some(coding), None) => {
            if codings.next().is_some() {
                return Err(FramingError::DuplicateCoding);
            }
            if version == Version::V1_0 {
                return Err(FramingError::CodingInHttp10);
            }
            if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(FramingError::UnknownCoding);
            }
            if coding.as_bytes() != b"chunked" {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            Ok(Declared::Chunked)
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(FramingError::DuplicateContentLength);
            }
            let value = parse_length(length.as_bytes()).ok_or(FramingError::ContentLength)?;
            if length.len() > 1 && length.as_bytes().first() == Some(&b'0') {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(value));
            }
            Ok(Declared::Length(value))
        }
    }
}

/// RFC 9110 section 8.6: 1*DIGIT; above 2^63-1 somebody's signed integer overflows.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (value <= i64::MAX as u64).then_some(value)
}

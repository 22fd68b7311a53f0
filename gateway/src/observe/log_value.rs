//! Values of access log fields and how they are written. What a client sent is escaped: a quote, a backslash or a control
//! byte in it can neither end a field nor a line.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use super::ResponseFlags;
use super::log_format::write_number;

pub enum Value<'a> {
    Missing,
    /// From the client or the configuration.
    Text(&'a str),
    /// Written with `_` for spaces, as Envoy does.
    Words(&'a str),
    Owned(String),
    Number(u64),
    Flags(ResponseFlags),
    Address(SocketAddr),
    Ip(IpAddr),
    Time(SystemTime),
}

impl<'a> Value<'a> {
    /// Empty is missing.
    pub fn user(text: &'a str) -> Value<'a> {
        if text.is_empty() { Value::Missing } else { Value::Text(text) }
    }

    /// As a JSON value.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Missing | Value::Words("") => out.extend_from_slice(b"null"),
            Value::Number(number) => write_number(*number, out),
            Value::Text(text) => write_json_string(text, out),
            Value::Owned(text) => write_json_string(text, out),
            Value::Words(text) if text.contains(' ') => write_json_string(&text.replace(' ', "_"), out),
            Value::Words(text) => write_json_string(text, out),
            Value::Flags(_) | Value::Address(_) | Value::Ip(_) | Value::Time(_) => {
                out.push(b'"');
                self.write_plain(None, out);
                out.push(b'"');
            }
        }
    }

    /// Without any escaping.
    pub fn write_plain(&self, limit: Option<usize>, out: &mut Vec<u8>) {
        match self {
            Value::Missing | Value::Words("") => out.push(b'-'),
            Value::Text(text) => out.extend_from_slice(cut(text, limit).as_bytes()),
            Value::Owned(text) => out.extend_from_slice(cut(text, limit).as_bytes()),
            Value::Words(text) => {
                out.extend(cut(text, limit).bytes().map(|byte| if byte == b' ' { b'_' } else { byte }));
            }
            Value::Number(number) => write_number(*number, out),
            Value::Flags(flags) => drop(write!(out, "{flags}")),
            Value::Address(address) => drop(write!(out, "{address}")),
            Value::Ip(address) => drop(write!(out, "{address}")),
            Value::Time(time) => write_start_time(*time, out),
        }
    }
}

/// Into a text line.
pub fn write_text(value: &Value<'_>, limit: Option<usize>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => write_escaped(cut(text, limit), out),
        Value::Owned(text) => write_escaped(cut(text, limit), out),
        other => other.write_plain(limit, out),
    }
}

/// At most `limit` bytes, at a character boundary.
fn cut(text: &str, limit: Option<usize>) -> &str {
    match limit {
        Some(limit) if text.len() > limit => {
            let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.get(..end).unwrap_or_default()
        }
        _ => text,
    }
}

fn write_escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0..=0x1f | 0x7f => drop(write!(out, "\\x{byte:02x}")),
            _ => out.push(byte),
        }
    }
}

/// With its quotes.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0..=0x1f | 0x7f => drop(write!(out, "\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// `2026-11-25T02:45:14.123Z`
pub fn write_start_time(time: SystemTime, out: &mut Vec<u8>) {
    let Ok(time) = jiff::Timestamp::try_from(time) else {
        out.push(b'-');
        return;
    };
    let civil = jiff::tz::Offset::UTC.to_datetime(time);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
        civil.millisecond()
    );
}

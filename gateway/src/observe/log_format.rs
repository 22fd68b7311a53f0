//! Formats of the access log: Istio's default text and JSON, and `accessLogFormat` with Envoy's `%OPERATORS%`. A format
//! is parsed once; writing a line walks its parts.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::RequestRecord;
use super::log_peer::{PeerPart, peer};
use super::log_value::{Value, write_json_string, write_start_time, write_text};

/// Istio's default, text.
const DEFAULT_TEXT: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% "#,
    r#"%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% "#,
    r#"%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "#,
    r#""%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% "#,
    r#"%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%"#,
    "\n"
);

/// Istio's default, JSON: the same 24 fields.
const DEFAULT_JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
];

/// A parsed format.
pub enum LogFormat {
    Text(Vec<Part>),
    /// Keys are escaped already and stand with their quotes, the separator before and the colon after them.
    Json(Vec<(Vec<u8>, Vec<Part>)>),
}

pub enum Part {
    Literal(String),
    /// Operator and maximal length.
    Operator(Operator, Option<usize>),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Operator {
    /// None: ISO 8601 with milliseconds, UTC.
    StartTime(Option<String>),
    /// First header that is there.
    Request(Vec<String>),
    Response(Vec<String>),
    PathWithoutQuery,
    Protocol,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
    UpstreamTransportFailure,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    UpstreamAttempts,
    Address {
        end: End,
        part: AddressPart,
    },
    RequestedServerName,
    Peer(PeerPart),
    RouteName,
    GrpcStatus,
    Hostname,
    Generation,
    /// Known to Envoy, nothing to say here.
    Nothing,
}

/// Of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Local,
    /// The client's, as far as a load balancer tells it.
    Remote,
    /// The other end's.
    Direct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPart {
    Whole,
    Host,
    Port,
}

impl LogFormat {
    #[must_use]
    pub fn default_text() -> LogFormat {
        LogFormat::text(DEFAULT_TEXT).0
    }

    #[must_use]
    pub fn default_json() -> LogFormat {
        let mut problems = Vec::new();
        json_of(DEFAULT_JSON.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())), &mut problems)
    }

    /// A text format, and what was wrong with it. An operator that is not known writes `-`.
    #[must_use]
    pub fn text(format: &str) -> (LogFormat, Vec<String>) {
        let mut problems = Vec::new();
        let mut parts = parse_parts(format, &mut problems);
        if !format.ends_with('\n') {
            parts.push(Part::Literal("\n".to_owned()));
        }
        (LogFormat::Text(parts), problems)
    }

    /// A JSON object of key to format; anything else is Istio's default.
    #[must_use]
    pub fn json(format: &str) -> (LogFormat, Vec<String>) {
        let mut problems = Vec::new();
        match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(format) {
            Ok(map) => {
                let pairs = map.into_iter().map(|(key, value)| match value {
                    serde_json::Value::String(text) => (key, text),
                    other => (key, other.to_string()),
                });
                (json_of(pairs, &mut problems), problems)
            }
            Err(error) => (
                LogFormat::default_json(),
                vec![format!("accessLogFormat is not a JSON object ({error}); the default is used")],
            ),
        }
    }

    /// Whether it asks for headers of the answer beyond the one that the record has.
    pub fn wants_response_headers(&self) -> bool {
        let wants = |part: &Part| match part {
            Part::Operator(Operator::Response(names), _) => *names != ["x-envoy-upstream-service-time"],
            _ => false,
        };
        match self {
            LogFormat::Text(parts) => parts.iter().any(wants),
            LogFormat::Json(fields) => fields.iter().any(|(_, parts)| parts.iter().any(wants)),
        }
    }

    /// One line, with its end.
    pub fn write(&self, record: &RequestRecord<'_>, out: &mut Vec<u8>) {
        match self {
            LogFormat::Text(parts) => {
                for part in parts {
                    match part {
                        Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                        Part::Operator(operator, limit) => write_text(&value(operator, record), *limit, out),
                    }
                }
            }
            LogFormat::Json(fields) => {
                for (key, parts) in fields {
                    out.extend_from_slice(key);
                    write_json_field(parts, record, out);
                }
                out.extend_from_slice(b"}\n");
            }
        }
    }
}

fn json_of(pairs: impl Iterator<Item = (String, String)>, problems: &mut Vec<String>) -> LogFormat {
    let mut fields = Vec::new();
    for (key, format) in pairs {
        let mut prefix = vec![if fields.is_empty() { b'{' } else { b',' }];
        write_json_string(&key, &mut prefix);
        prefix.push(b':');
        fields.push((prefix, parse_parts(&format, problems)));
    }
    if fields.is_empty() {
        fields.push((b"{".to_vec(), Vec::new()));
    }
    LogFormat::Json(fields)
}

/// A lone operator keeps its type (numbers, null); anything else is a string.
fn write_json_field(parts: &[Part], record: &RequestRecord<'_>, out: &mut Vec<u8>) {
    match parts {
        [Part::Operator(operator, None)] => value(operator, record).write_json(out),
        [] => {}
        _ => {
            let mut text = Vec::new();
            for part in parts {
                match part {
                    Part::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                    Part::Operator(operator, limit) => value(operator, record).write_plain(*limit, &mut text),
                }
            }
            write_json_string(&String::from_utf8_lossy(&text), out);
        }
    }
}

/// What an operator means for a request.
fn value<'a>(operator: &'a Operator, record: &'a RequestRecord<'a>) -> Value<'a> {
    match operator {
        Operator::StartTime(format) => start_time(record.start, format.as_deref()),
        Operator::Request(names) => first(names, |name| request_header(record, name)),
        Operator::Response(names) => match names.first().map(String::as_str) {
            Some("x-envoy-upstream-service-time") => millis(record.upstream_service_time),
            _ => first(names, |name| record.headers.and_then(|headers| headers.response_header(name))),
        },
        Operator::PathWithoutQuery => Value::user(record.path.split('?').next().unwrap_or_default()),
        Operator::Protocol => Value::user(record.protocol),
        Operator::ResponseCode => Value::Number(u64::from(record.status)),
        Operator::ResponseFlags => Value::Flags(record.flags),
        Operator::ResponseCodeDetails => Value::Words(record.details),
        Operator::UpstreamTransportFailure => Value::Words(record.upstream_transport_failure),
        Operator::BytesReceived => Value::Number(record.bytes_received),
        Operator::BytesSent => Value::Number(record.bytes_sent),
        Operator::Duration => millis(Some(record.duration)),
        Operator::UpstreamHost => record.upstream_host.map_or(Value::Missing, Value::Address),
        Operator::UpstreamCluster => Value::user(record.upstream_cluster),
        Operator::UpstreamAttempts => Value::Number(u64::from(record.attempts)),
        Operator::UpstreamLocalAddress => record.upstream_local.map_or(Value::Missing, Value::Address),
        Operator::Address { end: End::Local, part } => address(record.downstream_local, *part),
        Operator::Address { end: End::Remote, part } => address(record.downstream_remote, *part),
        Operator::Address { end: End::Direct, part } => address(record.downstream_direct, *part),
        Operator::RequestedServerName => Value::user(record.sni.unwrap_or_default()),
        Operator::Peer(part) => record.client.map_or(Value::Missing, |client| peer(client, *part)),
        Operator::RouteName => Value::user(record.route_name.unwrap_or_default()),
        Operator::GrpcStatus => record.grpc_status.map_or(Value::Missing, |status| Value::Number(u64::from(status))),
        Operator::Hostname => Value::user(super::hostname()),
        Operator::Generation => Value::Number(record.generation),
        Operator::Nothing => Value::Missing,
    }
}

fn start_time(start: SystemTime, format: Option<&str>) -> Value<'static> {
    let mut text = Vec::with_capacity(24);
    match format {
        None => return Value::Time(start),
        Some(format) => {
            let formatted = jiff::Timestamp::try_from(start)
                .ok()
                .and_then(|time| jiff::fmt::strtime::format(format, &time.to_zoned(jiff::tz::TimeZone::UTC)).ok());
            match formatted {
                Some(formatted) => text.extend_from_slice(formatted.as_bytes()),
                None => write_start_time(start, &mut text),
            }
        }
    }
    Value::Owned(String::from_utf8(text).unwrap_or_default())
}

fn first<'a>(names: &[String], lookup: impl Fn(&str) -> Option<&'a str>) -> Value<'a> {
    names.iter().find_map(|name| lookup(name).filter(|value| !value.is_empty())).map_or(Value::Missing, Value::user)
}

fn request_header<'a>(record: &'a RequestRecord<'a>, name: &str) -> Option<&'a str> {
    match name {
        ":method" => Some(record.method),
        // The path of the record is the one before any rewrite.
        ":path" | "x-envoy-original-path" => Some(record.path),
        ":authority" | "host" => Some(record.authority),
        "user-agent" => Some(record.user_agent),
        "x-forwarded-for" => Some(record.forwarded_for),
        "x-request-id" => Some(record.request_id),
        _ => record.headers.and_then(|headers| headers.request_header(name)),
    }
}

fn millis(duration: Option<Duration>) -> Value<'static> {
    duration.map_or(Value::Missing, |duration| Value::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

fn address(address: SocketAddr, part: AddressPart) -> Value<'static> {
    match part {
        AddressPart::Whole => Value::Address(address),
        AddressPart::Host => Value::Ip(address.ip()),
        AddressPart::Port => Value::Number(u64::from(address.port())),
    }
}

/// Splits at `%NAME(arguments):length%`; `%%` is a percent sign.
fn parse_parts(format: &str, problems: &mut Vec<String>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        literal.push_str(before);
        let after = after.get(1..).unwrap_or_default();
        if let Some(tail) = after.strip_prefix('%') {
            literal.push('%');
            rest = tail;
            continue;
        }
        let Some((command, tail)) = split_command(after) else {
            problems.push(format!("`%{after}` has no closing `%`"));
            literal.push('%');
            rest = after;
            continue;
        };
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(parse_operator(command, problems));
        rest = tail;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    parts
}

/// The arguments may hold `%` themselves (time formats).
fn split_command(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth = depth.saturating_add(1),
            b')' => depth = depth.saturating_sub(1),
            b'%' if depth == 0 => return Some((text.get(..at)?, text.get(at.saturating_add(1)..)?)),
            _ => {}
        }
    }
    None
}

fn parse_operator(command: &str, problems: &mut Vec<String>) -> Part {
    let (head, limit) = match command.rsplit_once(':') {
        Some((head, digits)) if !digits.is_empty() && !head.contains('(') | head.ends_with(')') => {
            (head, digits.parse::<usize>().ok())
        }
        _ => (command, None),
    };
    let (name, argument) = match head.split_once('(') {
        Some((name, argument)) => (name, Some(argument.strip_suffix(')').unwrap_or(argument))),
        None => (head, None),
    };
    let names = || argument.unwrap_or_default().split('?').map(str::to_ascii_lowercase).collect();
    let operator = match name {
        "START_TIME" => Operator::StartTime(argument.filter(|format| !format.is_empty()).map(str::to_owned)),
        "REQ" => Operator::Request(names()),
        "RESP" => Operator::Response(names()),
        "REQ_WITHOUT_QUERY" | "PATH" => Operator::PathWithoutQuery,
        _ => plain_operator(name).unwrap_or_else(|| {
            problems.push(format!("accessLogFormat: operator %{name}% is not known; it writes `-`"));
            Operator::Nothing
        }),
    };
    Part::Operator(operator, limit)
}

fn plain_operator(name: &str) -> Option<Operator> {
    use AddressPart::{Host, Port, Whole};
    let address = |end, part| Operator::Address { end, part };
    Some(match name {
        "PROTOCOL" => Operator::Protocol,
        "RESPONSE_CODE" => Operator::ResponseCode,
        "RESPONSE_FLAGS" => Operator::ResponseFlags,
        "RESPONSE_CODE_DETAILS" => Operator::ResponseCodeDetails,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::UpstreamTransportFailure,
        "BYTES_RECEIVED" => Operator::BytesReceived,
        "BYTES_SENT" => Operator::BytesSent,
        "DURATION" => Operator::Duration,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Operator::UpstreamHost,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Operator::UpstreamCluster,
        "UPSTREAM_LOCAL_ADDRESS" => Operator::UpstreamLocalAddress,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Operator::UpstreamAttempts,
        "DOWNSTREAM_LOCAL_ADDRESS" => address(End::Local, Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => address(End::Local, Host),
        "DOWNSTREAM_LOCAL_PORT" => address(End::Local, Port),
        "DOWNSTREAM_REMOTE_ADDRESS" => address(End::Remote, Whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => address(End::Remote, Host),
        "DOWNSTREAM_REMOTE_PORT" => address(End::Remote, Port),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => address(End::Direct, Whole),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => address(End::Direct, Host),
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => address(End::Direct, Port),
        "DOWNSTREAM_PEER_URI_SAN" => Operator::Peer(PeerPart::Uris),
        "DOWNSTREAM_PEER_DNS_SAN" => Operator::Peer(PeerPart::Names),
        "DOWNSTREAM_PEER_SUBJECT" => Operator::Peer(PeerPart::Subject),
        "DOWNSTREAM_PEER_FINGERPRINT_256" => Operator::Peer(PeerPart::Fingerprint),
        "REQUESTED_SERVER_NAME" => Operator::RequestedServerName,
        "ROUTE_NAME" => Operator::RouteName,
        "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => Operator::GrpcStatus,
        "HOSTNAME" => Operator::Hostname,
        "MESHGATE_GENERATION" => Operator::Generation,
        "CONNECTION_TERMINATION_DETAILS"
        | "FILTER_STATE"
        | "DYNAMIC_METADATA"
        | "METADATA"
        | "TRAILER"
        | "VIRTUAL_CLUSTER_NAME" => Operator::Nothing,
        _ => return None,
    })
}

/// For the writer of plain strings.
pub(super) fn write_number(number: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{number}");
}

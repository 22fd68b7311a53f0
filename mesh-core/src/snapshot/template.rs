//! Header values with Envoy's `%COMMAND%` operators, parsed when the tables are made.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::HeaderMap;

use super::Side;

/// What a template may ask for. The engine implements it over its request.
///
/// Headers of the side that is being edited are read from the map that is passed to
/// [`CompiledHeaderOp::apply`](super::CompiledHeaderOp::apply), so an implementation need not (and for the borrow
/// checker's sake cannot) offer those: only `:method`, `:path` (with query), `:authority` and `:scheme` are always asked
/// for here.
pub trait FormatContext {
    /// The first line of this name. Asked with lower-case names; pseudo headers begin with `:`.
    fn request_header(&self, name: &str) -> Option<&str>;
    fn response_header(&self, name: &str) -> Option<&str>;
    fn response_code(&self) -> Option<u16>;
    /// The client's, as far as a load balancer tells it.
    fn downstream_remote_address(&self) -> Option<SocketAddr>;
    /// The other end of the connection.
    fn downstream_direct_address(&self) -> Option<SocketAddr>;
    fn downstream_local_address(&self) -> Option<SocketAddr>;
    /// `HTTP/1.1`, `HTTP/2`
    fn protocol(&self) -> &str;
    fn start_time(&self) -> SystemTime;
    fn hostname(&self) -> &str;
    fn upstream_host(&self) -> Option<SocketAddr>;
    fn upstream_cluster(&self) -> Option<&str>;
    fn route_name(&self) -> Option<&str>;
    fn requested_server_name(&self) -> Option<&str>;
}

/// Text and commands, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(Box<str>),
    Command { command: Command, max_length: Option<usize> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `REQ(name?alternative)`
    RequestHeader {
        name: Box<str>,
        alternative: Option<Box<str>>,
    },
    /// `RESP(name?alternative)`
    ResponseHeader {
        name: Box<str>,
        alternative: Option<Box<str>>,
    },
    ResponseCode,
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamRemotePort,
    DownstreamDirectAddress,
    DownstreamDirectAddressWithoutPort,
    DownstreamDirectPort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    Protocol,
    /// Format in the manner of strftime; empty: RFC 3339 with milliseconds.
    StartTime(Box<str>),
    Hostname,
    UpstreamHost,
    UpstreamCluster,
    RouteName,
    RequestedServerName,
}

impl Template {
    /// The text, if there is no command in it.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.parts.as_ref() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Missing values are empty. Bytes, because header values need not be UTF-8.
    pub(crate) fn format(&self, side: Side, headers: &HeaderMap, context: &dyn FormatContext) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Command { command, max_length } => {
                    let start = out.len();
                    command.append(&mut out, side, headers, context);
                    if let Some(length) = max_length {
                        out.truncate(start.saturating_add(*length));
                    }
                }
            }
        }
        out
    }
}

impl Command {
    fn append(&self, out: &mut Vec<u8>, side: Side, headers: &HeaderMap, context: &dyn FormatContext) {
        let address = |out: &mut Vec<u8>, address: Option<SocketAddr>, form: AddressForm| {
            let Some(address) = address else { return };
            let text = match form {
                AddressForm::Whole => address.to_string(),
                AddressForm::Host => address.ip().to_string(),
                AddressForm::Port => address.port().to_string(),
            };
            out.extend_from_slice(text.as_bytes());
        };
        match self {
            Command::RequestHeader { name, alternative } => {
                let own = (side == Side::Request).then_some(headers);
                header(out, own, &|name| context.request_header(name), name, alternative.as_deref());
            }
            Command::ResponseHeader { name, alternative } => {
                let own = (side == Side::Response).then_some(headers);
                header(out, own, &|name| context.response_header(name), name, alternative.as_deref());
            }
            Command::ResponseCode => {
                if let Some(code) = context.response_code() {
                    out.extend_from_slice(code.to_string().as_bytes());
                }
            }
            Command::DownstreamRemoteAddress => address(out, context.downstream_remote_address(), AddressForm::Whole),
            Command::DownstreamRemoteAddressWithoutPort => {
                address(out, context.downstream_remote_address(), AddressForm::Host);
            }
            Command::DownstreamRemotePort => address(out, context.downstream_remote_address(), AddressForm::Port),
            Command::DownstreamDirectAddress => address(out, context.downstream_direct_address(), AddressForm::Whole),
            Command::DownstreamDirectAddressWithoutPort => {
                address(out, context.downstream_direct_address(), AddressForm::Host);
            }
            Command::DownstreamDirectPort => address(out, context.downstream_direct_address(), AddressForm::Port),
            Command::DownstreamLocalAddress => address(out, context.downstream_local_address(), AddressForm::Whole),
            Command::DownstreamLocalAddressWithoutPort => {
                address(out, context.downstream_local_address(), AddressForm::Host);
            }
            Command::DownstreamLocalPort => address(out, context.downstream_local_address(), AddressForm::Port),
            Command::Protocol => out.extend_from_slice(context.protocol().as_bytes()),
            Command::StartTime(format) => super::time::append(out, format, context.start_time()),
            Command::Hostname => out.extend_from_slice(context.hostname().as_bytes()),
            Command::UpstreamHost => address(out, context.upstream_host(), AddressForm::Whole),
            Command::UpstreamCluster => text(out, context.upstream_cluster()),
            Command::RouteName => text(out, context.route_name()),
            Command::RequestedServerName => text(out, context.requested_server_name()),
        }
    }
}

#[derive(Clone, Copy)]
enum AddressForm {
    Whole,
    Host,
    Port,
}

fn text(out: &mut Vec<u8>, value: Option<&str>) {
    out.extend_from_slice(value.unwrap_or("").as_bytes());
}

/// The first line of `name`, else of `alternative`.
fn header<'c>(
    out: &mut Vec<u8>,
    own: Option<&HeaderMap>,
    foreign: &dyn Fn(&str) -> Option<&'c str>,
    name: &str,
    alternative: Option<&str>,
) {
    for name in std::iter::once(name).chain(alternative) {
        let own = own.filter(|_| !name.starts_with(':'));
        let found = match own {
            Some(headers) => headers.get(name).map(http::HeaderValue::as_bytes),
            None => foreign(name).map(str::as_bytes),
        };
        if let Some(value) = found {
            out.extend_from_slice(value);
            return;
        }
    }
}

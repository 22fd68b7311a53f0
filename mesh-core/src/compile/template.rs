//! Envoy's `%COMMAND(arguments):length%` operators in header values.

use crate::snapshot::{Command, Part, Template};

/// Parses a value. `%%` is a percent sign; a lone one, and an operator that is not known, are errors.
pub(super) fn parse(text: &str) -> Result<Template, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (part, after) = operator(rest)?;
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
        }
        parts.push(part);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(Template { parts: parts.into() })
}

/// What stands behind the opening `%`, and the text behind the closing one.
fn operator(text: &str) -> Result<(Part, &str), String> {
    let name_end = text
        .find(|char: char| !(char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_'))
        .ok_or_else(|| unclosed(text))?;
    let (name, mut rest) = text.split_at_checked(name_end).unwrap_or((text, ""));
    if name.is_empty() {
        return Err("a lone %; write %% for a percent sign".to_owned());
    }
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let (inner, after) = inside.split_once(')').ok_or_else(|| unclosed(text))?;
        argument = Some(inner);
        rest = after;
    }
    let mut max_length = None;
    if let Some(after) = rest.strip_prefix(':') {
        let (digits, _) = after.split_once('%').ok_or_else(|| unclosed(text))?;
        max_length = Some(digits.parse().map_err(|_| format!("{digits:?} is no length"))?);
        rest = after.get(digits.len()..).unwrap_or("");
    }
    let after = rest.strip_prefix('%').ok_or_else(|| unclosed(text))?;
    Ok((Part::Command { command: command(name, argument)?, max_length }, after))
}

fn unclosed(text: &str) -> String {
    format!("\"%{text}\" is no operator; write %% for a percent sign")
}

fn command(name: &str, argument: Option<&str>) -> Result<Command, String> {
    let plain = match name {
        "REQ" => return header(name, argument).map(|(name, alternative)| Command::RequestHeader { name, alternative }),
        "RESP" => {
            return header(name, argument).map(|(name, alternative)| Command::ResponseHeader { name, alternative });
        }
        "START_TIME" => return Ok(Command::StartTime(argument.unwrap_or("").into())),
        "RESPONSE_CODE" => Command::ResponseCode,
        "DOWNSTREAM_REMOTE_ADDRESS" => Command::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Command::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_REMOTE_PORT" => Command::DownstreamRemotePort,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Command::DownstreamDirectAddress,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Command::DownstreamDirectAddressWithoutPort,
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => Command::DownstreamDirectPort,
        "DOWNSTREAM_LOCAL_ADDRESS" => Command::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Command::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Command::DownstreamLocalPort,
        "PROTOCOL" => Command::Protocol,
        "HOSTNAME" => Command::Hostname,
        "UPSTREAM_HOST" => Command::UpstreamHost,
        "UPSTREAM_CLUSTER" => Command::UpstreamCluster,
        "ROUTE_NAME" => Command::RouteName,
        "REQUESTED_SERVER_NAME" => Command::RequestedServerName,
        _ => return Err(format!("%{name}% is not known")),
    };
    match argument {
        None => Ok(plain),
        Some(_) => Err(format!("%{name}% takes no argument")),
    }
}

/// `name?alternative`
fn header(command: &str, argument: Option<&str>) -> Result<(Box<str>, Option<Box<str>>), String> {
    let argument =
        argument.filter(|text| !text.is_empty()).ok_or_else(|| format!("%{command}% needs a header name"))?;
    let (name, alternative) = match argument.split_once('?') {
        Some((name, alternative)) => (name, Some(alternative.to_ascii_lowercase().into())),
        None => (argument, None),
    };
    Ok((name.to_ascii_lowercase().into(), alternative))
}

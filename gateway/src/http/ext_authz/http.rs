//! Authorizers that are asked by an HTTP request (`envoyExtAuthzHttp`): the same method and path, of the headers those that the provider
//! names. 200 lets the request through, 5xx is no answer, everything else is the answer to the client.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, DATE, HOST, LOCATION, SERVER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mesh_core::model::{BodyInCheck, HttpCheck, NameMatch};

use super::super::exchange::{Exchange, RequestHead};
use super::super::failure::Refusal;
use super::collector::Answer;
use super::{Changes, Mode, NoVerdict, PARTIAL_BODY, Unanswered, Verdict, head, is_framing};

pub(super) fn question(
    check: &HttpCheck,
    exchange: &Exchange,
    shown: Option<BodyInCheck>,
    body: Bytes,
    whole: bool,
) -> (RequestHead, Bytes) {
    let mut headers = HeaderMap::new();
    for (name, value) in &exchange.head.headers {
        if name == AUTHORIZATION || (has(&check.told, name) && !is_framing(name)) {
            headers.append(name.clone(), value.clone());
        }
    }
    for (name, value) in &check.added {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    if let Ok(host) = HeaderValue::try_from(&exchange.head.authority) {
        headers.insert(HOST, host);
    }
    if shown.is_some() {
        headers.insert(&PARTIAL_BODY, HeaderValue::from_static(if whole { "false" } else { "true" }));
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let target = format!("{}{}", check.path_prefix, exchange.head.target);
    (head(exchange, target, headers, &body), body)
}

pub(super) fn verdict(check: &HttpCheck, answer: Answer) -> Result<Verdict, NoVerdict> {
    let Answer { status, headers, body, .. } = answer;
    if status.is_server_error() {
        return Err(Unanswered);
    }
    let usable = || headers.iter().filter(|(name, _)| !is_framing(name) && !is_ours(name));
    let named = |list: &[NameMatch]| {
        let list = list.to_vec();
        usable().filter(move |(name, _)| has(&list, name)).map(|(name, value)| (name.clone(), value.clone()))
    };
    if status == StatusCode::OK {
        let mut changes = Changes { response: named(&check.response).collect(), ..Changes::default() };
        let mut first: Vec<HeaderName> = Vec::new();
        for (name, value) in named(&check.upstream) {
            // The client's value goes; of several lines all are passed on.
            let mode = if first.contains(&name) { Mode::Append } else { Mode::Overwrite };
            first.push(name.clone());
            changes.request.push((name, value, mode));
        }
        return Ok(Verdict::Allowed(changes));
    }
    let always = |name: &HeaderName| *name == LOCATION || *name == WWW_AUTHENTICATE;
    let told = |name: &HeaderName| check.refusal.is_empty() || always(name) || has(&check.refusal, name);
    let told = usable().filter(|(name, _)| told(name)).map(|(name, value)| (name.clone(), value.clone()));
    let mut headers = HeaderMap::new();
    for (name, value) in told {
        headers.append(name, value);
    }
    Ok(Verdict::Refused(Refusal { status: status.as_u16(), headers, body }))
}

/// What we say of every answer.
fn is_ours(name: &HeaderName) -> bool {
    *name == SERVER || *name == DATE || name.as_str() == "x-envoy-upstream-service-time"
}

fn has(list: &[NameMatch], name: &HeaderName) -> bool {
    list.iter().any(|one| one.holds(name.as_str()))
}

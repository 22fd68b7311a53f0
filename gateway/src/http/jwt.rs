//! Tokens (JWT, RFC 7519) of requests: found, checked and passed on, with the answers and the words of Envoy.
//!
//! A request without a token passes: it is for AuthorizationPolicies to ask for one. A token that is not good never does.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use mesh_core::snapshot::{Token, path};
use serde_json::{Map, Value};

use super::cookie;
use super::exchange::Exchange;
use super::failure::Failure;
use crate::live::{LiveTokenRule, TokenPlace, TokenRules};
use crate::upstream::{Algorithm, Mismatch};

/// By so much clocks may differ, in seconds.
const SKEW: u64 = 60;

const FORM: &str = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
const UNKNOWN_ISSUER: &str = "Jwt issuer is not configured";
const AUDIENCE: &str = "Audiences in Jwt are not allowed";

/// A token that is good.
struct Verified<'r> {
    place: &'r TokenPlace,
    rule: &'r LiveTokenRule,
    /// Index of the rule.
    index: usize,
    claims: Map<String, Value>,
    /// As it stood in the token.
    payload: String,
}

/// Checks the tokens of a request and passes on what they say. An error: one of them is not good.
pub(super) async fn authenticate(rules: &TokenRules, exchange: &mut Exchange) -> Result<(), Failure> {
    if rules.rules.is_empty() {
        return Ok(());
    }
    for rule in &rules.rules {
        let outputs = rule.payload_header.iter().chain(rule.claim_headers.iter().map(|(header, _)| header));
        for header in outputs {
            exchange.head.headers.remove(header);
        }
    }
    // Browsers send no tokens with these.
    if exchange.request().is_preflight() {
        return Ok(());
    }
    let mut good = Vec::new();
    for (place, readers) in &rules.places {
        if let Some(token) = find(place, exchange) {
            let verified = verify(rules, place, readers, &token).await;
            good.push(verified.map_err(refusal)?);
        }
    }
    good.sort_by_key(|verified| verified.index);
    for verified in good {
        pass_on(verified, exchange);
    }
    Ok(())
}

fn refusal(text: &'static str) -> Failure {
    Failure::BadToken { status: if text == AUDIENCE { 403 } else { 401 }, text }
}

fn find(place: &TokenPlace, exchange: &Exchange) -> Option<String> {
    match place {
        TokenPlace::Header(name, prefix) => {
            let lines: Vec<Cow<'_, str>> = exchange
                .head
                .headers
                .get_all(name)
                .iter()
                .map(|line| String::from_utf8_lossy(line.as_bytes()))
                .collect();
            if lines.is_empty() {
                return None;
            }
            // Of several lines none is chosen: joined they are no token.
            let value = lines.join(",");
            let (_, token) = value.split_once(prefix.as_str())?;
            Some(token.trim().to_owned())
        }
        TokenPlace::Parameter(name) => {
            let (_, query) = path::split_query(&exchange.head.target);
            let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.filter(|(key, _)| decode(key) == *name).map(|(_, value)| decode(value).into_owned()).next()
        }
        TokenPlace::Cookie(name) => cookie::value(&exchange.head.headers, name).map(str::to_owned),
    }
}

/// Percent-encoding undone.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.split_at_checked(2).filter(|_| *first == b'%');
        let code = pair.and_then(|(digits, left)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, left))
        });
        match code {
            Some((byte, left)) => {
                bytes.push(byte);
                rest = left;
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

async fn verify<'r>(
    rules: &'r TokenRules,
    place: &'r TokenPlace,
    readers: &[usize],
    token: &str,
) -> Result<Verified<'r>, &'static str> {
    let parsed = Parsed::read(token)?;
    let issuer = parsed.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    let mut problem = UNKNOWN_ISSUER;
    let candidates = readers.iter().filter_map(|index| Some((*index, rules.rules.get(*index)?)));
    for (index, rule) in candidates.filter(|(_, rule)| *rule.model.issuer == *issuer && !issuer.is_empty()) {
        match check(rule, &parsed).await {
            Ok(()) => {
                let payload = parsed.payload.to_owned();
                return Ok(Verified { place, rule, index, claims: parsed.claims, payload });
            }
            Err(why) => problem = why,
        }
    }
    Err(problem)
}

async fn check(rule: &LiveTokenRule, token: &Parsed<'_>) -> Result<(), &'static str> {
    token.check_time(SystemTime::now())?;
    let audiences = &rule.model.audiences;
    if !audiences.is_empty()
        && !token.audiences().any(|audience| audiences.iter().any(|allowed| same(allowed, audience)))
    {
        return Err(AUDIENCE);
    }
    let keys = rule.keys.get(rule.model.timeout).await.ok_or("Jwks remote fetch is failed")?;
    let id = token.header.get("kid").and_then(Value::as_str);
    keys.verify(id, token.algorithm, token.signed.as_bytes(), token.signature).map_err(|mismatch| match mismatch {
        Mismatch::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
        Mismatch::Signature => "Jwt verification fails",
    })
}

/// Audiences are often URLs: scheme and a slash at the end do not matter, as with Envoy.
fn same(allowed: &str, audience: &str) -> bool {
    fn plain(text: &str) -> &str {
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        text.strip_suffix('/').unwrap_or(text)
    }
    plain(allowed) == plain(audience)
}

/// A token that has the form of one. Nothing that it says is believed yet.
struct Parsed<'t> {
    header: Map<String, Value>,
    algorithm: Algorithm,
    claims: Map<String, Value>,
    payload: &'t str,
    signature: &'t str,
    /// Header and payload, with the dot between.
    signed: &'t str,
}

impl<'t> Parsed<'t> {
    fn read(token: &'t str) -> Result<Parsed<'t>, &'static str> {
        let mut sections = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (sections.next(), sections.next(), sections.next(), sections.next())
        else {
            return Err(FORM);
        };
        let object = |text: &str, encoding, json| -> Result<Map<String, Value>, &'static str> {
            let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| encoding)?;
            serde_json::from_slice(&bytes).map_err(|_| json)
        };
        let head = object(header, "Jwt header is an invalid Base64url encoded", "Jwt header is an invalid JSON")?;
        let Some(algorithm) = head.get("alg").and_then(Value::as_str) else {
            return Err("Jwt header [alg] field is required and must be a string");
        };
        let algorithm = Algorithm::of(algorithm).ok_or("Jwt header [alg] is not supported")?;
        if head.get("kid").is_some_and(|id| !id.is_string()) {
            return Err("Jwt header [kid] field is not a string");
        }
        let claims = object(payload, "Jwt payload is an invalid Base64url encoded", "Jwt payload is an invalid JSON")?;
        for (name, problem) in [
            ("iss", "Jwt payload [iss] field is not a string"),
            ("sub", "Jwt payload [sub] field is not a string"),
            ("jti", "Jwt payload [jti] field is not a string"),
        ] {
            if claims.get(name).is_some_and(|claim| !claim.is_string()) {
                return Err(problem);
            }
        }
        let audience = claims.get("aud").is_none_or(|audience| match audience {
            Value::Array(list) => list.iter().all(Value::is_string),
            audience => audience.is_string(),
        });
        if !audience {
            return Err("Jwt payload [aud] field is not a string or string list");
        }
        if URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err("Jwt signature is an invalid Base64url encoded");
        }
        let signed = token.get(..header.len() + 1 + payload.len()).ok_or(FORM)?;
        Ok(Parsed { header: head, algorithm, claims, payload, signature, signed })
    }

    fn check_time(&self, now: SystemTime) -> Result<(), &'static str> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let not_before = self.seconds(
            "nbf",
            "Jwt payload [nbf] field is not an integer",
            "Jwt payload [nbf] field is not a positive 64 bit integer",
        )?;
        let expires = self.seconds(
            "exp",
            "Jwt payload [exp] field is not an integer",
            "Jwt payload [exp] field is not a positive 64 bit integer",
        )?;
        if not_before.is_some_and(|start| start > now.saturating_add(SKEW)) {
            return Err("Jwt not yet valid");
        }
        if expires.is_some_and(|end| now > end.saturating_add(SKEW)) {
            return Err("Jwt is expired");
        }
        Ok(())
    }

    /// A time since 1970.
    fn seconds(&self, name: &str, no_number: &'static str, range: &'static str) -> Result<Option<u64>, &'static str> {
        let Some(claim) = self.claims.get(name) else { return Ok(None) };
        let Value::Number(number) = claim else { return Err(no_number) };
        if let Some(seconds) = number.as_u64() {
            return Ok(Some(seconds));
        }
        let seconds = number.as_f64().filter(|seconds| (0.0..9.2e18).contains(seconds)).ok_or(range)?;
        Ok(Some(Duration::from_secs_f64(seconds).as_secs()))
    }

    fn audiences(&self) -> impl Iterator<Item = &str> {
        let (one, list) = match self.claims.get("aud") {
            Some(Value::Array(list)) => (None, list.as_slice()),
            other => (other, &[][..]),
        };
        one.into_iter().chain(list).filter_map(Value::as_str)
    }
}

fn pass_on(verified: Verified<'_>, exchange: &mut Exchange) {
    let Verified { place, rule, claims, payload, .. } = verified;
    let headers = &mut exchange.head.headers;
    if !rule.model.forward {
        match place {
            TokenPlace::Header(name, _) => drop(headers.remove(name)),
            TokenPlace::Parameter(name) => remove_parameter(&mut exchange.head.target, name),
            // As Envoy: a cookie stays.
            TokenPlace::Cookie(_) => {}
        }
    }
    if let Some(header) = &rule.payload_header
        && let Ok(value) = HeaderValue::from_str(&payload)
    {
        headers.insert(header, value);
    }
    for (header, names) in &rule.claim_headers {
        let claim = names
            .split_first()
            .and_then(|(first, rest)| rest.iter().try_fold(claims.get(first)?, |claim, name| claim.get(name)));
        if let Some(value) = claim.and_then(claim_text).and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header, value);
        }
    }
    exchange.token = Some(Token::new(claims, &rule.model.space_delimited));
}

/// Lists and objects go as base64 of their JSON.
fn claim_text(claim: &Value) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(claim.to_string())),
    }
}

fn remove_parameter(target: &mut String, name: &str) {
    let (path, query) = path::split_query(target);
    let Some(query) = query else { return };
    let rest: Vec<&str> =
        query.split('&').filter(|pair| decode(pair.split_once('=').map_or(*pair, |(key, _)| key)) != name).collect();
    *target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;

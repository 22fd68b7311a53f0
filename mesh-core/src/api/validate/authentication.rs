//! `RequestAuthentication` and `PeerAuthentication`: what Istio's webhook and the CRDs' rules refuse. A token rule that is wrong
//! is reported and stays where it is: `translate` makes it refuse its tokens.

use super::super::{JwtRule, PeerAuthentication, RequestAuthentication};
use super::{Checks, Wrong, is_set, names, policy_target};

pub(super) fn request(policy: &RequestAuthentication, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| {
        policy_target::check(policy.selector.as_ref(), policy.target_ref.as_ref(), &policy.target_refs, checks);
    })?;
    for (index, rule) in policy.jwt_rules.iter().enumerate() {
        if let Some(rule) = rule {
            check_rule(&format!("spec.jwtRules[{index}]"), rule, checks);
        }
    }
    Ok(())
}

fn check_rule(at: &str, rule: &JwtRule, checks: &mut Checks<'_>) {
    if rule.issuer.is_empty() {
        checks.missing(format_args!("{at}.issuer"), "a rule needs the issuer of its tokens", "");
    }
    let keys = (is_set(rule.jwks.as_ref()), is_set(rule.jwks_uri.as_ref()));
    if keys == (true, true) {
        checks.error(format_args!("{at}.jwks"), "only one of `jwks` and `jwksUri` can be set", "");
    }
    if let Some(uri) = rule.jwks_uri.as_ref().filter(|uri| !uri.is_empty()) {
        check_uri(&format!("{at}.jwksUri"), uri, checks);
    }
    if let Some(keys) = rule.jwks.as_ref().filter(|keys| !keys.is_empty()) {
        check_keys(&format!("{at}.jwks"), keys, checks);
    }
    let empty = |what: &str, values: &[String], checks: &mut Checks<'_>| {
        for (index, value) in values.iter().enumerate() {
            if value.is_empty() {
                checks.missing(format_args!("{at}.{what}[{index}]"), "an empty text is not allowed here", "");
            }
        }
    };
    empty("audiences", &rule.audiences, checks);
    empty("fromParams", &rule.from_params, checks);
    empty("fromCookies", &rule.from_cookies, checks);
    empty("spaceDelimitedClaims", &rule.space_delimited_claims, checks);
    for (index, header) in rule.from_headers.iter().enumerate() {
        check_header(&format!("{at}.fromHeaders[{index}].name"), &header.name, checks);
    }
    if let Some(header) = rule.output_payload_to_header.as_ref().filter(|header| !header.is_empty()) {
        check_header(&format!("{at}.outputPayloadToHeader"), header, checks);
    }
    for (index, output) in rule.output_claim_to_headers.iter().enumerate() {
        let field = format!("{at}.outputClaimToHeaders[{index}]");
        check_header(&format!("{field}.header"), &output.header, checks);
        if output.claim.is_empty() {
            checks.missing(format_args!("{field}.claim"), "the name of a claim is required", "");
        }
    }
    if let Some(timeout) = rule.timeout {
        checks.check(format_args!("{at}.timeout"), names::duration(timeout));
    }
}

fn check_header(field: &str, name: &str, checks: &mut Checks<'_>) {
    if name.is_empty() {
        checks.missing(field, "the name of a header is required", "");
    } else if http::HeaderName::try_from(name).is_err() {
        checks.error(field, format!("`{name}` is not the name of a header"), "");
    }
}

fn check_uri(field: &str, uri: &str, checks: &mut Checks<'_>) {
    let valid = uri.parse::<http::Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    // A port that is no number is left in the host by the parser of URIs.
    let port = valid.as_ref().and_then(http::Uri::authority).is_none_or(|authority| {
        let rest = authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, rest)| rest);
        rest.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
    });
    if valid.is_none() || !port {
        let help = "for example `https://issuer.example/.well-known/jwks.json`";
        checks.error(field, format!("`{uri}` is not a URL with http:// or https://"), help);
    }
}

/// A JSON object with a list of keys; whether each key can be used is found out where it is used.
fn check_keys(field: &str, keys: &str, checks: &mut Checks<'_>) {
    let help = "a JSON Web Key Set (RFC 7517): `{\"keys\": [...]}`";
    match serde_json::from_str::<serde_json::Value>(keys) {
        Err(error) => checks.error(field, format!("it is not JSON: {error}"), help),
        Ok(value) if !value.get("keys").is_some_and(serde_json::Value::is_array) => {
            checks.error(field, "it has no list `keys`", help);
        }
        Ok(_) => {}
    }
}

pub(super) fn peer(policy: &PeerAuthentication, checks: &mut Checks<'_>) -> Result<(), Wrong> {
    checks.part(|checks| {
        if let Some(selector) = &policy.selector {
            policy_target::selector(selector, checks);
        }
        if !policy.is_for_some() && !policy.port_level_mtls.is_empty() {
            let help = "ports are those of workloads; select these by labels";
            checks.error("spec.portLevelMtls", "`portLevelMtls` needs a `selector` with labels", help);
        }
        for port in policy.port_level_mtls.keys() {
            let field = format!("spec.portLevelMtls.{port}");
            match port.parse() {
                Ok(port) => checks.check(field, names::port(port)),
                Err(_) => checks.error(field, format!("`{port}` is not a port"), "allowed: 1 to 65535"),
            }
        }
    })
}

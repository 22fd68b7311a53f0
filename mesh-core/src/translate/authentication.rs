//! RequestAuthentications: what their rules mean. A rule that cannot be understood refuses the tokens that it is for.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use crate::api::{JwtRule, RequestAuthentication};
use crate::model::{Authentication, ClaimHeader, KeySource, TokenLocation, TokenRule};
use crate::world::Entry;

/// How long keys may take to be fetched if the rule does not say it (Envoy's default for the keys of tokens).
const TIMEOUT: Duration = Duration::from_secs(5);

impl Context<'_> {
    #[allow(clippy::unused_self, reason = "as all other translations")]
    pub(super) fn authentication(&self, entry: &Entry<RequestAuthentication>) -> Authentication {
        let rule = |(rule, index): (&Option<JwtRule>, u32)| match rule {
            Some(rule) if !rule.issuer.is_empty() => token_rule(rule, index),
            _ => TokenRule::closed(index),
        };
        Authentication {
            key: format!("{}/{}", entry.reference.namespace, entry.reference.name).into(),
            rules: entry.spec.jwt_rules.iter().zip(0_u32..).map(rule).collect(),
            origin: entry.reference.clone(),
        }
    }
}

fn token_rule(rule: &JwtRule, index: u32) -> TokenRule {
    let given = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Arc::<str>::from);
    let issuer: Arc<str> = rule.issuer.as_str().into();
    let keys = match (given(&rule.jwks), given(&rule.jwks_uri)) {
        (Some(_), Some(_)) => KeySource::Nowhere,
        (Some(keys), None) => KeySource::Inline(keys),
        (None, Some(url)) => KeySource::Url(url),
        (None, None) => KeySource::Issuer(Arc::clone(&issuer)),
    };
    let claim_header = |output: &crate::api::ClaimToHeader| ClaimHeader {
        header: output.header.to_ascii_lowercase(),
        claim: output.claim.split('.').map(str::to_owned).collect(),
    };
    TokenRule {
        index,
        issuer,
        audiences: rule.audiences.clone(),
        keys,
        timeout: rule.timeout.map_or(TIMEOUT, |timeout| timeout.get()),
        locations: locations(rule),
        forward: rule.forward_original_token.unwrap_or_default(),
        payload_header: given(&rule.output_payload_to_header).map(|name| name.to_ascii_lowercase()),
        claim_headers: rule.output_claim_to_headers.iter().map(claim_header).collect(),
        space_delimited: rule.space_delimited_claims.clone(),
    }
}

/// One that is named switches the usual ones off.
fn locations(rule: &JwtRule) -> Vec<TokenLocation> {
    let headers = rule.from_headers.iter().map(|header| TokenLocation::Header {
        name: header.name.to_ascii_lowercase(),
        prefix: header.prefix.clone().unwrap_or_default(),
    });
    let parameters = rule.from_params.iter().map(|name| TokenLocation::Parameter(name.clone()));
    let cookies = rule.from_cookies.iter().map(|name| TokenLocation::Cookie(name.clone()));
    let named: Vec<TokenLocation> = headers.chain(parameters).chain(cookies).collect();
    if named.is_empty() { TokenLocation::usual() } else { named }
}

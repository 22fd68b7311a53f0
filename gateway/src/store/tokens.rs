//! Which tokens are believed: the rules of a generation, with the cells of their keys.

use std::sync::Arc;

use http::HeaderName;
use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::{KeySource, ResourceSet, TokenLocation, TokenRule};

use crate::live::{LiveTokenRule, TokenPlace, TokenRules};
use crate::upstream::KeyStore;

/// The rules of a set.
pub(super) fn rules(set: &ResourceSet, keys: &mut KeyStore) -> TokenRules {
    let mut rules = TokenRules::default();
    for policy in set.authentication.values() {
        for rule in &policy.rules {
            let index = rules.rules.len();
            for location in &rule.locations {
                let Some(place) = place(location) else { continue };
                match rules.places.iter_mut().find(|(known, _)| *known == place) {
                    Some((_, readers)) => readers.push(index),
                    None => rules.places.push((place, vec![index])),
                }
            }
            rules.rules.push(live(rule, keys));
        }
    }
    rules
}

fn live(rule: &TokenRule, keys: &mut KeyStore) -> LiveTokenRule {
    let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
    LiveTokenRule {
        keys: keys.cell(&rule.keys, rule.timeout),
        payload_header: rule.payload_header.as_deref().and_then(header),
        claim_headers: rule
            .claim_headers
            .iter()
            .filter_map(|output| Some((header(&output.header)?, output.claim.clone())))
            .collect(),
        model: Arc::new(rule.clone()),
    }
}

fn place(location: &TokenLocation) -> Option<TokenPlace> {
    Some(match location {
        TokenLocation::Header { name, prefix } => {
            TokenPlace::Header(HeaderName::from_bytes(name.as_bytes()).ok()?, prefix.clone())
        }
        TokenLocation::Parameter(name) => TokenPlace::Parameter(name.clone()),
        TokenLocation::Cookie(name) => TokenPlace::Cookie(name.clone()),
    })
}

/// Rules whose keys are not there, or cannot be fetched anew.
pub(super) fn diagnostics(set: &ResourceSet, keys: &KeyStore) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for policy in set.authentication.values() {
        for rule in &policy.rules {
            let Some(why) = keys.trouble(&rule.keys) else { continue };
            let (field, what) = match &rule.keys {
                KeySource::Inline(_) => ("jwks", "cannot be used"),
                KeySource::Url(_) => ("jwksUri", "cannot be fetched"),
                KeySource::Issuer(_) | KeySource::Nowhere => ("issuer", "cannot be fetched"),
            };
            let message = format!("the keys of the issuer `{}` {what}: {why}", rule.issuer);
            let field = format!("spec.jwtRules[{}].{field}", rule.index);
            let diagnostic = Diagnostic::new(diag::TOKEN_KEYS, message).object(&policy.origin).field(field);
            found.push(
                diagnostic
                    .help("without keys no token of the issuer is good; those that were fetched before stay in force"),
            );
        }
    }
    found
}

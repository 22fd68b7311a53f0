//! Policies: who may do what, and which tokens are believed. All of them are for the whole proxy: what concerns some of its ports
//! says so in a condition.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ExternalAuthorizer, Key, is_default};
pub use crate::attribute::{Attribute, ValueMatch};
use crate::object::ObjectRef;

/// Who may do what. What could not be understood of the user's object is in here as what denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// `namespace/name`
    pub key: Key,
    pub action: PolicyAction,
    /// It is tried out: what it would do is told and not done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dry_run: bool,
    /// Any of them; none at all: nothing matches.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: Vec<PolicyRule>,
    pub origin: ObjectRef,
}

/// What becomes of a request that a policy matches. Custom policies are asked first, then those that deny, then, if there are any,
/// one of those that allow must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyAction {
    Custom {
        /// Name of an extension provider.
        provider: Arc<str>,
        /// None: nobody has this name, and what the policy matches is denied.
        #[serde(default, skip_serializing_if = "is_default")]
        authorizer: Option<Arc<ExternalAuthorizer>>,
    },
    Deny,
    Allow,
    /// It is told.
    Audit,
}

/// One of each list must hold (an empty list holds), and all of `when`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// Index in `spec.rules`.
    pub index: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub from: Vec<Vec<Clause>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub to: Vec<Vec<Clause>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub when: Vec<Clause>,
}

/// A condition: the attribute has one of the values, or, negated, none of them. What has no value has none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    pub attribute: Attribute,
    pub values: Vec<ValueMatch>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub negated: bool,
}

impl Authorization {
    /// In the place of one that is not understood: it denies everything. `key`: `namespace/name`.
    pub fn closed(key: &str) -> Authorization {
        Authorization {
            key: key.into(),
            action: PolicyAction::Deny,
            dry_run: false,
            rules: vec![PolicyRule { index: 0, from: Vec::new(), to: Vec::new(), when: Vec::new() }],
            origin: origin("AuthorizationPolicy", key),
        }
    }
}

fn origin(kind: &str, key: &str) -> ObjectRef {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    ObjectRef::new(kind, namespace, name)
}

impl Clause {
    /// It never holds.
    pub fn never() -> Clause {
        Clause { attribute: Attribute::Method, values: Vec::new(), negated: false }
    }
}

/// Which tokens (JWT) are believed. A token that is not is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    /// `namespace/name`
    pub key: Key,
    pub rules: Vec<TokenRule>,
    pub origin: ObjectRef,
}

impl Authentication {
    /// In the place of one that is not understood: no token is good. `key`: `namespace/name`.
    pub fn closed(key: &str) -> Authentication {
        Authentication {
            key: key.into(),
            rules: vec![TokenRule::closed(0)],
            origin: origin("RequestAuthentication", key),
        }
    }
}

/// Tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRule {
    /// Index in `spec.jwtRules`.
    pub index: u32,
    /// Claim `iss`.
    pub issuer: Arc<str>,
    /// One of them must be in the claim `aud`; empty: any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub audiences: Vec<String>,
    pub keys: KeySource,
    /// How long the keys may take to be fetched, and a request to wait for them.
    pub timeout: Duration,
    pub locations: Vec<TokenLocation>,
    /// The token stays in the request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forward: bool,
    /// Header (lower case) for the payload, base64url.
    #[serde(default, skip_serializing_if = "is_default")]
    pub payload_header: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub claim_headers: Vec<ClaimHeader>,
    /// Claims whose text is a list, separated by blanks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub space_delimited: Vec<String>,
}

impl TokenRule {
    /// In the place of one that is not understood: tokens are looked at where they usually are, and none is good.
    pub fn closed(index: u32) -> TokenRule {
        TokenRule {
            index,
            issuer: "".into(),
            audiences: Vec::new(),
            keys: KeySource::Nowhere,
            timeout: Duration::ZERO,
            locations: TokenLocation::usual(),
            forward: false,
            payload_header: None,
            claim_headers: Vec::new(),
            space_delimited: Vec::new(),
        }
    }
}

impl TokenLocation {
    /// Where tokens are if a rule does not say it.
    pub fn usual() -> Vec<TokenLocation> {
        let header = TokenLocation::Header { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() };
        vec![header, TokenLocation::Parameter("access_token".to_owned())]
    }
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeySource {
    /// A JSON Web Key Set (RFC 7517).
    Inline(Arc<str>),
    /// URL of one.
    Url(Arc<str>),
    /// Issuer whose OpenID configuration says where it is.
    Issuer(Arc<str>),
    /// Nowhere: no token is good.
    Nowhere,
}

/// Where in a request a token may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TokenLocation {
    /// Lower case name, and what stands before the token.
    Header {
        name: String,
        prefix: String,
    },
    /// Of the query.
    Parameter(String),
    Cookie(String),
}

/// A header (lower case) that gets the value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimHeader {
    pub header: String,
    /// The names of the claims that it is in, and its own.
    pub claim: Vec<String>,
}

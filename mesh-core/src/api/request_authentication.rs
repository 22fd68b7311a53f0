//! `RequestAuthentication` (security.istio.io): which tokens (JWT) requests may carry, and what of them is told on.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::schema;
use super::{Duration, MatchLabels, TargetReference, scope};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::rules(schema::ONE_TARGET))))]
pub struct RequestAuthentication {
    /// Workloads that the policy is for; absent: all of the namespace, or of the mesh in the root namespace.
    pub selector: Option<MatchLabels>,
    /// Deprecated: one of `targetRefs`.
    pub target_ref: Option<TargetReference>,
    /// What the policy is attached to.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub target_refs: Vec<TargetReference>,
    /// Tokens that are accepted. A token of an issuer that no rule names is refused.
    /// The place of a rule that could not be read is kept (none): its tokens must not pass as if no rule were there.
    #[serde(default, deserialize_with = "scope::places")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<JwtRule>", length(max = 4096)))]
    pub jwt_rules: Vec<Option<JwtRule>>,
}

/// `JWTRule`: tokens of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(transform = schema::legacy_jwks_uri))]
pub struct JwtRule {
    /// Who issued the token: its claim `iss`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required, length(min = 1)))]
    pub issuer: String,
    /// For whom it must be; empty: for anybody.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub audiences: Vec<String>,
    /// Where the issuer's keys are. Without this and `jwks`: where the issuer's OpenID configuration says.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = schema::rules(schema::HTTP_URL))))]
    pub jwks_uri: Option<String>,
    /// The issuer's keys, a JSON Web Key Set.
    pub jwks: Option<String>,
    /// Headers that carry the token; if no location is given, `Authorization: Bearer` and the parameter `access_token`.
    #[serde(default)]
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that carry the token.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub from_params: Vec<String>,
    /// Cookies that carry the token.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(inner(length(min = 1))))]
    pub from_cookies: Vec<String>,
    /// Header for the payload of a good token, base64url.
    pub output_payload_to_header: Option<String>,
    /// Headers for claims of a good token.
    #[serde(default)]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Leave the token in the request; absent: it is taken out.
    pub forward_original_token: Option<bool>,
    /// How long the keys may take to be fetched.
    pub timeout: Option<Duration>,
    /// Has no effect with Istio: an AuthorizationPolicy asks for tokens.
    pub presence: Option<JwtPresence>,
    /// Claims whose text is a list, separated by blanks, beside `scope` and `permission`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 64), inner(length(min = 1))))]
    pub space_delimited_claims: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct JwtHeader {
    /// Name of the header.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required, length(min = 1)))]
    pub name: String,
    /// What stands before the token, such as `Bearer `.
    pub prefix: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Name of the header.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required, length(min = 1), regex(pattern = "^[-_A-Za-z0-9]+$")))]
    pub header: String,
    /// Name of the claim; `a.b` is claim `b` of claim `a`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(required, length(min = 1)))]
    pub claim: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JwtPresence {
    #[default]
    Optional,
    Required,
}

impl RequestAuthentication {
    /// `targetRef` and `targetRefs`.
    pub fn targets(&self) -> impl Iterator<Item = &TargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

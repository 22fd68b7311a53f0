//! Identity by Kubernetes: TokenReview of a service account's token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Client;
use kube::api::{Api, PostParams};
use serde::Deserialize;

use super::{Authenticate, Authenticated, Identity, Unauthenticated};

/// Audience of the tokens, as Istio's pods have it.
pub const AUDIENCE: &str = "istio-ca";
/// How long an answer counts: a proxy that comes back soon costs no question. A deleted pod is known from its watch sooner.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Longest that a question takes.
const REVIEW: Duration = Duration::from_secs(10);
/// Most answers that are kept.
const KEPT: usize = 4096;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks the API server.
pub struct TokenReviewer {
    api: Api<TokenReview>,
    /// By token.
    answers: Mutex<HashMap<String, (Authenticated, Instant)>>,
}

impl TokenReviewer {
    #[must_use]
    pub fn new(client: Client) -> TokenReviewer {
        TokenReviewer { api: Api::all(client), answers: Mutex::default() }
    }

    fn remembered(&self, token: &str) -> Option<Authenticated> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (answer, _) = answers.get(token).filter(|(_, at)| at.elapsed() < REMEMBERED)?;
        answer.expires.is_none_or(|expires| SystemTime::now() < expires).then(|| answer.clone())
    }

    fn remember(&self, token: &str, answer: &Authenticated) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (_, at)| at.elapsed() < REMEMBERED);
        if answers.len() < KEPT {
            answers.insert(token.to_owned(), (answer.clone(), Instant::now()));
        }
    }
}

#[async_trait]
impl Authenticate for TokenReviewer {
    async fn authenticate(&self, token: &str) -> Result<Authenticated, Unauthenticated> {
        if let Some(answer) = self.remembered(token) {
            return Ok(answer);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) },
            ..TokenReview::default()
        };
        let unavailable = |error: &dyn std::fmt::Display| Unauthenticated::Unavailable(error.to_string());
        let params = PostParams::default();
        let answer = tokio::time::timeout(REVIEW, self.api.create(&params, &review)).await;
        let answer = answer.map_err(|_| unavailable(&"the API server does not answer"))?;
        let status = answer.map_err(|error| unavailable(&error))?.status.unwrap_or_default();
        let answer = Authenticated { identity: identity(&status)?, expires: expires(token) };
        self.remember(token, &answer);
        Ok(answer)
    }
}

/// What a token says of its own end (RFC 7519, section 4.1.4), for TokenReview does not tell. To be believed only once the API server has
/// found the token good.
fn expires(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = token.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(claims.exp).ok()?)
}

fn identity(status: &TokenReviewStatus) -> Result<Identity, Unauthenticated> {
    let refused = |why: &str| Unauthenticated::Refused(status.error.clone().unwrap_or_else(|| why.to_owned()));
    if status.authenticated != Some(true) {
        return Err(refused("not authenticated"));
    }
    // An API server that does not know audiences leaves them out: then the token's is not ours to trust.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(refused("its audience is not istio-ca"));
    }
    let user = status.user.clone().unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let (namespace, service_account) = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .ok_or_else(|| refused("it is not a service account's"))?;
    let extra = user.extra.unwrap_or_default();
    let first = |name: &str| extra.get(name).and_then(|values| values.first()).cloned().ok_or(Unauthenticated::NoPod);
    Ok(Identity {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod: first(POD_NAME)?,
        uid: first(POD_UID)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status(user: &str, audience: Option<&str>, pod: Option<&str>) -> TokenReviewStatus {
        let extra = pod.map(|pod| {
            BTreeMap::from(
                [(POD_NAME, pod), (POD_UID, "u")].map(|(name, value)| (name.to_owned(), vec![value.to_owned()])),
            )
        });
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: audience.map(|audience| vec![audience.to_owned()]),
            user: Some(UserInfo { username: Some(user.to_owned()), extra, ..UserInfo::default() }),
            ..TokenReviewStatus::default()
        }
    }

    #[test]
    fn a_pods_token_says_who_it_is() {
        let found = identity(&status("system:serviceaccount:ns:sa", Some(AUDIENCE), Some("p"))).unwrap();
        let expected = Identity {
            namespace: "ns".to_owned(),
            service_account: "sa".to_owned(),
            pod: "p".to_owned(),
            uid: "u".to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn others_are_refused() {
        let refused = |status: &TokenReviewStatus| identity(status).unwrap_err().to_string();
        let good = "system:serviceaccount:ns:sa";
        assert!(refused(&status(good, None, Some("p"))).contains("audience"));
        assert!(refused(&status(good, Some("other"), Some("p"))).contains("audience"));
        assert!(refused(&status("admin", Some(AUDIENCE), Some("p"))).contains("service account"));
        assert!(refused(&status(good, Some(AUDIENCE), None)).contains("no pod"));
        let mut not = status(good, Some(AUDIENCE), Some("p"));
        not.authenticated = Some(false);
        assert!(refused(&not).contains("not authenticated"));
    }

    #[test]
    fn a_token_says_when_it_ends() {
        let token = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        let at = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        assert_eq!(expires(&token(r#"{"aud":["istio-ca"],"exp":1800000000,"iat":1}"#)), at(1_800_000_000));
        // JSON has one kind of numbers.
        assert_eq!(expires(&token(r#"{"exp":1.8e9}"#)), at(1_800_000_000));
        for without in [token(r#"{"iat":1}"#), token(r#"{"exp":-5}"#), token("{"), "opaque".to_owned(), String::new()] {
            assert_eq!(expires(&without), None, "{without}");
        }
    }
}

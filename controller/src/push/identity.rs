//! Who a proxy is. What it claims of itself counts for nothing.

use std::time::SystemTime;

use async_trait::async_trait;

/// Authenticated: a pod, and the service account that it runs as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub namespace: String,
    pub service_account: String,
    /// Name of the pod.
    pub pod: String,
    /// Of the pod: one that comes later under the same name is another one.
    pub uid: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    pub identity: Identity,
    /// Until when; none: the token does not say.
    pub expires: Option<SystemTime>,
}

/// Why a proxy is turned away; it is told so.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    #[error("no token: metadata `authorization: Bearer …` is missing")]
    NoToken,
    #[error("the token is refused: {0}")]
    Refused(String),
    #[error("the token belongs to no pod: it must be a projected one of a pod's service account")]
    NoPod,
    /// Not the proxy's fault: it may try again.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}

/// Checks tokens.
#[async_trait]
pub trait Authenticate: Send + Sync + 'static {
    async fn authenticate(&self, token: &str) -> Result<Authenticated, Unauthenticated>;
}

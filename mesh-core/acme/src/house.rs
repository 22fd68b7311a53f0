//! What orders need of those for whom they are made.

use std::future::Future;
use std::sync::Arc;

use mesh_core::acme::{Authority, Failure, KeptFailure};
use mesh_core::certificate::Certificate;
use mesh_core::model::Proof;

use crate::ca::Issued;

/// Of one order, by which it is known where things are kept.
#[derive(Clone, Debug)]
pub struct Name {
    /// Key in [`mesh_core::acme::Wants::names`].
    pub key: Arc<str>,
    /// The host that the certificate is for.
    pub host: Arc<str>,
    pub authority: Authority,
}

/// What is kept of an order.
#[derive(Debug, Default)]
pub struct Kept {
    /// If it is of any use still.
    pub certificate: Option<Arc<Certificate>>,
    /// Of the last attempt, if that came to nothing.
    pub failure: Option<KeptFailure>,
}

/// Where what comes of orders is kept, and who shows a CA that a name is served.
pub trait House: Send + Sync + 'static {
    /// Takes the challenge back when it is dropped, unless that comes with the end of the order.
    type Shown: Send;

    /// The account at the CA; none: none was ever kept. The error is why that cannot be known.
    fn account(&self) -> impl Future<Output = Result<Option<Vec<u8>>, String>> + Send;
    fn keep_account(&self, account: Vec<u8>) -> impl Future<Output = Result<(), String>> + Send;
    /// Returns when the CA may look.
    fn show(&self, name: &Name, proof: Proof) -> impl Future<Output = Result<Self::Shown, Failure>> + Send;
    fn kept(&self, name: &Name) -> impl Future<Output = Kept> + Send;
    /// Whether the certificate will find its place: a CA is not asked for what cannot be kept.
    fn prepare(&self, name: &Name) -> impl Future<Output = Result<(), Failure>> + Send;
    /// The error is for one that serves all the same, though nobody will have it afterwards.
    fn keep(&self, name: &Name, issued: &Issued) -> impl Future<Output = Result<Option<String>, Failure>> + Send;
    /// None takes it back. It is the end of an attempt.
    fn keep_failure(
        &self,
        name: &Name,
        failure: Option<KeptFailure>,
    ) -> impl Future<Output = Result<(), String>> + Send;
    /// For a name that no CA elsewhere can vouch for.
    fn sign(&self, name: &Name) -> impl Future<Output = Result<Issued, Failure>> + Send;
    /// True: nobody else orders until it is given back. The error is why that cannot be known.
    fn lock(&self) -> impl Future<Output = Result<bool, String>> + Send;
    fn unlock(&self);
}

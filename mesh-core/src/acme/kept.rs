//! What is kept in a secret of the cluster, beside the certificate: whose it is, how its order stands.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Failure, Order, Trouble};

/// Label (`true`) of secrets that the controller writes, and may write again: others are never touched.
pub const OURS: &str = crate::api::ACME;
/// Annotation of such a secret, while an order waits for a CA to look: the [`Proof`](crate::model::Proof) as JSON.
pub const CHALLENGE: &str = "meshgate.io/acme-challenge";
/// Annotation, after orders that came to nothing: [`KeptFailure`] as JSON.
pub const FAILURE: &str = "meshgate.io/acme-failure";
/// Annotation: the host that the certificate is for.
pub const HOST: &str = "meshgate.io/acme-host";

/// Why there is none of late. Kept, so that who is begun again and again does not ask again and again.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct KeptFailure {
    pub failures: u32,
    /// Seconds since 1970.
    again: u64,
    trouble: Trouble,
    message: String,
}

impl KeptFailure {
    /// None: nothing that another process should know.
    #[must_use]
    pub fn of(order: &Order) -> Option<KeptFailure> {
        let (failure, again) = (order.failure.as_ref()?, order.again?);
        let again = again.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let (failures, trouble) = (order.failures, failure.trouble);
        (failures > 0).then(|| KeptFailure { failures, again, trouble, message: failure.message.clone() })
    }

    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure::new(self.trouble, self.message.clone())
    }

    #[must_use]
    pub fn again(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.again)
    }
}

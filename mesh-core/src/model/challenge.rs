//! What a CA is to be shown that wants to see that a name is served here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::object::ObjectRef;

/// For one name, while an order waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// `namespace/name` of the secret in which the certificate will be.
    pub key: Key,
    /// In lower case.
    pub host: Arc<str>,
    pub proof: Proof,
    pub origin: ObjectRef,
}

/// Nothing in it is secret: whoever asks is shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// A file over HTTP (RFC 8555 section 8.3): the token in its path, and the key authorization.
    File { token: String, text: String },
    /// A handshake (RFC 8737 section 3): the SHA-256 of the key authorization, 32 bytes. Each proxy makes a certificate around it, with a
    /// key of its own.
    Handshake { digest: Vec<u8> },
}

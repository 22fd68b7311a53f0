//! How configuration travels: the messages of Envoy's incremental discovery service with resource types of our own, and
//! both ends of it as state machines. It decides what is sent, what counts as acknowledged and what is refused; it must
//! not know sockets, tasks or clocks.
//!
//! One `Config` response is one transaction; a large one comes in parts, of which nothing is served before the last is there. It is made of
//! small resources, so that one changed route does not send a table again; `Endpoints` and `Secret` are types of their own, subscribed to
//! by name.

mod certificate;
mod client;
mod codec;
pub mod proto;
mod publication;
mod quota;
mod request;
mod server;

pub use certificate::{CREATE_CERTIFICATE, CertificateRequest, CertificateResponse};
pub use client::{Applied, Change, Client, ClientState};
pub use codec::{Config, DecodeError, decode, version_of};
pub use publication::{Encoded, Publication, Published, Table};
pub use quota::{
    Book, COME_AGAIN, Held, Holder, LEND, LENDER, LENT_FOR, Ledger, LimitGrant, LimitReport, MAX_QUOTA_MESSAGE,
    QuotaGrant, QuotaReport, Standing,
};
pub use server::{Event, ServerStream, Sync};

use serde::{Deserialize, Serialize};

/// The gRPC method, a bidirectional stream.
pub const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Largest response that a proxy accepts, in bytes. What is to be sent comes in parts of [`PART`], unless one resource is larger, or the
/// controller is of a version that knows no parts.
pub const MAX_MESSAGE: usize = 256 * 1024 * 1024;

/// `client_features` of a proxy that takes a transaction in parts. Others are sent it whole: they would serve each part for itself.
pub const IN_PARTS: &str = "meshgate.transactions_in_parts";

/// A response is ended when it is as large as this, in bytes, and the next one goes on. A proxy needs memory for one at a time, and keeps it.
pub const PART: usize = 256 * 1024;

/// Largest request that a controller accepts, in bytes. The first one of a stream names the configuration that the proxy has, with versions:
/// with names of a usual length that is enough for 100,000 resources; who has more leaves the versions out. What is subscribed to by name
/// is spread over as many requests as it takes.
pub const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// Before a name that a proxy asks for ([`crate::model::asked_name`]): it subscribes to this in the kind `Config`, as if it were a resource. The
/// answer is a configuration that has the name among those answered.
const ASKED: &str = "asked/";

/// Most names that one proxy asks for at a time.
pub const MAX_ASKED: usize = 4096;

/// Metadata of the controller's answer to a stream: where the proxy is, as its pod and node say. It is no part of the configuration, which
/// is the same for proxies in all places.
pub const LOCALITY: &str = "meshgate-locality";
/// The same of its node.
pub const NODE: &str = "meshgate-node";

/// `code` of a refusal in `error_detail`: gRPC's INVALID_ARGUMENT.
pub const REFUSED: i32 = 3;

/// Longest reason for a refusal that is kept, in bytes.
const LONGEST_REASON: usize = 512;

fn clip(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(LONGEST_REASON)).unwrap_or_default()
}

/// What a resource is about; each is subscribed to and acknowledged for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Listeners, routes, destinations, settings; always all of them.
    Config,
    /// By key of the destination.
    Endpoints,
    /// By `namespace/name`.
    Secret,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Config, Kind::Endpoints, Kind::Secret];

    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Config => "type.googleapis.com/meshgate.v1.Config",
            Kind::Endpoints => "type.googleapis.com/meshgate.v1.Endpoints",
            Kind::Secret => "type.googleapis.com/meshgate.v1.Secret",
        }
    }

    pub fn from_type_url(url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// As pages and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Endpoints => "endpoints",
            Kind::Secret => "secret",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What a proxy must never do. The stream is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("nonce `{given}` was never sent")]
    UnknownNonce { given: String },
    #[error("{0} names subscribed to; the limit is {1}")]
    TooManyNames(usize, usize),
}

#[cfg(test)]
mod asked_tests;
#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

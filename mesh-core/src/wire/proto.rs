//! Messages of `envoy.service.discovery.v3` and what they are made of, with Envoy's field numbers, so that tools that know
//! the protocol can read the stream. Fields that we never send are left out; protobuf skips them.

use std::collections::{BTreeMap, HashMap};

use prost::bytes::Bytes;

/// `DeltaDiscoveryRequest`: subscribes, acknowledges (`response_nonce`), or refuses (and `error_detail`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    #[prost(string, tag = "2")]
    pub type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What the client has already: name to version. Only in the first request of a type on a stream.
    #[prost(map = "string, string", tag = "5")]
    pub initial_resource_versions: HashMap<String, String>,
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `DeltaDiscoveryResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// Generation of the publication.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Empty in all parts of a transaction but the last, which is what is acknowledged.
    #[prost(string, tag = "5")]
    pub nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// Ours: the transaction goes on in the next response of this type.
    #[prost(bool, tag = "100")]
    pub continues: bool,
}

/// `Resource`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `envoy.config.core.v3.Node`: what the proxy says of itself. Only for display: who it is, its credentials say.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub cluster: String,
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
    /// What it can do, [`IN_PARTS`](super::IN_PARTS).
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// Ours, in the `details` of a refusal: the resources that are not in force, and why. The message is for people, and names a few.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refusal {
    /// Name to reason; without one where all of them would be too much.
    #[prost(btree_map = "string, string", tag = "1")]
    pub resources: BTreeMap<String, String>,
}

impl Refusal {
    pub const TYPE_URL: &str = "type.googleapis.com/meshgate.v1.Refusal";
}

//! What users write: one type per kind, with the names of Istio's API, and `parse`, which reads files of them.
//!
//! Decides: syntax, types, and what is wrong with one object alone. Must not know: other objects, proxies, meaning.

mod authorization_policy;
mod bytes;
mod decode;
mod destination_rule;
mod duration;
mod extension_provider;
mod gateway;
mod grpc_status;
mod kinds;
pub mod kube;
mod label_selector;
mod mesh_config;
mod meta;
mod not_built;
mod object;
mod parse;
mod peer_authentication;
mod policy_target;
mod positions;
mod protocol;
mod rate_limit;
mod request_authentication;
#[cfg(feature = "schema")]
mod schema;
mod scope;
mod service_entry;
mod sidecar;
mod string_match;
pub mod tls_names;
mod validate;
mod virtual_service;
mod workload_entry;
mod yaml;

#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod parse_proptests;

pub use authorization_policy::*;
pub use bytes::Bytes;
pub use destination_rule::*;
pub use duration::Duration;
pub use extension_provider::*;
pub use gateway::*;
pub use grpc_status::grpc_status;
pub use kinds::{UNREAD, UnreadKind, is_cluster_scoped};
pub use label_selector::*;
pub use mesh_config::*;
pub use meta::{ACME, Meta, TRAFFIC_DISTRIBUTION};
pub use object::{ApiObject, Spec};
pub use parse::{Parsed, parse};
pub use peer_authentication::*;
pub use policy_target::TargetReference;
pub use positions::Positions;
pub use protocol::Protocol;
pub use rate_limit::*;
pub use request_authentication::*;
pub use service_entry::*;
pub use sidecar::*;
pub use string_match::StringMatch;
pub use virtual_service::*;
pub use workload_entry::WorkloadEntry;

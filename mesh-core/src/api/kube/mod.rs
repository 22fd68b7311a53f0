//! Kubernetes objects, only the fields that routing needs. Other fields are ignored without a word.

mod config_map;
mod endpoint_slice;
mod namespace;
mod node;
mod pod;
mod secret;
mod service;

pub use config_map::ConfigMap;
pub use endpoint_slice::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice, ObjectReference};
pub use namespace::Namespace;
pub use node::Node;
pub(super) use node::NodeObject;
pub(super) use pod::PodObject;
pub use pod::{ContainerPort, Pod};
pub use secret::Secret;
pub(super) use secret::SecretObject;
pub use service::{IntOrString, Service, ServicePort};

//! One object of a user, with the places where its fields were written.

use crate::object::{ObjectRef, Position};

use super::kube::{ConfigMap, EndpointSlice, Namespace, Node, Pod, Secret, Service};
use super::{
    AuthorizationPolicy, DestinationRule, Gateway, Meta, PeerAuthentication, Positions, RateLimit,
    RequestAuthentication, ServiceEntry, Sidecar, VirtualService, WorkloadEntry,
};

#[derive(Clone, Debug, PartialEq)]
pub struct ApiObject {
    pub meta: Meta,
    pub spec: Spec,
    pub positions: Positions,
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "an object is in this form only until the world sorts it by kind")]
pub enum Spec {
    Gateway(Gateway),
    VirtualService(VirtualService),
    DestinationRule(DestinationRule),
    ServiceEntry(ServiceEntry),
    WorkloadEntry(WorkloadEntry),
    Sidecar(Sidecar),
    AuthorizationPolicy(AuthorizationPolicy),
    RequestAuthentication(RequestAuthentication),
    PeerAuthentication(PeerAuthentication),
    RateLimit(RateLimit),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Secret(Secret),
    Pod(Pod),
    ConfigMap(ConfigMap),
    Node(Node),
    Namespace(Namespace),
}

impl Spec {
    /// `VirtualService`
    pub fn kind(&self) -> &'static str {
        match self {
            Spec::Gateway(_) => "Gateway",
            Spec::VirtualService(_) => "VirtualService",
            Spec::DestinationRule(_) => "DestinationRule",
            Spec::ServiceEntry(_) => "ServiceEntry",
            Spec::WorkloadEntry(_) => "WorkloadEntry",
            Spec::Sidecar(_) => "Sidecar",
            Spec::AuthorizationPolicy(_) => "AuthorizationPolicy",
            Spec::RequestAuthentication(_) => "RequestAuthentication",
            Spec::PeerAuthentication(_) => "PeerAuthentication",
            Spec::RateLimit(_) => "RateLimit",
            Spec::Service(_) => "Service",
            Spec::EndpointSlice(_) => "EndpointSlice",
            Spec::Secret(_) => "Secret",
            Spec::Pod(_) => "Pod",
            Spec::ConfigMap(_) => "ConfigMap",
            Spec::Node(_) => "Node",
            Spec::Namespace(_) => "Namespace",
        }
    }
}

impl ApiObject {
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(self.spec.kind(), &self.meta.namespace, &self.meta.name)
    }

    /// Place of a field such as `spec.http[0].match[1].uri.regex`, or of the nearest field around it that was written.
    /// None: the object does not come from a file.
    pub fn position(&self, field: &str) -> Option<Position> {
        self.positions.get(field)
    }
}

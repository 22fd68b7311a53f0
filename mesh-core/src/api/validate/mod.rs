//! What one object alone can be wrong about beyond its types: what Istio's webhook refuses (`pkg/config/validation`) and
//! the CRDs' rules. Decides: what is dropped, in the smallest scope. Must not know: other objects.

mod authentication;
mod authorization;
mod destination_rule;
mod gateway;
mod header;
mod http_route;
mod load_balancer;
mod names;
mod policy_target;
mod rate_limit;
mod service_entry;
mod sidecar;
mod tls_options;
mod traffic_policy;
mod virtual_service;
mod visibility;
mod workload_entry;

use std::fmt::Display;

use crate::diag::{self, Diagnostic, Severity};
use crate::object::ObjectRef;

use super::{ApiObject, Positions, Spec};

/// Checks an object and takes wrong parts out of it. False: nothing is left that means anything.
pub(super) fn object(object: &mut ApiObject, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let mut checks = Checks {
        object: object.object_ref(),
        positions: object.positions.clone(),
        namespace: object.meta.namespace.clone(),
        diagnostics,
        errors: 0,
    };
    let errors = match &mut object.spec {
        Spec::Gateway(gateway) => gateway::check(gateway, &object.meta, &mut checks),
        Spec::VirtualService(service) => virtual_service::check(service, &mut checks),
        Spec::DestinationRule(rule) => destination_rule::check(rule, &mut checks),
        Spec::ServiceEntry(entry) => service_entry::check(entry, &object.meta, &mut checks),
        Spec::WorkloadEntry(entry) => workload_entry::check_object(entry, &mut checks),
        Spec::Sidecar(sidecar) => sidecar::check(sidecar, &mut checks),
        Spec::AuthorizationPolicy(policy) => authorization::check(policy, &object.meta, &mut checks),
        Spec::RequestAuthentication(policy) => authentication::request(policy, &mut checks),
        Spec::PeerAuthentication(policy) => authentication::peer(policy, &mut checks),
        Spec::RateLimit(policy) => rate_limit::check(policy, &mut checks),
        Spec::Service(_)
        | Spec::EndpointSlice(_)
        | Spec::Secret(_)
        | Spec::Pod(_)
        | Spec::ConfigMap(_)
        | Spec::Node(_)
        | Spec::Namespace(_) => Ok(()),
    };
    errors.is_ok()
}

/// What is wrong with the mesh's own setting; `at` is its field.
pub(super) fn mesh_locality(at: &str, setting: &super::LocalityLbSetting) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut checks = Checks {
        object: ObjectRef::new("ConfigMap", "", ""),
        positions: Positions::default(),
        namespace: String::new(),
        diagnostics: &mut diagnostics,
        errors: 0,
    };
    // Destinations have outlier detection, or have not.
    load_balancer::locality(at, setting, true, &mut checks);
    diagnostics
}

/// The part around must be dropped. What is wrong was reported.
struct Wrong;

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    message: String,
    help: Option<String>,
}

impl Problem {
    fn new(message: impl Into<String>, help: &str) -> Self {
        Self { message: message.into(), help: (!help.is_empty()).then(|| help.to_owned()) }
    }
}

/// Collects what is wrong with one object.
struct Checks<'a> {
    object: ObjectRef,
    positions: Positions,
    namespace: String,
    diagnostics: &'a mut Vec<Diagnostic>,
    errors: usize,
}

impl Checks<'_> {
    /// Runs the checks of a part; wrong if any of them found an error.
    fn part(&mut self, checks: impl FnOnce(&mut Self)) -> Result<(), Wrong> {
        let before = self.errors;
        checks(self);
        if self.errors == before { Ok(()) } else { Err(Wrong) }
    }

    /// The path is only written out if something is wrong.
    fn check(&mut self, field: impl Display, result: Result<(), Problem>) {
        if let Err(problem) = result {
            self.error(field, problem.message, problem.help.as_deref().unwrap_or_default());
        }
    }

    fn error(&mut self, field: impl Display, message: impl Into<String>, help: &str) {
        self.errors += 1;
        self.push(diag::FIELD_INVALID, &field, message.into(), help);
    }

    fn missing(&mut self, field: impl Display, message: impl Into<String>, help: &str) {
        self.errors += 1;
        self.push(diag::FIELD_MISSING, &field, message.into(), help);
    }

    /// What it asks for is not there yet, and nothing else will do.
    fn not_built(&mut self, field: impl Display, message: impl Into<String>, help: &str) {
        self.errors += 1;
        self.push(diag::FIELD_NOT_BUILT, &field, message.into(), help);
        if let Some(diagnostic) = self.diagnostics.last_mut() {
            diagnostic.severity = Severity::Error;
        }
    }

    fn doubt(&mut self, field: impl Display, message: impl Into<String>, help: &str) {
        self.push(diag::FIELD_DOUBTFUL, &field, message.into(), help);
    }

    fn push(&mut self, code: diag::Code, field: &dyn Display, message: String, help: &str) {
        let field = field.to_string();
        let mut diagnostic = Diagnostic::new(code, message).object(&self.object).at(self.positions.get(&field));
        diagnostic.field = field;
        diagnostic.help = (!help.is_empty()).then(|| help.to_owned());
        self.diagnostics.push(diagnostic);
    }
}

/// The API does not tell an empty text from an absent one.
fn is_set(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod objects_tests;

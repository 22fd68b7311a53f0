//! Objects of the API server as the world takes them.

use kube::api::DynamicObject;
use mesh_core::api::{self, ApiObject, Positions, Spec};
use mesh_core::diag::{Diagnostic, Severity};
use mesh_core::object::ObjectRef;
use serde_json::Value;

use super::Watched;

/// An object, read.
pub(crate) struct Read {
    pub object: Option<ApiObject>,
    pub diagnostics: Vec<Diagnostic>,
}

impl Read {
    pub fn is_faulty(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

pub(crate) fn reference(kind: &Watched, object: &DynamicObject) -> ObjectRef {
    let metadata = &object.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ObjectRef::new(kind.kind, &text(&metadata.namespace), &text(&metadata.name))
}

/// With the parser that files are read with, so that a word means the same wherever it is written.
pub(super) fn read(kind: &Watched, reference: &ObjectRef, object: &DynamicObject) -> Read {
    if kind.kind == "Secret" && !is_for_tls(object) {
        return Read { object: None, diagnostics: Vec::new() };
    }
    match serde_json::to_value(object) {
        Ok(value) => read_value(kind, reference, value),
        Err(_) => Read { object: None, diagnostics: Vec::new() },
    }
}

/// The same for an object that is JSON yet.
pub(crate) fn read_value(kind: &Watched, reference: &ObjectRef, mut value: Value) -> Read {
    if let Some(fields) = value.as_object_mut() {
        // Lists leave these out; and what we wrote there ourselves is not the user's.
        let version =
            if kind.group.is_empty() { kind.version.to_owned() } else { format!("{}/{}", kind.group, kind.version) };
        fields.insert("apiVersion".to_owned(), version.into());
        fields.insert("kind".to_owned(), kind.kind.into());
        if kind.is_ours() {
            fields.remove("status");
        }
    }
    let mut parsed = api::parse("", &value.to_string(), &reference.namespace);
    for diagnostic in &mut parsed.diagnostics {
        // Lines of a text that nobody wrote.
        diagnostic.position = None;
    }
    let mut object = parsed.objects.pop();
    if let Some(object) = &mut object {
        // A VirtualService all of whose rules were refused still opens its hosts: only the positions tell that it had any.
        if !matches!(&object.spec, Spec::VirtualService(service) if service.http.is_empty()) {
            object.positions = Positions::default();
        }
    }
    Read { object, diagnostics: parsed.diagnostics }
}

/// Whether it may hold a certificate, or CA certificates for clients. Others, the mesh's CA's key among them, are not kept.
fn is_for_tls(secret: &DynamicObject) -> bool {
    const KEYS: [&str; 4] = ["tls.crt", "cert", "ca.crt", "cacert"];
    let data = secret.data.get("data").and_then(|data| data.as_object());
    data.is_some_and(|data| KEYS.iter().any(|key| data.contains_key(*key)))
}

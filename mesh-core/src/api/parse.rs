//! Text in, objects and diagnostics out. Pure, and never fails as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::diag::{self, Diagnostic, Severity};
use crate::object::{ObjectRef, Position};

use super::decode::{Context, Finding, FindingKind, Strictness};
use super::kinds::{Kind, Lookup, UnreadKind, is_cluster_scoped, lookup, unread_kind};
use super::kube::{ConfigMap, NodeObject, PodObject, SecretObject};
use super::yaml::{Entry, Mark, Node, Value, documents};
use super::{ApiObject, Meta, Positions, Spec, TRAFFIC_DISTRIBUTION, not_built, validate};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// In the order of the text.
    pub objects: Vec<ApiObject>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads all documents of a file (YAML or JSON, also `kind: List`). Objects without a namespace get
/// `default_namespace`. What is wrong is dropped in the smallest scope and reported; the rest is kept.
pub fn parse(file: &str, text: &str, default_namespace: &str) -> Parsed {
    let mut reader = Reader { file: file.into(), default_namespace, parsed: Parsed::default() };
    for document in documents(text) {
        match document {
            Ok(node) => reader.document(&node),
            Err(error) => {
                let position = reader.position(error.at);
                let help = "this document is not read; the others of the file are";
                reader.push(Diagnostic::new(diag::YAML_SYNTAX, error.message).at(Some(position)).help(help));
            }
        }
    }
    reader.parsed
}

struct Reader<'a> {
    file: Arc<str>,
    default_namespace: &'a str,
    parsed: Parsed,
}

/// An object whose kind, name and namespace are known.
struct Head {
    kind: Kind,
    object: ObjectRef,
    meta: Meta,
}

/// `metadata` as it is written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetaObject {
    #[serde(default)]
    name: String,
    /// Read before, for the messages; here to check its type.
    #[serde(rename = "namespace")]
    _namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    creation_timestamp: Option<String>,
}

impl Reader<'_> {
    fn position(&self, at: Mark) -> Position {
        Position { file: self.file.clone(), line: at.line, column: at.column }
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        self.parsed.diagnostics.push(diagnostic);
    }

    fn document(&mut self, node: &Node) {
        let Value::Mapping(_) = node.value() else {
            let message = "a document must be an object with `apiVersion`, `kind` and `metadata`";
            let position = self.position(node.at);
            return self.push(Diagnostic::new(diag::FIELD_INVALID, message).at(Some(position)));
        };
        match (node.get("kind").and_then(Node::as_str), node.get("items").map(Node::value)) {
            (Some(kind), Some(Value::Sequence(items))) if kind.ends_with("List") => {
                items.iter().for_each(|item| self.document(item));
            }
            _ => self.object(node),
        }
    }

    fn object(&mut self, node: &Node) {
        let Some(head) = self.head(node) else { return };
        let positions = Positions::new(self.file.clone(), node);
        let strictness = if head.kind.is_whole() { Strictness::All } else { Strictness::View };
        let context = Context::new(strictness, head.kind == Kind::Secret);
        let spec = read(&context, head.kind, node);
        let mut diagnostics = self.diagnostics(&head.object, context.into_findings());
        let Some(spec) = spec else {
            return self.parsed.diagnostics.append(&mut diagnostics);
        };
        let mut object = ApiObject { meta: head.meta, spec, positions };
        not_built::check(&object, node, &mut diagnostics);
        let keep = validate::object(&mut object, &mut diagnostics);
        diagnostics.dedup();
        self.parsed.diagnostics.append(&mut diagnostics);
        if keep {
            self.parsed.objects.push(object);
        }
    }

    /// What every object has: kind, name, namespace. None: reported.
    fn head(&mut self, node: &Node) -> Option<Head> {
        let kind_name = self.required(node, "kind")?;
        let api_version = self.required(node, "apiVersion")?;
        let name = node.get("metadata").and_then(|meta| meta.get("name")).and_then(Node::as_str).unwrap_or("");
        let namespace = node.get("metadata").and_then(|meta| meta.get("namespace")).and_then(Node::as_str);
        let namespace = match namespace.filter(|namespace| !namespace.is_empty()) {
            _ if is_cluster_scoped(kind_name) => String::new(),
            Some(namespace) => namespace.to_owned(),
            None => self.default_namespace.to_owned(),
        };
        let object = ObjectRef::new(kind_name, &namespace, name);
        let kind = match lookup(api_version, kind_name) {
            Lookup::Known(kind) => kind,
            other => {
                self.other_kind(node, &object, api_version, &other);
                return None;
            }
        };
        let context = Context::new(Strictness::View, false);
        let empty = MetaObject::default();
        let read = match entry(node, "metadata") {
            Some(entry) => context.read(&entry.value, entry.key_at, "metadata"),
            None => Some(empty),
        };
        let mut diagnostics = self.diagnostics(&object, context.into_findings());
        self.parsed.diagnostics.append(&mut diagnostics);
        let read: MetaObject = read?;
        if read.name.is_empty() {
            let position = self.position(entry(node, "metadata").map_or(node.at, |entry| entry.key_at));
            let message = "the field `name` is required";
            let missing = Diagnostic::new(diag::FIELD_MISSING, message).object(&object).field("metadata.name");
            self.push(missing.at(Some(position)));
            return None;
        }
        Some(Head { kind, object, meta: meta(kind, namespace, read) })
    }

    /// A text that every object must have.
    fn required<'n>(&mut self, node: &'n Node, field: &str) -> Option<&'n str> {
        let value = node.get(field).and_then(Node::as_str).filter(|value| !value.is_empty());
        if value.is_none() {
            let position = self.position(node.get(field).map_or(node.at, |value| value.at));
            let message = format!("the field `{field}` is required");
            self.push(Diagnostic::new(diag::FIELD_MISSING, message).field(field).at(Some(position)));
        }
        value
    }

    fn other_kind(&mut self, node: &Node, object: &ObjectRef, api_version: &str, lookup: &Lookup) {
        let at = |field| Some(self.position(node.get(field).map_or(node.at, |value| value.at)));
        let diagnostic = match lookup {
            Lookup::Version(versions) => {
                Diagnostic::new(diag::FIELD_INVALID, format!("`{api_version}` is not a version of {}", object.kind))
                    .field("apiVersion")
                    .at(at("apiVersion"))
                    .help(format!("allowed: `{}`", versions.join("`, `")))
            }
            _ => {
                let other = || {
                    let message = format!("objects of kind {} ({api_version}) are not read", object.kind);
                    Diagnostic::new(diag::UNKNOWN_KIND, message)
                };
                let known = unread_kind(api_version, &object.kind);
                let advised = |unread: &UnreadKind| {
                    let said = unread.diagnostic(api_version);
                    if unread.is_looked_into() {
                        texts(node).into_iter().fold(said, |said, text| unread.advised(said, text))
                    } else {
                        said
                    }
                };
                let diagnostic = known.map_or_else(other, advised);
                let mut diagnostic = diagnostic.field("kind").at(at("kind"));
                if let Lookup::Unknown(Some(near)) = lookup {
                    diagnostic.severity = Severity::Warning;
                    diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
                }
                diagnostic
            }
        };
        self.push(diagnostic.object(object));
    }

    fn diagnostics(&self, object: &ObjectRef, findings: Vec<Finding>) -> Vec<Diagnostic> {
        findings
            .into_iter()
            .map(|finding| {
                let code = match finding.kind {
                    FindingKind::Invalid => diag::FIELD_INVALID,
                    FindingKind::Missing => diag::FIELD_MISSING,
                    FindingKind::Unknown => diag::FIELD_UNKNOWN,
                };
                let mut diagnostic = Diagnostic::new(code, finding.message).object(object).field(finding.field);
                diagnostic.position = Some(self.position(finding.at));
                diagnostic.help = finding.help;
                diagnostic
            })
            .collect()
    }
}

/// Only what has a meaning: others write all sorts of things into annotations, and there are thousands of objects; into those of
/// nodes and namespaces they write again and again.
fn meta(kind: Kind, namespace: String, read: MetaObject) -> Meta {
    let MetaObject { name, mut labels, annotations, mut creation_timestamp, .. } = read;
    let mut annotations: BTreeMap<_, _> = annotations
        .into_iter()
        .filter(|(name, _)| name.contains("istio.io/") || name.starts_with("meshgate.io/"))
        .collect();
    if let Kind::Node | Kind::Namespace = kind {
        annotations.retain(|name, _| kind == Kind::Namespace && name == TRAFFIC_DISTRIBUTION);
        creation_timestamp = None;
    }
    if kind == Kind::Node {
        labels.clear();
    }
    Meta { name, namespace, labels, annotations, creation_timestamp }
}

/// All texts in it.
fn texts(node: &Node) -> Vec<&str> {
    match node.value() {
        Value::Scalar { text, .. } => vec![text.as_str()],
        Value::Sequence(items) => items.iter().flat_map(texts).collect(),
        Value::Mapping(entries) => entries.iter().flat_map(|entry| texts(&entry.value)).collect(),
    }
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Entry> {
    match node.value() {
        Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key && !entry.value.is_null()),
        _ => None,
    }
}

/// What an Istio object consists of, to tell a field that landed beside `spec`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IstioObject {
    #[serde(rename = "apiVersion")]
    _api_version: Option<serde::de::IgnoredAny>,
    #[serde(rename = "kind")]
    _kind: Option<serde::de::IgnoredAny>,
    #[serde(rename = "metadata")]
    _metadata: Option<serde::de::IgnoredAny>,
    #[serde(rename = "spec")]
    _spec: Option<serde::de::IgnoredAny>,
    #[serde(rename = "status")]
    _status: Option<serde::de::IgnoredAny>,
}

fn read(context: &Context, kind: Kind, node: &Node) -> Option<Spec> {
    if kind.is_whole() {
        context.read::<IstioObject>(node, node.at, "")?;
    }
    match kind {
        Kind::Gateway => spec(context, node).map(Spec::Gateway),
        Kind::VirtualService => spec(context, node).map(Spec::VirtualService),
        Kind::DestinationRule => spec(context, node).map(Spec::DestinationRule),
        Kind::ServiceEntry => spec(context, node).map(Spec::ServiceEntry),
        Kind::WorkloadEntry => spec(context, node).map(Spec::WorkloadEntry),
        Kind::Sidecar => spec(context, node).map(Spec::Sidecar),
        Kind::AuthorizationPolicy => spec(context, node).map(Spec::AuthorizationPolicy),
        Kind::RequestAuthentication => spec(context, node).map(Spec::RequestAuthentication),
        Kind::PeerAuthentication => spec(context, node).map(Spec::PeerAuthentication),
        Kind::RateLimit => spec(context, node).map(Spec::RateLimit),
        Kind::Service => spec(context, node).map(Spec::Service),
        Kind::EndpointSlice => context.read(node, node.at, "").map(Spec::EndpointSlice),
        Kind::Secret => context.read::<SecretObject>(node, node.at, "").map(|object| Spec::Secret(object.into())),
        Kind::Pod => context.read::<PodObject>(node, node.at, "").map(|object| Spec::Pod(object.into())),
        Kind::ConfigMap => context.read::<ConfigMap>(node, node.at, "").map(Spec::ConfigMap),
        Kind::Node => context.read::<NodeObject>(node, node.at, "").map(|object| Spec::Node(object.into())),
        Kind::Namespace => context.read(node, node.at, "").map(Spec::Namespace),
    }
}

/// The field `spec`; absent, it is empty and then lacks what is required.
fn spec<T: DeserializeOwned>(context: &Context, node: &Node) -> Option<T> {
    match entry(node, "spec") {
        Some(entry) => context.read(&entry.value, entry.key_at, "spec"),
        None => context.read(&Node::empty(node.at), node.at, "spec"),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

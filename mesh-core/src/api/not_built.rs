//! Fields that are read, but have no effect yet, or never. A row goes when its feature is built. Servers that are not served at all are
//! `translate`'s to report: it knows which gateway they are for.

use crate::diag::{self, Diagnostic};

use super::ApiObject;
use super::yaml::{Node, Value};

/// When a field counts.
#[derive(Clone, Copy)]
enum When {
    /// It is there.
    Present,
    /// It is one of these.
    Is(&'static [&'static str]),
}

struct Row {
    kind: &'static str,
    /// `[]` is every element of a list.
    path: &'static str,
    when: When,
    /// Empty: it has no effect with Istio, either.
    what: &'static str,
    /// What happens instead.
    instead: &'static str,
}

const fn row(kind: &'static str, path: &'static str, when: When, what: &'static str) -> Row {
    Row { kind, path, when, what, instead: "this has no effect" }
}

/// What Istio reads and makes nothing of, either.
const fn unused(kind: &'static str, path: &'static str, why: &'static str) -> Row {
    Row { kind, path, when: When::Present, what: "", instead: why }
}

impl Row {
    const fn instead(mut self, instead: &'static str) -> Self {
        self.instead = instead;
        self
    }
}

use When::{Is, Present};

const GW: &str = "Gateway";
const SE: &str = "ServiceEntry";
const SC: &str = "Sidecar";
const WE: &str = "WorkloadEntry";

const NETWORK: &str = "the endpoint is called at its own address by proxies of all networks, not through a gateway of its \
                       network; without an address it gets no requests";

const ROWS: &[Row] = &[
    unused(GW, "spec.servers[].defaultEndpoint", "a gateway has no endpoint of its own"),
    row(GW, "spec.servers[].tls.minProtocolVersion", Is(&["TLSV1_0", "TLSV1_1"]), "TLS below 1.2"),
    row(GW, "spec.servers[].tls.maxProtocolVersion", Is(&["TLSV1_0", "TLSV1_1"]), "TLS below 1.2"),
    row(SE, "spec.endpoints[].network", Present, "networks").instead(NETWORK),
    row(WE, "spec.network", Present, "networks").instead(NETWORK),
    unused(
        SC,
        "spec.ingress[].tls.caCertCredentialName",
        "it goes with `credentialName`, which a Sidecar cannot have; clients are verified with `caCertificates`",
    ),
    row(SC, "spec.ingress[].tls.minProtocolVersion", Is(&["TLSV1_0", "TLSV1_1"]), "TLS below 1.2"),
    row(SC, "spec.ingress[].tls.maxProtocolVersion", Is(&["TLSV1_0", "TLSV1_1"]), "TLS below 1.2"),
];

/// Reports each kind of field once per object, at its first place.
pub(super) fn check(object: &ApiObject, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let kind = object.spec.kind();
    for row in ROWS.iter().filter(|row| row.kind == kind) {
        if let Some(field) = find(node, row.path, row.when) {
            let (code, message) = match row.what {
                "" => (diag::FIELD_DOUBTFUL, format!("this has no effect, as with Istio: {}", row.instead)),
                what => (diag::FIELD_NOT_BUILT, format!("not built yet: {what}; {}", row.instead)),
            };
            let position = object.positions.get(&field);
            diagnostics.push(Diagnostic::new(code, message).object(&object.object_ref()).field(field).at(position));
        }
    }
}

/// The first field that the pattern leads to and that counts. Its path is put together on the way back: most rows find nothing, in any of
/// many rules.
fn find(node: &Node, pattern: &str, when: When) -> Option<String> {
    if pattern.is_empty() {
        return counts(node, when).then(String::new);
    }
    if let Some(rest) = pattern.strip_prefix('.') {
        return find(node, rest, when).map(|tail| format!(".{tail}"));
    }
    if let Some(rest) = pattern.strip_prefix("[]") {
        let Value::Sequence(items) = node.value() else { return None };
        return items
            .iter()
            .enumerate()
            .find_map(|(index, item)| Some(format!("[{index}]{}", find(item, rest, when)?)));
    }
    let (name, rest) = pattern.split_at_checked(pattern.find(['.', '[']).unwrap_or(pattern.len()))?;
    let tail = find(child(node, name)?, rest, when)?;
    Some(format!("{name}{tail}"))
}

/// By its `camelCase` name, or the `snake_case` name that it was written with.
fn child<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.get(name).or_else(|| match node.value() {
        Value::Mapping(entries) => entries
            .iter()
            .find(|entry| entry.key.contains('_') && super::decode::camel_case(&entry.key) == name)
            .map(|entry| &entry.value),
        _ => None,
    })
}

fn counts(node: &Node, when: When) -> bool {
    let text = node.as_str().unwrap_or_default();
    let is = |list: &[&str]| list.iter().any(|one| one.eq_ignore_ascii_case(text));
    match when {
        Present => match node.value() {
            Value::Sequence(items) => !items.is_empty(),
            _ => !node.is_null(),
        },
        Is(list) => is(list),
    }
}

#[cfg(test)]
#[path = "not_built_tests.rs"]
mod tests;

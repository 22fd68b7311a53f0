//! What the types alone do not say about the schema of an object: unions, limits and rules in CEL.
//!
//! The rules are those that Istio's definitions have, so that the API server refuses what it would refuse there. Rules sit only
//! where no list without a limit is above another: the API server multiplies their estimated cost by the lengths.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{Bytes, Duration, Protocol};

/// Rules with their messages.
pub(super) type Rules = &'static [(&'static str, &'static str)];

const RULES: &str = "x-kubernetes-validations";

pub(super) const PORT: Rules = &[("0 < self && self <= 65535", "port must be between 1-65535")];

pub(super) const UNIQUE_PORTS: Rules =
    &[("self.all(a, self.exists_one(b, a.number == b.number))", "port number cannot be duplicated")];

pub(super) const CREDENTIALS: Rules = &[
    (
        "(has(self.credentialNames) ? 1 : 0) + (has(self.tlsCertificates) ? 1 : 0) <= 1",
        "only one of credentialNames or tlsCertificates can be set",
    ),
    (
        "(has(self.credentialName) ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) <= 1",
        "only one of credentialName or credentialNames can be set",
    ),
    (
        "(has(self.credentialName) ? 1 : 0) + (has(self.tlsCertificates) ? 1 : 0) <= 1",
        "only one of credentialName or tlsCertificates can be set",
    ),
];

pub(super) const SERVICE_ENTRY: Rules = &[
    (
        "(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1",
        "only one of WorkloadSelector or Endpoints can be set",
    ),
    (
        "!has(self.addresses) || !has(self.resolution) || self.resolution in ['NONE', 'STATIC'] || \
         !self.addresses.exists(a, a.contains('/'))",
        "CIDR addresses are allowed only for NONE/STATIC resolution types",
    ),
    ("!has(self.endpoints) || (has(self.resolution) && self.resolution != 'NONE')", "NONE mode cannot set endpoints"),
    (
        "!has(self.resolution) || self.resolution != 'DNS_ROUND_ROBIN' || !has(self.endpoints) || \
         size(self.endpoints) <= 1",
        "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
    ),
];

pub(super) const WORKLOAD_ENTRY: Rules = &[
    ("has(self.address) || has(self.network)", "Address is required"),
    ("!has(self.address) || !self.address.startsWith('unix://') || !has(self.ports)", "UDS may not include ports"),
];

pub(super) const UNIX_ADDRESS: Rules = &[
    (
        "!self.startsWith('unix://') || self.startsWith('unix:///') || self.startsWith('unix://@')",
        "UDS must be an absolute path or abstract socket",
    ),
    ("!self.startsWith('unix://') || !self.endsWith('/')", "UDS may not be a dir"),
];

pub(super) const API_GROUP: &str = "^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
pub(super) const API_KIND: &str = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$";

pub(super) const SAME_NAMESPACE: Rules =
    &[("self.size() == 0", "cross namespace referencing is not currently supported")];

pub(super) const ONE_TARGET: Rules = &[(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of targetRefs or selector can be set",
)];

pub(super) const TARGETS_OR_SELECTOR: Rules =
    &[("!has(self.selector) || !has(self.targetRefs)", "only one of targetRefs or selector can be set")];

pub(super) const LIMIT_NAME: &str = "^[-_.a-zA-Z0-9]+$";

pub(super) const LIMIT_BY: Rules = &[(
    "(has(self.clientAddress) ? 1 : 0) + (has(self.header) ? 1 : 0) + (has(self.claim) ? 1 : 0) == 1",
    "exactly one of clientAddress, header or claim must be set",
)];

pub(super) const REQUEST_SOURCE: Rules = &[(
    "(has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) && !has(self.notPrincipals) && \
     !has(self.namespaces) && !has(self.notNamespaces)) : true",
    "Cannot set serviceAccounts with namespaces or principals",
)];

pub(super) const HTTP_URL: Rules = &[(
    "isURL(self) && (url(self).getScheme() == 'http' || url(self).getScheme() == 'https')",
    "url must have scheme http:// or https://",
)];

pub(super) const PORT_LEVEL_MTLS: Rules = &[(
    "(has(self.selector) && has(self.selector.matchLabels) && self.selector.matchLabels.size() > 0) || \
     !has(self.portLevelMtls)",
    "portLevelMtls requires selector",
)];

/// For `extend`: the value of `x-kubernetes-validations`.
pub(super) fn rules(rules: &[(&str, &str)]) -> Value {
    rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message })).collect()
}

/// For `extend`: the value of `oneOf` if at most one of these fields may be set.
pub(super) fn at_most_one(fields: &[&str]) -> Value {
    let set: Vec<Value> = fields.iter().map(|field| json!({ "required": [field] })).collect();
    let mut cases = vec![json!({ "not": { "anyOf": set } })];
    cases.extend(set);
    Value::Array(cases)
}

/// Two unions in one message: the key, and the algorithm.
pub(super) fn hash() -> Value {
    json!([
        { "oneOf": at_most_one(&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"]) },
        { "oneOf": at_most_one(&["ringHash", "maglev"]) },
    ])
}

/// `mirror_percent` is the field's name in the first version of the API; readers of protobuf JSON take both.
pub(super) fn legacy_mirror_percent(schema: &mut Schema) {
    legacy(schema, "mirrorPercent", "mirror_percent");
}

/// `jwks_uri` likewise.
pub(super) fn legacy_jwks_uri(schema: &mut Schema) {
    legacy(schema, "jwksUri", "jwks_uri");
}

fn legacy(schema: &mut Schema, name: &str, spelling: &str) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    let mut spelled = properties.get(name).cloned().unwrap_or_default();
    if let Some(object) = spelled.as_object_mut() {
        object.insert("description".to_owned(), format!("The same as `{name}`.").into());
    }
    properties.insert(spelling.to_owned(), spelled);
}

pub(super) fn port_level_mtls(schema: &mut Schema) {
    schema.insert("minProperties".to_owned(), 1.into());
    schema.insert("maxProperties".to_owned(), 128.into());
    let rule = ("self.all(key, 0 < int(key) && int(key) <= 65535)", "port must be between 1-65535");
    schema.insert(RULES.to_owned(), rules(&[rule]));
}

pub(super) fn not_wildcard(schema: &mut Schema) {
    insert_below(schema, "items", RULES, rules(&[("self != '*'", "hostname cannot be wildcard")]));
}

pub(super) fn ports_by_name(schema: &mut Schema) {
    // As `validate` has it: a label.
    let name = "self.all(name, size(name) <= 63 && name.matches('^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$'))";
    schema.insert("maxProperties".to_owned(), 128.into());
    schema.insert(RULES.to_owned(), rules(&[(name, "port name must be valid")]));
    insert_below(schema, "additionalProperties", RULES, rules(PORT));
}

pub(super) fn selector_labels(schema: &mut Schema) {
    schema.insert("maxProperties".to_owned(), 4096.into());
    schema.insert(
        RULES.to_owned(),
        rules(&[
            ("self.all(key, !key.contains('*'))", "wildcard not allowed in label key match"),
            ("self.all(key, key.size() != 0)", "key must not be empty"),
        ]),
    );
    let value = "!self.contains('*')";
    insert_below(schema, "additionalProperties", "maxLength", 63.into());
    insert_below(schema, "additionalProperties", RULES, rules(&[(value, "wildcard is not supported in selector")]));
}

/// Limits are known by their names.
pub(super) fn limits(schema: &mut Schema) {
    schema.insert("minItems".to_owned(), 1.into());
    schema.insert("maxItems".to_owned(), 64.into());
    schema.insert("x-kubernetes-list-type".to_owned(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["name"]));
}

fn insert_below(schema: &mut Schema, child: &str, key: &str, value: Value) {
    if let Some(Value::Object(child)) = schema.get_mut(child) {
        child.insert(key.to_owned(), value);
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = ("duration(self) >= duration('1ms')", "must be a valid duration greater than 1ms");
        json_schema!({
            "type": "string",
            "x-kubernetes-validations": [{ "rule": rule.0, "message": rule.1 }],
        })
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "byte" })
    }
}

/// A text: the names are compared without regard to case.
impl JsonSchema for Protocol {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

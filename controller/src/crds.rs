//! Definitions of the users' objects for Kubernetes, made from the types that read them. `meshgate-controller crds` prints
//! them; `deploy/crds` holds what it printed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
};
use kube::core::ObjectMeta;
use kube::core::schema::StructuralSchemaRewriter;
use mesh_core::api::{
    AuthorizationPolicy, DestinationRule, Gateway, PeerAuthentication, RateLimit, RequestAuthentication, ServiceEntry,
    Sidecar, VirtualService, WorkloadEntry,
};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use crate::status::KINDS;

/// The newest is stored; all have one schema, as Istio's.
const NETWORKING: Group = Group { name: "networking.istio.io", versions: &["v1", "v1beta1", "v1alpha3"] };
const SECURITY: Group = Group { name: "security.istio.io", versions: &["v1", "v1beta1"] };

/// Of kinds that Istio does not have.
const OWN: Group = Group { name: "meshgate.io", versions: &["v1alpha1"] };

struct Group {
    name: &'static str,
    versions: &'static [&'static str],
}

struct Kind {
    group: &'static Group,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    /// Name, path, what it is.
    columns: &'static [(&'static str, &'static str, &'static str)],
    spec: Value,
}

/// All of them.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    let kinds = [
        Kind {
            group: &NETWORKING,
            kind: "Gateway",
            plural: "gateways",
            short: &["gw"],
            columns: &[],
            spec: schema::<Gateway>(),
        },
        Kind {
            group: &NETWORKING,
            kind: "VirtualService",
            plural: "virtualservices",
            short: &["vs"],
            columns: &[
                ("Gateways", ".spec.gateways", "Gateways and sidecars that apply these rules"),
                ("Hosts", ".spec.hosts", "Hosts of requests"),
            ],
            spec: schema::<VirtualService>(),
        },
        Kind {
            group: &NETWORKING,
            kind: "DestinationRule",
            plural: "destinationrules",
            short: &["dr"],
            columns: &[("Host", ".spec.host", "Service that the rule is about")],
            spec: schema::<DestinationRule>(),
        },
        Kind {
            group: &NETWORKING,
            kind: "ServiceEntry",
            plural: "serviceentries",
            short: &["se"],
            columns: &[
                ("Hosts", ".spec.hosts", "Hosts of the service"),
                ("Location", ".spec.location", "Inside or outside of the mesh"),
                ("Resolution", ".spec.resolution", "How its endpoints are found"),
            ],
            spec: schema::<ServiceEntry>(),
        },
        Kind {
            group: &NETWORKING,
            kind: "WorkloadEntry",
            plural: "workloadentries",
            short: &["we"],
            columns: &[("Address", ".spec.address", "Address of the workload")],
            spec: schema::<WorkloadEntry>(),
        },
        Kind {
            group: &NETWORKING,
            kind: "Sidecar",
            plural: "sidecars",
            short: &[],
            columns: &[],
            spec: schema::<Sidecar>(),
        },
        Kind {
            group: &SECURITY,
            kind: "AuthorizationPolicy",
            plural: "authorizationpolicies",
            short: &["ap"],
            columns: &[("Action", ".spec.action", "What becomes of requests that match")],
            spec: schema::<AuthorizationPolicy>(),
        },
        Kind {
            group: &SECURITY,
            kind: "RequestAuthentication",
            plural: "requestauthentications",
            short: &["ra"],
            columns: &[],
            spec: schema::<RequestAuthentication>(),
        },
        Kind {
            group: &SECURITY,
            kind: "PeerAuthentication",
            plural: "peerauthentications",
            short: &["pa"],
            columns: &[("Mode", ".spec.mtls.mode", "Whether connections need mTLS")],
            spec: schema::<PeerAuthentication>(),
        },
        Kind {
            group: &OWN,
            kind: "RateLimit",
            plural: "ratelimits",
            short: &[],
            columns: &[],
            spec: schema::<RateLimit>(),
        },
    ];
    kinds.iter().map(definition).collect()
}

/// The same as YAML, one document each.
pub fn yaml() -> anyhow::Result<String> {
    let mut text = String::new();
    for crd in crds()? {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(text)
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let settings = settings
        .with_transform(RecursiveTransform(optional))
        .with_transform(StructuralSchemaRewriter)
        .with_transform(RecursiveTransform(plain));
    let generator = settings.into_generator();
    let mut schema = Value::from(generator.into_root_schema_for::<T>());
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("title");
    }
    schema
}

/// `anyOf` a union and null, which an absent field is: the union alone.
fn optional(schema: &mut schemars::Schema) {
    let Some(Value::Array(cases)) = schema.get("anyOf") else { return };
    let is_null = |case: &Value| {
        case.get("type").and_then(Value::as_str) == Some("null") || case.get("enum") == Some(&json!([null]))
    };
    let (null, rest): (Vec<&Value>, Vec<&Value>) = cases.iter().partition(|case| is_null(case));
    let ([_], [Value::Object(only)]) = (null.as_slice(), rest.as_slice()) else { return };
    let only = only.clone();
    schema.remove("anyOf");
    for (key, value) in only {
        // What is said of the field is more to the point than what is said of its type.
        if schema.get(&key).is_none() {
            schema.insert(key, value);
        }
    }
}

/// What a structural schema may not have, or what would only bloat it.
fn plain(schema: &mut schemars::Schema) {
    for key in ["title", "$schema", "default", "examples"] {
        schema.remove(key);
    }
    // Integers are checked by minimum and maximum; Kubernetes knows two formats only.
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
    // Descriptions are one paragraph.
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}

fn definition(kind: &Kind) -> Result<CustomResourceDefinition, serde_json::Error> {
    let root = json!({
        "type": "object",
        "required": ["spec"],
        "properties": { "spec": kind.spec, "status": status() },
    });
    let schema: JSONSchemaProps = serde_json::from_value(root)?;
    let version = |name: &str| CustomResourceDefinitionVersion {
        name: name.to_owned(),
        served: true,
        storage: kind.group.versions.first() == Some(&name),
        schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema.clone()) }),
        subresources: Some(CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(json!({}))),
            scale: None,
        }),
        additional_printer_columns: Some(columns(kind)),
        ..CustomResourceDefinitionVersion::default()
    };
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", kind.plural, kind.group.name)),
            labels: Some([("app.kubernetes.io/part-of".to_owned(), "meshgate".to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: kind.group.name.to_owned(),
            scope: "Namespaced".to_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.kind.to_owned(),
                list_kind: Some(format!("{}List", kind.kind)),
                plural: kind.plural.to_owned(),
                singular: Some(kind.kind.to_lowercase()),
                // The API server keeps no empty list, so that who sets one is at odds with whoever did before.
                short_names: Some(kind.short.iter().map(|name| (*name).to_owned()).collect())
                    .filter(|names: &Vec<String>| !names.is_empty()),
                categories: Some(categories(kind.group)),
            },
            versions: kind.group.versions.iter().map(|name| version(name)).collect(),
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    })
}

fn categories(group: &Group) -> Vec<String> {
    let all = group.name.ends_with("istio.io").then_some("istio-io");
    all.map(str::to_owned).into_iter().chain([group.name.replace('.', "-")]).collect()
}

/// Istio's, and before its age what an object says of itself.
fn columns(kind: &Kind) -> Vec<CustomResourceColumnDefinition> {
    let column = |name: &str, path: &str, kind: &str, about: &str| CustomResourceColumnDefinition {
        name: name.to_owned(),
        json_path: path.to_owned(),
        type_: kind.to_owned(),
        description: Some(about.to_owned()),
        ..CustomResourceColumnDefinition::default()
    };
    let mut columns: Vec<CustomResourceColumnDefinition> =
        kind.columns.iter().map(|(name, path, about)| column(name, path, "string", about)).collect();
    if KINDS.contains(&kind.kind) {
        let status = |name: &str, about: &str| {
            column(name, &format!(".status.conditions[?(@.type==\"{name}\")].status"), "string", about)
        };
        columns.push(status("Accepted", "Whether the object is valid and in force"));
        columns.push(status("Programmed", "Whether the proxies have it"));
    }
    columns.push(column("Age", ".metadata.creationTimestamp", "date", "When it was created"));
    columns
}

/// `IstioStatus`, with room for what other writers add.
fn status() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "observedGeneration": {
                "description": "Generation of the object that the conditions are about.",
                "x-kubernetes-int-or-string": true,
                "anyOf": [{ "type": "integer" }, { "type": "string" }],
            },
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type"],
                    "properties": {
                        "type": text("Accepted, Programmed or one of another writer."),
                        "status": text("True, False or Unknown."),
                        "reason": text("One word for programs."),
                        "message": text("A sentence for people."),
                        "lastTransitionTime": { "type": "string", "format": "date-time" },
                        "lastProbeTime": { "type": "string", "format": "date-time" },
                        "observedGeneration": {
                            "x-kubernetes-int-or-string": true,
                            "anyOf": [{ "type": "integer" }, { "type": "string" }],
                        },
                    },
                },
            },
            "validationMessages": {
                "type": "array",
                "description": "What is wrong with the object, or doubtful.",
                "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What `kubectl get` shows: Istio's columns, and ours.
    #[test]
    fn columns_are_istios_and_ours() {
        let heads = |crd: &CustomResourceDefinition| {
            let versions = crd.spec.versions.iter().map(|version| {
                let columns = version.additional_printer_columns.iter().flatten();
                columns.map(|column| column.name.to_uppercase()).collect::<Vec<_>>().join(" ")
            });
            let heads: std::collections::BTreeSet<String> = versions.collect();
            format!("{}: {}", crd.spec.names.plural, heads.into_iter().collect::<Vec<_>>().join(" / "))
        };
        let all: Vec<String> = crds().unwrap().iter().map(heads).collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        gateways: ACCEPTED PROGRAMMED AGE
        virtualservices: GATEWAYS HOSTS ACCEPTED PROGRAMMED AGE
        destinationrules: HOST ACCEPTED PROGRAMMED AGE
        serviceentries: HOSTS LOCATION RESOLUTION ACCEPTED PROGRAMMED AGE
        workloadentries: ADDRESS AGE
        sidecars: ACCEPTED PROGRAMMED AGE
        authorizationpolicies: ACTION ACCEPTED PROGRAMMED AGE
        requestauthentications: ACCEPTED PROGRAMMED AGE
        peerauthentications: MODE ACCEPTED PROGRAMMED AGE
        ratelimits: ACCEPTED PROGRAMMED AGE
        ");
    }

    /// `MESHGATE_WRITE=1 cargo test -p controller crds` writes the file anew.
    #[test]
    fn the_file_in_deploy_is_what_the_types_say() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/crds.yaml");
        let text = yaml().unwrap();
        if std::env::var_os("MESHGATE_WRITE").is_some() {
            std::fs::write(file, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(file).unwrap_or_default() == text,
            "run MESHGATE_WRITE=1 cargo test -p controller crds"
        );
    }
}

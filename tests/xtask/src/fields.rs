//! `cargo xtask fields`: the table of every field of Istio's networking kinds with what proves that it works. The fields are those of
//! our own definitions (`deploy/crds/crds.yaml`); the proof is a case that sets the field. Nobody
//! writes the table by hand: `--check` fails where it is not what the cases say, so that no row outlives its proof.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

pub const FILE: &str = "mesh-core/FIELDS.md";

const KINDS: [&str; 8] = [
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "WorkloadEntry",
    "WorkloadGroup",
    "Sidecar",
    "RateLimit",
];

/// A part that stands in several places of a kind, and the places.
const SHARED: &[(&str, &str, &[&str])] = &[
    (
        "DestinationRule",
        "$policy",
        &[
            "trafficPolicy.portLevelSettings[]",
            "subsets[].trafficPolicy.portLevelSettings[]",
            "trafficPolicy",
            "subsets[].trafficPolicy",
        ],
    ),
    ("Sidecar", "$pool", &["inboundConnectionPool", "ingress[].connectionPool"]),
];

/// Parts that are those of another kind, whose cases are not read here: an AuthorizationPolicy's.
const ELSEWHERE: &[(&str, &str)] =
    &[("RateLimit", "limits[].from[]"), ("RateLimit", "limits[].to[]"), ("RateLimit", "limits[].when[]")];

type Field = (String, String);

/// What a case is expected to say of a value that is refused, and of one that does nothing, with the words of its message; and what
/// the table calls that.
const TOLD: &[(&str, &str, &str)] = &[("MESH0003", "", "refused"), ("MESH0009", "has no effect", "no effect")];

/// What is known of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proof {
    Case(String),
    /// It is set only where the case expects to be told so much of it ([`TOLD`]).
    Told(&'static str, String),
    /// What is said of it.
    NotBuilt(String),
    None,
}

/// The table, and the fields without proof.
pub fn table(root: &Path) -> Result<(String, Vec<String>), String> {
    let (fields, missing_kinds) = fields(root)?;
    let known: BTreeSet<&Field> = fields.iter().collect();
    let cases = cases(root, &known)?;
    let not_built = not_built(&read(&root.join("mesh-core/src/api/not_built.rs"))?);
    let before = std::fs::read_to_string(root.join(FILE)).unwrap_or_default();
    let mut out = String::from(
        "# Fields\n\nEvery field of Istio's networking kinds, and of ours, that our definitions have, with a case that sets it (by what it does, in \
         memory, in a real process or a cluster). Written by `cargo xtask fields`; `cargo xtask fields --check` \
         fails where this is not what the cases say. Where no case sets a field it is marked **none**: unit tests may, but nothing follows them. \
         *refused* is a field that Istio's validation refuses, and ours, *no effect* one that does nothing with Istio either: the case expects the \
         diagnostic, and that the rest goes on.\n\nA traffic policy of a DestinationRule stands in four places, and is proved in one: \
         `$policy`. So is a connection pool of a Sidecar: `$pool`.\n",
    );
    let mut without = Vec::new();
    for kind in KINDS {
        let own: Vec<&Field> = fields.iter().filter(|(of, _)| of == kind).collect();
        let _ = write!(out, "\n## {kind}\n\n");
        if own.is_empty() || missing_kinds.contains(kind) {
            let _ = writeln!(out, "Not read: objects of this kind are named with MESH0002.");
            continue;
        }
        let _ = write!(out, "| field | proof |\n|---|---|\n");
        for field in own {
            let kept = |proof: &&Proof| before.contains(&row(field, proof));
            let proof = match (of_part(&not_built, field), cases.get(field)) {
                (Some(what), _) => Proof::NotBuilt(what.clone()),
                (None, Some(proofs)) => {
                    // An effect says more than a refusal. What was there stays, as long as it is true: a new case is no reason to
                    // change a row.
                    let effects: Vec<&Proof> = proofs.iter().filter(|proof| matches!(proof, Proof::Case(_))).collect();
                    let all = if effects.is_empty() { proofs.iter().collect() } else { effects };
                    all.iter().copied().find(kept).or(all.first().copied()).cloned().unwrap_or(Proof::None)
                }
                (None, None) => Proof::None,
            };
            if proof == Proof::None {
                without.push(format!("{kind} {}", field.1));
            }
            out.push_str(&row(field, &proof));
        }
    }
    Ok((out, without))
}

/// What is said of the field, or of the part that it is in.
fn of_part<'n>(not_built: &'n BTreeMap<Field, String>, (kind, path): &Field) -> Option<&'n String> {
    let is_of =
        |whole: &str| path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    not_built.iter().find(|((of, whole), _)| of == kind && is_of(whole)).map(|(_, what)| what)
}

fn row((_, path): &Field, proof: &Proof) -> String {
    let proof = match proof {
        Proof::Case(case) => format!("[{case}](../tests/cases/{case}.yaml)"),
        Proof::Told(what, case) => format!("*{what}*: [{case}](../tests/cases/{case}.yaml)"),
        Proof::NotBuilt(what) => format!("not built: {what} (MESH0005)"),
        Proof::None => "**none**".to_owned(),
    };
    format!("| `{path}` | {proof} |\n")
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Documents of a text that are YAML. What a case fills in is taken as a number.
fn documents(text: &str) -> Vec<Value> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        plain.push_str(before);
        plain.push('1');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    let mut parts = vec![String::new()];
    for line in plain.lines() {
        if line.starts_with("---") {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.iter().filter_map(|part| serde_saphyr::from_str::<Value>(part).ok()).collect()
}

/// Of all kinds, parts that stand in several places once; and the kinds of which there is no definition.
fn fields(root: &Path) -> Result<(Vec<Field>, BTreeSet<&'static str>), String> {
    let definitions = documents(&read(&root.join("deploy/crds/crds.yaml"))?);
    let mut fields = Vec::new();
    let mut missing = BTreeSet::new();
    for kind in KINDS {
        let of_kind =
            definitions.iter().find(|one| one.pointer("/spec/names/kind").and_then(Value::as_str) == Some(kind));
        match of_kind.and_then(|one| one.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")) {
            Some(schema) => below(kind, schema, "", &mut fields),
            None => drop(missing.insert(kind)),
        }
    }
    Ok((fields, missing))
}

fn below(kind: &str, schema: &Value, path: &str, fields: &mut Vec<Field>) {
    if ELSEWHERE.contains(&(kind, path)) {
        return;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, schema) in properties.into_iter().flatten() {
        let path = join(path, name);
        let field = (kind.to_owned(), shared(kind, &path));
        if !fields.contains(&field) {
            fields.push(field);
        }
        below(kind, schema, &path, fields);
    }
    if let Some(items) = schema.get("items") {
        below(kind, items, &format!("{path}[]"), fields);
    }
    if let Some(values) = schema.get("additionalProperties") {
        below(kind, values, &format!("{path}{{}}"), fields);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn shared(kind: &str, path: &str) -> String {
    let of_kind = SHARED.iter().filter(|(of, ..)| *of == kind);
    let found = of_kind.flat_map(|(_, name, places)| places.iter().map(move |place| (name, place))).find_map(
        |(name, place)| {
            path.strip_prefix(place)
                .filter(|rest| rest.starts_with('.') && !rest.starts_with(".portLevelSettings"))
                .map(|rest| format!("{name}{rest}"))
        },
    );
    found.unwrap_or_else(|| path.to_owned())
}

/// Fields, and what is said of them.
type Told = BTreeMap<Field, &'static str>;

/// What a case sets.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    fields: BTreeSet<Field>,
    /// Of those, what is told of wherever it is set.
    told: Told,
}

/// The cases that set each field, those first that set few.
fn cases(root: &Path, known: &BTreeSet<&Field>) -> Result<BTreeMap<Field, Vec<Proof>>, String> {
    let folder = root.join("tests/cases");
    let mut sizes: Vec<(usize, String, Found)> = Vec::new();
    for file in files(&folder, "yaml") {
        let text = read(&file)?;
        let name = file.strip_prefix(&folder).unwrap_or(&file).with_extension("");
        let case: Value = serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        let found = found(&case, known);
        sizes.push((found.fields.len(), name.to_string_lossy().replace('\\', "/"), found));
    }
    sizes.sort();
    let mut cases: BTreeMap<Field, Vec<Proof>> = BTreeMap::new();
    for (_, name, Found { fields, told }) in sizes {
        for field in fields {
            let proof = match told.get(&field) {
                Some(what) => Proof::Told(what, name.clone()),
                None => Proof::Case(name.clone()),
            };
            cases.entry(field).or_default().push(proof);
        }
    }
    Ok(cases)
}

fn found(case: &Value, known: &BTreeSet<&Field>) -> Found {
    let steps = case.get("steps").and_then(Value::as_array).into_iter().flatten();
    let applied = steps.filter_map(|step| step.get("apply")).filter_map(Value::as_str);
    let config = case.get("config").and_then(Value::as_str);
    let mut expected = Expected::new();
    for diagnostic in case.get("diagnostics").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| diagnostic.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = TOLD.iter().find(|(code, words, _)| *code == text("code") && text("message").contains(words));
        expected.extend(kind.map(|(.., what)| ((text("object").to_owned(), text("field").to_owned()), *what)));
    }
    let (mut effects, mut told) = (BTreeSet::new(), Told::new());
    // Diagnostics are expected of the first configuration.
    for object in config.into_iter().flat_map(documents) {
        objects(&object, known, &expected, &mut effects, &mut told);
    }
    for object in applied.flat_map(documents) {
        objects(&object, known, &Expected::new(), &mut effects, &mut told);
    }
    told.retain(|field, _| !effects.contains(field));
    Found { fields: effects.into_iter().chain(told.keys().cloned()).collect(), told }
}

/// Objects and places in them, and what is said of those.
type Expected = BTreeMap<(String, String), &'static str>;

fn objects(
    object: &Value,
    known: &BTreeSet<&Field>,
    expected: &Expected,
    effects: &mut BTreeSet<Field>,
    told: &mut Told,
) {
    for item in object.get("items").and_then(Value::as_array).into_iter().flatten() {
        objects(item, known, expected, effects, told);
    }
    let kind = object.get("kind").and_then(Value::as_str).filter(|kind| KINDS.contains(kind));
    if let (Some(kind), Some(spec)) = (kind, object.get("spec")) {
        let meta = |key: &str| object.pointer(&format!("/metadata/{key}")).and_then(Value::as_str);
        let name = format!("{kind}/{}/{}", meta("namespace").unwrap_or("default"), meta("name").unwrap_or_default());
        let own = expected.iter().filter(|((object, _), _)| *object == name);
        let expected = own.map(|((_, place), what)| (place.as_str(), *what)).collect();
        let mut reader = Reader { kind, known, expected, effects, told };
        reader.set(spec, "", "spec");
    }
}

/// Of one object.
struct Reader<'r> {
    kind: &'r str,
    known: &'r BTreeSet<&'r Field>,
    /// Places of it, and what is said of them.
    expected: Vec<(&'r str, &'static str)>,
    effects: &'r mut BTreeSet<Field>,
    told: &'r mut Told,
}

impl Reader<'_> {
    /// `path` is that of the field, `place` where in the object it stands.
    fn set(&mut self, value: &Value, path: &str, place: &str) {
        match value {
            Value::Object(entries) => {
                for (name, value) in entries {
                    let names = [name.clone(), camel(name)];
                    let field = |name: &String| (self.kind.to_owned(), shared(self.kind, &join(path, name)));
                    let known = names.iter().find(|name| self.known.contains(&field(name)));
                    match known.map(|name| (name, field(name))) {
                        Some((name, field)) => {
                            let place = join(place, name);
                            match self.said_of(&place) {
                                Some(what) => drop(self.told.insert(field, what)),
                                None => drop(self.effects.insert(field)),
                            }
                            self.set(value, &join(path, name), &place);
                        }
                        // A key of the user's.
                        None => self.set(value, &format!("{path}{{}}"), &join(place, name)),
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.set(item, &format!("{path}[]"), &format!("{place}[{index}]"));
                }
            }
            _ => {}
        }
    }

    /// Of it, or of something that it is in.
    fn said_of(&self, place: &str) -> Option<&'static str> {
        let holds =
            |whole: &str| place.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.expected.iter().find(|(whole, _)| holds(whole)).map(|(_, what)| *what)
    }
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut out, part| {
        out.extend(part.chars().next().map(|first| first.to_ascii_uppercase()));
        out.push_str(part.get(1..).unwrap_or_default());
        out
    })
}

/// Rows of fields that have no effect at all: `row(KIND, "path", Present, "what")`, however they are broken into lines.
fn not_built(text: &str) -> BTreeMap<Field, String> {
    let names = [
        ("GW", "Gateway"),
        ("VS", "VirtualService"),
        ("DR", "DestinationRule"),
        ("SE", "ServiceEntry"),
        ("SC", "Sidecar"),
        ("WE", "WorkloadEntry"),
        ("WG", "WorkloadGroup"),
    ];
    let row = |rest: &str| {
        let (kind, rest) = argument(rest)?;
        let (path, rest) = argument(rest)?;
        let (when, rest) = argument(rest)?;
        let (what, _) = argument(rest)?;
        let quoted = |text: &str| text.strip_prefix('"')?.strip_suffix('"').map(str::to_owned);
        let kind = names.iter().find(|(short, _)| *short == kind)?.1;
        let (path, what) = (quoted(path)?, quoted(what).filter(|_| when == "Present")?);
        let path = if kind == "Sidecar" { path.replace("$policy", "$pool") } else { path };
        Some(((kind.to_owned(), path.strip_prefix("spec.").unwrap_or(&path).to_owned()), what))
    };
    text.split("row(").skip(1).filter_map(row).collect()
}

/// The next argument of a call, without the space around it, and what follows.
fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = match text.strip_prefix('"') {
        Some(quoted) => quoted.find('"')? + 2,
        None => text.find([',', ')'])?,
    };
    let (argument, rest) = text.split_at_checked(end)?;
    Some((argument.trim_end(), rest.trim_start().trim_start_matches([',', ')'])))
}

fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|of| of == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(fields: &[(&str, &str)]) -> Vec<Field> {
        fields.iter().map(|(kind, path)| ((*kind).to_owned(), (*path).to_owned())).collect()
    }

    #[test]
    fn what_an_object_sets_is_found_wherever_it_stands() {
        let fields = known(&[
            ("DestinationRule", "$policy.loadBalancer"),
            ("DestinationRule", "$policy.loadBalancer.simple"),
            ("DestinationRule", "subsets"),
            ("DestinationRule", "subsets[].trafficPolicy"),
            ("DestinationRule", "host"),
        ]);
        let known: BTreeSet<&Field> = fields.iter().collect();
        let (mut found, mut told) = (BTreeSet::new(), Told::new());
        let text = "kind: DestinationRule\nspec: { subsets: [{ trafficPolicy: { load_balancer: { simple: RANDOM } } }] }\n---\n\
                    kind: Other\nspec: { host: a, port: ${b.port} }\n";
        documents(text).iter().for_each(|object| objects(object, &known, &Expected::new(), &mut found, &mut told));
        let found: Vec<&str> = found.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(
            found,
            ["$policy.loadBalancer", "$policy.loadBalancer.simple", "subsets", "subsets[].trafficPolicy"]
        );
    }

    #[test]
    fn what_is_told_of_wherever_it_is_set_is_no_proof_of_an_effect() {
        let fields = known(&[
            ("Gateway", "servers"),
            ("Gateway", "servers[].port"),
            ("Gateway", "servers[].port.number"),
            ("Gateway", "servers[].port.name"),
            ("Gateway", "servers[].port.targetPort"),
            ("Gateway", "servers[].tls"),
            ("Gateway", "servers[].tls.mode"),
        ]);
        let known: BTreeSet<&Field> = fields.iter().collect();
        let config = "kind: Gateway\nmetadata: { name: a }\nspec: { servers: [{ port: { number: 1, name: x, targetPort: 2 } }, \
                      { tls: { mode: X } }, { tls: {} }] }\n";
        let diagnostic = |code: &str, field: &str| serde_json::json!({ "code": code, "object": "Gateway/default/a", "field": field });
        let refusals = [
            diagnostic("MESH0003", "spec.servers[0].port.targetPort"),
            diagnostic("MESH0003", "spec.servers[1].tls"),
            diagnostic("MESH0009", "spec.servers[0].port.number"),
            serde_json::json!({ "code": "MESH0009", "object": "Gateway/default/a", "field": "spec.servers[0].port.name", "message": "contains has no effect" }),
        ];
        let case = serde_json::json!({ "config": config, "diagnostics": refusals });
        let paths = |told: &Told| told.iter().map(|((_, path), what)| format!("{path} {what}")).collect::<Vec<_>>();
        let all = found(&case, &known);
        assert_eq!(
            paths(&all.told),
            ["servers[].port.name no effect", "servers[].port.targetPort refused", "servers[].tls.mode refused"]
        );
        assert_eq!(all.fields.len(), 7);
        let applied = serde_json::json!({ "steps": [{ "apply": config }], "diagnostics": refusals });
        assert_eq!(paths(&found(&applied, &known).told), Vec::<String>::new());
    }

    #[test]
    fn rows_of_what_is_not_built_are_read() {
        let rows = not_built(
            "    row(GW, \"spec.a[].b\", Present, \"things\"),\n    row(SC, \"$policy.x\", Present, \"x\"),\n    row(GW, \"spec.c\", Is(&[\"V\"]), \"values\"),\n    row(\n        WE,\n        \"spec.d\",\n        Present,\n        \"d\",\n    )\n    .instead(\"e\"),\n",
        );
        let fields: Vec<(&str, &str, &str)> =
            rows.iter().map(|((kind, path), what)| (kind.as_str(), path.as_str(), what.as_str())).collect();
        assert_eq!(fields, [("Gateway", "a[].b", "things"), ("Sidecar", "$pool.x", "x"), ("WorkloadEntry", "d", "d")]);
    }
}

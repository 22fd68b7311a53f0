//! What others say of the same objects: `MESHGATE_CASES=<folder> cargo test -p mesh-core --test translate analysis -- --nocapture`
//! compares codes and objects with `<folder>/analysis/index.yaml`, and prints the share that agrees, and why what does not does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_core::analyze::analyze;
use mesh_core::compile::compile;
use mesh_core::diag::{Diagnostic, istio_code};
use mesh_core::model::{ProxyInfo, Role};
use mesh_core::translate::translate;
use mesh_core::world::World;
use mesh_core::{api, certificate};
use serde_json::Value;

/// Which codes an analyzer of Istio's gives; what is not here is about kinds that are not read.
const ANALYZERS: &[(&str, &[&str])] = &[
    ("gateway.IngressGatewayPortAnalyzer", &["IST0101", "IST0162"]),
    ("gateway.SecretAnalyzer", &["IST0161"]),
    ("gateway.ConflictingGatewayAnalyzer", &["IST0145"]),
    ("gateway.CertificateAnalyzer", &["IST0138"]),
    ("sidecar.SelectorAnalyzer", &["IST0101", "IST0110", "IST0111"]),
    ("virtualservice.ConflictingMeshGatewayHostsAnalyzer", &["IST0109"]),
    ("virtualservice.DestinationHostAnalyzer", &["IST0101", "IST0112"]),
    ("virtualservice.DestinationRuleAnalyzer", &["IST0101"]),
    ("virtualservice.GatewayAnalyzer", &["IST0101", "IST0132"]),
    ("virtualservice.JWTClaimRouteAnalyzer", &["IST0149"]),
    ("destinationrule.CaCertificateAnalyzer", &["IST0128", "IST0129"]),
    ("destinationrule.PodNotSelectedAnalyzer", &["IST0173"]),
    ("serviceentry.ProtocolAddressesAnalyzer", &["IST0134"]),
    ("serviceentry.ConflictingServiceEntryProtocolAnalyzer", &["IST0177"]),
    ("schemaValidation.CollectionValidationAnalyzer(Sym(collections.VirtualService))", &["IST0130", "IST0131"]),
];

/// Where we say something else on purpose.
const REASONS: &[(&str, &str)] = &[
    ("IST0128", "certificates are verified with the system's CAs where a DestinationRule names none"),
    ("IST0129", "certificates are verified with the system's CAs where a DestinationRule names none"),
    ("IST0138", "requests on another server's connection are answered 421, and clients try again"),
    ("IST0134", "addresses are given automatically to who asks for names"),
    ("IST0109", "the older one's rules count: the younger one alone is named"),
    ("IST0110", "the older one counts: the younger one alone is named"),
    ("IST0145", "servers of several Gateways are merged; only what cannot be is named"),
];

#[test]
fn analysis() {
    let Ok(folder) = std::env::var("MESHGATE_CASES") else { return };
    let folder = Path::new(&folder).join("analysis");
    let text = std::fs::read_to_string(folder.join("index.yaml")).unwrap();
    let rows: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    let (mut agree, mut foreign) = (0, 0);
    let (mut expected_all, mut found_all) = (0, 0);
    for row in &rows {
        let analyzer = row["analyzer"].as_str().unwrap();
        let Some((_, codes)) = ANALYZERS.iter().find(|(name, _)| *name == analyzer) else {
            foreign += 1;
            continue;
        };
        let expected: BTreeSet<(String, String)> =
            row["expect"].as_array().unwrap().iter().map(|one| (word(&one["code"]), word(&one["object"]))).collect();
        let found = found(&folder, row, codes);
        expected_all += expected.len();
        found_all += expected.intersection(&found).count();
        if expected == found {
            agree += 1;
            continue;
        }
        println!("{}", row["id"].as_str().unwrap());
        let reason = |code: &str| REASONS.iter().find(|(of, _)| *of == code).map_or("", |(_, reason)| reason);
        expected
            .difference(&found)
            .for_each(|(code, object)| println!("  not said: {code} {object}  {}", reason(code)));
        found.difference(&expected).for_each(|(code, object)| println!("  said: {code} {object}  {}", reason(code)));
    }
    let known = rows.len() - foreign;
    println!(
        "analysis: {agree} of {known} rows agree ({foreign} are about kinds that are not read); {found_all} of {expected_all} findings are said"
    );
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Code and object, of an edge and of a sidecar in every namespace.
fn found(folder: &Path, row: &Value, codes: &[&str]) -> BTreeSet<(String, String)> {
    let mut objects = Vec::new();
    for input in row["inputs"].as_array().unwrap() {
        let text = std::fs::read_to_string(folder.join("inputs").join(input.as_str().unwrap())).unwrap();
        objects.extend(api::parse("input.yaml", &text, "default").objects);
    }
    let named = row["expect"].as_array().unwrap().iter().map(|one| word(&one["object"])).collect::<Vec<_>>();
    let namespaces: BTreeSet<String> = objects.iter().map(|object| object.meta.namespace.clone()).collect();
    let world = World::from_objects(objects);
    let mut proxies = vec![super::ingress()];
    let selectors = world.virtual_services().flat_map(|entry| {
        entry.spec.gateways.iter().map(|name| mesh_core::world::gateway_name(name, entry.namespace()))
    });
    for name in selectors.collect::<BTreeSet<_>>() {
        let gateway = name.split_once('/').and_then(|(namespace, name)| world.gateway(namespace, name));
        proxies.extend(gateway.map(|gateway| ProxyInfo::edge("edge", "istio-system", gateway.spec.selector.clone())));
    }
    for namespace in &namespaces {
        proxies.push(ProxyInfo { role: Role::Sidecar, ..ProxyInfo::edge("sidecar", namespace, BTreeMap::new()) });
    }
    let mut all: Vec<Diagnostic> = Vec::new();
    for proxy in &proxies {
        let translation = translate(&world, proxy);
        let snapshot = compile(&translation.set, None, 1).snapshot;
        let mut diagnostics = translation.diagnostics;
        analyze(&world, &translation.set, &snapshot, None, &mut diagnostics);
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_790_000_000);
        diagnostics.extend(certificate::check_secrets(&translation.set, now, &provider));
        all.extend(diagnostics);
    }
    let said = all.iter().filter_map(|diagnostic| {
        let code = istio_code(diagnostic.code).filter(|code| codes.contains(code))?;
        let object = diagnostic.object.as_ref()?;
        // An input without namespace is named without.
        let short = format!("{} {}", object.kind, object.name);
        let long = format!("{} {}/{}", object.kind, object.namespace, object.name);
        Some((
            code.to_owned(),
            if named.contains(&short) || *object.namespace == *"default" && !named.contains(&long) {
                short
            } else {
                long
            },
        ))
    });
    said.collect()
}

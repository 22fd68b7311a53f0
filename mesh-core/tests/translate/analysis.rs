//! What others say of the same objects: `MESHGATE_CASES=<folder> cargo test -p mesh-core --test translate analysis -- --nocapture`
//! compares codes and objects with `<folder>/analysis/index.yaml`, and prints the share that agrees, and why what does not does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_core::analyze::{analyze, analyze_objects};
use mesh_core::compile::compile;
use mesh_core::diag::{self, Code, Diagnostic, istio_code};
use mesh_core::model::{ProxyInfo, Role};
use mesh_core::object::ObjectRef;
use mesh_core::translate::translate;
use mesh_core::world::World;
use mesh_core::{api, certificate};
use serde_json::Value;

/// Which of our codes an analyzer of Istio's would give; what is not here is about kinds that are not read.
const ANALYZERS: &[(&str, &[Code])] = &[
    ("gateway.IngressGatewayPortAnalyzer", &[diag::SELECTOR_EMPTY, diag::GATEWAY_PORT_WITHOUT_SERVICE]),
    ("gateway.SecretAnalyzer", &[diag::SECRET_WITHOUT_KEYS, diag::CERTIFICATE_UNUSABLE]),
    ("gateway.ConflictingGatewayAnalyzer", &[]),
    ("gateway.CertificateAnalyzer", &[]),
    (
        "sidecar.SelectorAnalyzer",
        &[diag::SELECTOR_EMPTY, diag::SIDECAR_OVERLAP, diag::SIDECAR_SHARED, diag::SIDECAR_DUPLICATE],
    ),
    ("virtualservice.ConflictingMeshGatewayHostsAnalyzer", &[diag::HOST_TAKEN, diag::HOST_CONTESTED]),
    (
        "virtualservice.DestinationHostAnalyzer",
        &[diag::DESTINATION_HOST_UNKNOWN, diag::DESTINATION_PORT_UNKNOWN, diag::DESTINATION_PORT_OPEN],
    ),
    ("virtualservice.DestinationRuleAnalyzer", &[diag::DESTINATION_SUBSET_UNKNOWN]),
    ("virtualservice.GatewayAnalyzer", &[diag::GATEWAY_UNKNOWN, diag::HOST_NOT_IN_GATEWAY]),
    ("virtualservice.JWTClaimRouteAnalyzer", &[diag::CLAIMS_WITHOUT_AUTHENTICATION]),
    ("destinationrule.CaCertificateAnalyzer", &[]),
    ("destinationrule.PodNotSelectedAnalyzer", &[diag::SUBSET_WITHOUT_ENDPOINTS]),
    ("serviceentry.ProtocolAddressesAnalyzer", &[]),
    ("serviceentry.ConflictingServiceEntryProtocolAnalyzer", &[diag::PROTOCOL_CONFLICT]),
    (
        "schemaValidation.CollectionValidationAnalyzer(Sym(collections.VirtualService))",
        &[diag::RULE_UNREACHABLE, diag::MATCH_INEFFECTIVE],
    ),
];

/// Where we say something else on purpose.
const REASONS: &[(&str, &str)] = &[
    ("IST0128", "certificates are verified with the system's CAs where a DestinationRule names none"),
    ("IST0129", "certificates are verified with the system's CAs where a DestinationRule names none"),
    ("IST0138", "requests on another server's connection are answered 421, and clients try again"),
    ("IST0173", "where no workload of the service is known nothing is said of its subsets"),
    ("IST0134", "addresses are given automatically to who asks for names"),
    ("IST0112", "the port that a sidecar would take is known not to be there (IST0101)"),
    ("IST0131", "said of the whole rule, or of rules that are not in force: another object has the host"),
    ("IST0161", "another server has the host, so that its secret is not looked at"),
    ("IST0145", "servers of several Gateways are merged; only what cannot be is named"),
];

#[test]
fn analysis() {
    let Ok(folder) = std::env::var("MESHGATE_CASES") else { return };
    let folder = Path::new(&folder).join("analysis");
    let text = std::fs::read_to_string(folder.join("index.yaml")).unwrap();
    let rows: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    let (mut agree, mut foreign) = (0, 0);
    let (mut expected_all, mut found_all, mut refused_all) = (0, 0, 0);
    for row in &rows {
        let analyzer = row["analyzer"].as_str().unwrap();
        let Some((_, codes)) = ANALYZERS.iter().find(|(name, _)| *name == analyzer) else {
            foreign += 1;
            continue;
        };
        let expected: BTreeSet<(String, String)> =
            row["expect"].as_array().unwrap().iter().map(|one| (word(&one["code"]), word(&one["object"]))).collect();
        let (found, refused) = found(&folder, row, codes);
        let (refused, expected): (BTreeSet<_>, BTreeSet<_>) =
            expected.into_iter().partition(|(_, object)| refused.iter().any(|name| object.ends_with(name)));
        refused_all += refused.len();
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
        "analysis: {agree} of {known} rows agree ({foreign} are about kinds that are not read); {found_all} of {expected_all} findings are said; {refused_all} more are about objects that are refused before"
    );
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Code and object, of an edge and of a sidecar in every namespace; and what cannot be read.
fn found(folder: &Path, row: &Value, codes: &[Code]) -> (BTreeSet<(String, String)>, Vec<String>) {
    let (mut objects, mut refused) = (Vec::new(), Vec::new());
    for input in row["inputs"].as_array().unwrap() {
        let text = std::fs::read_to_string(folder.join("inputs").join(input.as_str().unwrap())).unwrap();
        let parsed = api::parse("input.yaml", &text, "default");
        objects.extend(parsed.objects);
        let is_there = |name: &ObjectRef| objects.iter().any(|object: &api::ApiObject| object.object_ref() == *name);
        let names = parsed.diagnostics.into_iter().filter_map(|said| said.object);
        refused.extend(names.filter(|name| !is_there(name)).map(|name| name.name.to_string()));
    }
    let named = row["expect"].as_array().unwrap().iter().map(|one| word(&one["object"])).collect::<Vec<_>>();
    let namespaces: BTreeSet<String> = objects.iter().map(|object| object.meta.namespace.clone()).collect();
    let of_kind = |object: &&api::ApiObject| matches!(object.spec, api::Spec::Gateway(_));
    let gateways =
        objects.iter().filter(of_kind).map(|object| (object.meta.namespace.clone(), object.meta.name.clone()));
    let gateways: BTreeSet<_> = gateways.collect();
    let world = World::from_objects(objects);
    let mut proxies = vec![super::ingress()];
    for (namespace, name) in gateways {
        let gateway = world.gateway(&namespace, &name);
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
        // As `meshctl` has it: what another namespace does not see says nothing.
        let is_others = |said: &Diagnostic| said.object.as_ref().is_some_and(|of| *of.namespace != *proxy.namespace);
        diagnostics.retain(|said| {
            proxy.role == Role::Edge || said.code != diag::DESTINATION_HOST_UNKNOWN.id || !is_others(said)
        });
        analyze(&world, &translation.set, &snapshot, None, &mut diagnostics);
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_790_000_000);
        diagnostics.extend(certificate::check_secrets(&translation.set, now, &provider));
        all.extend(diagnostics);
    }
    analyze_objects(&world, &mut all);
    let said = all.iter().filter_map(|diagnostic| {
        let code = istio_code(diagnostic.code).filter(|_| codes.iter().any(|code| code.id == diagnostic.code))?;
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
    (said.collect(), refused)
}

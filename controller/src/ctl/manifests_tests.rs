#![allow(clippy::unwrap_used, clippy::panic)]
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").canonicalize().unwrap()
}

fn names(profile: Profile) -> String {
    let names: Vec<String> =
        manifests(profile).unwrap().iter().map(|object| Name::of(object).unwrap().to_string()).collect();
    names.join("\n")
}

/// Follows the kustomizations on the disk: which files they lead to, and what is in them.
fn follow(folder: &Path, files: &mut BTreeSet<PathBuf>, objects: &mut Vec<Value>) {
    let path = folder.join("kustomization.yaml");
    let kustomization: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let keys: Vec<&String> = kustomization.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["apiVersion", "kind", "resources"], "{}", path.display());
    files.insert(path);
    for resource in kustomization["resources"].as_array().unwrap() {
        let path = folder.join(resource.as_str().unwrap()).canonicalize().unwrap();
        if path.is_dir() {
            follow(&path, files, objects);
        } else {
            let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap()).unwrap();
            objects.extend(documents);
            files.insert(path);
        }
    }
}

#[test]
fn a_profile_is_what_its_kustomization_leads_to() {
    let mut files = BTreeSet::new();
    for profile in Profile::value_variants() {
        let mut expected = Vec::new();
        follow(&deploy().join("profiles").join(profile.name()), &mut files, &mut expected);
        let mut objects: Vec<Value> =
            manifests(*profile).unwrap().iter().map(|object| serde_json::to_value(object).unwrap()).collect();
        expected.sort_by_key(Value::to_string);
        objects.sort_by_key(Value::to_string);
        assert!(objects == expected, "{profile:?}");
    }
    // For namespaces of gateways, which no profile can name.
    let made = [("gateway-namespace", of_gateway_namespace("istio-ingress")), ("acme", of_acme("istio-ingress"))];
    for (folder, objects) in made {
        let mut expected = Vec::new();
        follow(&deploy().join(folder), &mut files, &mut expected);
        let objects = objects.unwrap();
        assert_eq!(objects.len(), expected.len());
        for object in objects {
            assert_eq!(object.labels().get(PART_OF.0).map(String::as_str), Some(PART_OF.1));
            assert_eq!(object.metadata.namespace.as_deref(), Some("istio-ingress"));
        }
    }
    // Nothing is carried along that nobody needs.
    let paths: BTreeSet<PathBuf> = FILES.iter().map(|(path, _)| deploy().join(path)).collect();
    assert_eq!(paths, files);
    let folders: BTreeSet<String> = std::fs::read_dir(deploy().join("profiles"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, Profile::value_variants().iter().map(|profile| profile.name().to_owned()).collect());
}

#[test]
fn all_that_is_ours_is_found_by_its_label_and_in_one_namespace() {
    for profile in Profile::value_variants() {
        for object in manifests(*profile).unwrap() {
            let name = Name::of(&object).unwrap();
            assert_eq!(object.labels().get(PART_OF.0).map(String::as_str), Some(PART_OF.1), "{name}");
            assert!(name.namespace.as_deref().is_none_or(|namespace| namespace == NAMESPACE), "{name}");
        }
    }
}

#[test]
fn profiles() {
    insta::assert_snapshot!(names(Profile::Minimal), @r"
    Namespace/meshgate-system
    CustomResourceDefinition/gateways.networking.istio.io
    CustomResourceDefinition/virtualservices.networking.istio.io
    CustomResourceDefinition/destinationrules.networking.istio.io
    CustomResourceDefinition/serviceentries.networking.istio.io
    CustomResourceDefinition/workloadentries.networking.istio.io
    CustomResourceDefinition/sidecars.networking.istio.io
    CustomResourceDefinition/authorizationpolicies.security.istio.io
    CustomResourceDefinition/requestauthentications.security.istio.io
    CustomResourceDefinition/peerauthentications.security.istio.io
    CustomResourceDefinition/ratelimits.meshgate.io
    ServiceAccount/meshgate-system/meshgate-controller
    ClusterRole/meshgate-controller
    ClusterRoleBinding/meshgate-controller
    Role/meshgate-system/meshgate-controller
    RoleBinding/meshgate-system/meshgate-controller
    Service/meshgate-system/meshgate-controller
    Deployment/meshgate-system/meshgate-controller
    PodDisruptionBudget/meshgate-system/meshgate-controller
    NetworkPolicy/meshgate-system/meshgate-controller
    ValidatingWebhookConfiguration/meshgate-validator
    MutatingWebhookConfiguration/meshgate-sidecar-injector
    ");
    let default = names(Profile::Default);
    let more: Vec<&str> = default.strip_prefix(&names(Profile::Minimal)).unwrap().trim_start().lines().collect();
    insta::assert_snapshot!(more.join("\n"), @r"
    ServiceAccount/meshgate-system/istio-ingressgateway
    Service/meshgate-system/istio-ingressgateway
    Deployment/meshgate-system/istio-ingressgateway
    PodDisruptionBudget/meshgate-system/istio-ingressgateway
    NetworkPolicy/meshgate-system/istio-ingressgateway
    HorizontalPodAutoscaler/meshgate-system/istio-ingressgateway
    ");
    let demo = names(Profile::Demo);
    let other: Vec<&str> = demo.lines().filter(|line| !default.contains(line)).collect();
    assert_eq!(other, ["ConfigMap/meshgate-system/istio"]);
    let absent: Vec<&str> = default.lines().filter(|line| !demo.contains(line)).collect();
    assert_eq!(absent, ["HorizontalPodAutoscaler/meshgate-system/istio-ingressgateway"]);
}

/// Who orders no certificates gets by without: only its own root may be written again, and nothing of gateways.
#[test]
fn secrets_are_written_only_by_who_orders_certificates() {
    let verbs = |objects: Vec<DynamicObject>| -> Vec<String> {
        let objects: Vec<Value> = objects.iter().map(|object| serde_json::to_value(object).unwrap()).collect();
        let rules = objects.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten());
        let secrets = rules.filter(|rule| rule["resources"].as_array().unwrap().contains(&"secrets".into()));
        let told = |rule: &Value| format!("{} {}", rule["verbs"], rule["resourceNames"]);
        secrets.map(told).collect()
    };
    for profile in Profile::value_variants() {
        let system = [r#"["get","list","watch","create"] null"#, r#"["update"] ["meshgate-ca-secret"]"#];
        assert_eq!(verbs(manifests(*profile).unwrap()), system);
    }
    assert_eq!(verbs(of_gateway_namespace("a").unwrap()), [r#"["list","watch"] null"#]);
    assert_eq!(verbs(of_acme("a").unwrap()), [r#"["get","create","update"] null"#]);
}

/// A policy lets in what a container listens on, and nothing else; the Service leads to nothing else.
#[test]
fn network_policies_fit_the_ports() {
    let objects: Vec<Value> =
        manifests(Profile::Default).unwrap().iter().map(|object| serde_json::to_value(object).unwrap()).collect();
    let of = |kind: &str, name: &str| {
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap()
    };
    for name in ["meshgate-controller", "istio-ingressgateway"] {
        let deployment = of("Deployment", name);
        let policy = of("NetworkPolicy", name);
        let numbers = |list: &Value, key: &str| -> BTreeSet<u64> {
            list.as_array().unwrap().iter().map(|port| port[key].as_u64().or(port["port"].as_u64()).unwrap()).collect()
        };
        let container = numbers(&deployment["spec"]["template"]["spec"]["containers"][0]["ports"], "containerPort");
        assert_eq!(numbers(&policy["spec"]["ingress"][0]["ports"], "port"), container, "{name}");
        assert_eq!(numbers(&of("Service", name)["spec"]["ports"], "targetPort"), container, "{name}");
        assert_eq!(policy["spec"]["podSelector"], deployment["spec"]["selector"], "{name}");
    }
}

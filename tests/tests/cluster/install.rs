//! `meshctl install` and its way back, on a cluster where no pods run.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::process::{binary, repository};
use serde_json::Value;

use super::*;

/// A namespace of somebody else.
const OTHER: &str = "installed-other";
const OURS: &str = "app.kubernetes.io/part-of=meshgate";
/// Everything that an installation may leave anywhere.
const KINDS: &str = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,\
    serviceaccounts,services,deployments,poddisruptionbudgets,horizontalpodautoscalers,networkpolicies,roles,rolebindings,\
    configmaps,secrets,leases";

pub(super) struct Said {
    code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

pub(super) fn meshctl_with(kubeconfig: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(binary().unwrap().with_file_name("meshctl"))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub(super) fn meshctl(arguments: &[&str]) -> Said {
    meshctl_with(Path::new(&std::env::var_os("KUBECONFIG").unwrap()), arguments)
}

impl Said {
    pub(super) fn ends_with(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    /// Lines about objects that end so; lines of fields are not about objects.
    fn lines(&self, word: &str) -> Vec<&str> {
        self.out.lines().filter(|line| !line.starts_with(' ') && line.ends_with(word)).collect()
    }
}

/// Nothing of an installation, whoever made it.
fn clean() {
    meshctl(&["uninstall", "--purge", "-y"]).ends_with(0);
    kubectl(&["delete", "namespace", SYSTEM, OTHER, "--ignore-not-found", "--wait"], "").unwrap();
}

/// All that has our label, and how the API server counts its changes. What has a status is written by others too: there it is
/// the generation that counts, or, where there is none, what is wanted.
fn versions() -> BTreeMap<String, String> {
    let list = kubectl(&["get", KINDS, "-A", "-l", OURS, "-o", "json"], "").unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let version = |object: &Value| {
        let metadata = &object["metadata"];
        let name = format!("{}/{}/{}", object["kind"], metadata["namespace"], metadata["name"]);
        let count = match (object["status"].is_object(), metadata["generation"].is_number()) {
            (false, _) => &metadata["resourceVersion"],
            (true, true) => &metadata["generation"],
            (true, false) => &object["spec"],
        };
        (name, count.to_string())
    };
    list["items"].as_array().unwrap().iter().map(version).collect()
}

fn there(kind: &str, name: &str, namespace: &str) -> bool {
    !kubectl(&["get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "name"], "").unwrap().is_empty()
}

/// Kustomize writes `0.0` as `0`.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        value => value,
    }
}

fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let mut documents: Vec<Value> = documents.into_iter().map(plain).collect();
    documents.sort_by_key(|document| {
        format!("{} {} {}", document["kind"], document["metadata"]["namespace"], document["metadata"]["name"])
    });
    documents
}

#[test]
fn kustomize_makes_the_same_objects() {
    let Some(_) = cluster::folder() else { return };
    for profile in ["minimal", "default", "demo"] {
        let folder = repository().join("deploy/profiles").join(profile);
        let theirs = kubectl(&["kustomize", &folder.to_string_lossy()], "").unwrap();
        let ours = meshctl_with(Path::new("/none"), &["install", "--profile", profile, "-o", "yaml"]).ends_with(0);
        assert!(documents(&theirs) == documents(&ours.out), "{profile}");
    }
}

#[test]
fn into_an_empty_cluster_and_again() {
    let Some(_) = cluster::folder() else { return };
    clean();
    let dry = meshctl(&["install", "--dry-run"]).ends_with(0);
    let count = dry.lines(" would be created").len();
    assert_eq!((count, dry.out.lines().count()), (count, count), "{}", dry.out);
    assert_eq!(versions(), BTreeMap::new());

    let first = meshctl(&["install", "--wait=false"]).ends_with(0);
    assert_eq!(first.lines(" created").len(), count, "{}", first.out);
    let before = versions();
    assert_eq!(before.len(), count);
    let second = meshctl(&["install", "--wait=false"]).ends_with(0);
    assert_eq!(second.lines(" unchanged").len(), count, "{}", second.out);
    assert_eq!(versions(), before);
    // Under another manager it is the same: nothing is in anybody's way.
    let folder = repository().join("deploy/profiles/default");
    kubectl(&["apply", "--server-side", "-k", &folder.to_string_lossy()], "").unwrap();
    let third = meshctl(&["install", "--wait=false"]).ends_with(0);
    assert_eq!(third.lines(" unchanged").len(), count, "{}", third.out);

    let check = meshctl(&["precheck"]).ends_with(0);
    let own = format!("{count} objects are of an installation that is brought to this version");
    assert!(check.out.contains(&own), "{}", check.out);

    // No pods run here, which is said.
    let late = meshctl(&["install", "--timeout", "1s"]).ends_with(1);
    assert!(late.err.contains("Deployment/meshgate-system/istio-ingressgateway: 0/1 replicas ready"), "{}", late.err);
    assert!(late.err.contains("not ready after 1 s"), "{}", late.err);
    let version = meshctl(&["version", "--short"]).ends_with(1);
    assert!(version.out.starts_with("client version: "), "{}", version.out);
    assert!(version.err.contains("no pod of deployment meshgate-system/meshgate-controller runs"), "{}", version.err);
}

#[test]
fn values_and_profiles_change_what_they_name() {
    let Some(_) = cluster::folder() else { return };
    clean();
    meshctl(&["install", "--wait=false"]).ends_with(0);
    let set = ["install", "--wait=false", "--set", "controller.replicas=2"];
    let dry = meshctl(&[&set[..], &["--dry-run"]].concat()).ends_with(0);
    let change = "Deployment/meshgate-system/meshgate-controller would be changed\n    spec.replicas: 1 -> 2\n";
    assert!(dry.out.contains(change), "{}", dry.out);
    let changed = meshctl(&set).ends_with(0);
    assert_eq!(
        changed.lines(" changed"),
        ["Deployment/meshgate-system/meshgate-controller changed"],
        "{}",
        changed.out
    );
    assert_eq!(changed.lines(" created").len(), 0);

    // What somebody else has set is not taken from him in silence.
    let patch = ["patch", "deployment", "meshgate-controller", "-n", SYSTEM, "--field-manager", "somebody"];
    kubectl(&[&patch[..], &["-p", "{\"spec\":{\"replicas\":3}}"]].concat(), "").unwrap();
    let refused = meshctl(&set).ends_with(1);
    for word in ["Deployment/meshgate-system/meshgate-controller", "somebody", ".spec.replicas", "--force-conflicts"] {
        assert!(refused.err.contains(word), "{}", refused.err);
    }
    let forced = meshctl(&[&set[..], &["--force-conflicts"]].concat()).ends_with(0);
    assert!(forced.out.contains("spec.replicas: 3 -> 2"), "{}", forced.out);

    // Another profile: what it has not is named, and removed when that is said.
    let minimal = ["install", "--wait=false", "--profile", "minimal", "--set", "controller.replicas=2"];
    let named = meshctl(&minimal).ends_with(0);
    let gateway = "Deployment/meshgate-system/istio-ingressgateway";
    assert!(
        named.err.contains(&format!("{gateway} is installed and not part of this; --prune removes it")),
        "{}",
        named.err
    );
    assert!(there("deployment", "istio-ingressgateway", SYSTEM));
    let pruned = meshctl(&[&minimal[..], &["--prune"]].concat()).ends_with(0);
    assert!(pruned.lines(" removed").contains(&&*format!("{gateway} removed")), "{}", pruned.out);
    let begun = Instant::now();
    while there("deployment", "istio-ingressgateway", SYSTEM) {
        assert!(begun.elapsed() < DEADLINE, "it stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(there("deployment", "meshgate-controller", SYSTEM));
}

#[test]
fn namespaces_of_gateways_must_be_there_and_stay() {
    let Some(_) = cluster::folder() else { return };
    clean();
    let plain = ["install", "--wait=false", "--profile", "minimal", "--prune"];
    let value = format!("gateway.namespaces={OTHER}");
    let set = [&plain[..], &["--set", &value]].concat();
    let absent = format!("namespace `{OTHER}` does not exist");
    let refused = meshctl(&set).ends_with(64);
    assert!(refused.err.contains(&absent), "{}", refused.err);
    assert_eq!(versions(), BTreeMap::new());
    let found = meshctl(&["precheck", "--profile", "minimal", "--set", &value]).ends_with(79);
    assert!(found.out.contains(&absent), "{}", found.out);

    apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {OTHER}}}\n")).unwrap();
    meshctl(&set).ends_with(0);
    let before = versions();
    let again = meshctl(&plain).ends_with(0);
    assert!(again.err.contains(&format!("{value} stays")), "{}", again.err);
    assert_eq!(versions(), before, "{}", again.out);

    let emptied = meshctl(&[&plain[..], &["--set", "gateway.namespaces="]].concat()).ends_with(0);
    let rights = ["Role", "RoleBinding"].map(|kind| format!("{kind}/{OTHER}/meshgate-gateway-secrets removed"));
    assert_eq!(emptied.lines(" removed"), rights, "{}", emptied.out);
    assert!(emptied.out.contains(&format!("--gateway-namespaces={OTHER}")), "{}", emptied.out);
    kubectl(&["delete", "namespace", OTHER], "").unwrap();
}

#[test]
fn out_again_without_what_is_not_ours() {
    let Some(_) = cluster::folder() else { return };
    clean();
    meshctl(&["install", "--wait=false", "--profile", "demo"]).ends_with(0);
    // What the controller would write; the same of Istio's; what only has our label.
    let root = |namespace: &str, name: &str, label: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{label}}}}}\n---\n"
        )
    };
    let label = OURS.replace('=', ": ");
    apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {OTHER}}}\n---\n{}{}{}{}",
        root(OTHER, "istio-ca-root-cert", &label),
        root("default", "istio-ca-root-cert", "istio.io/config: 'true'"),
        root(OTHER, "mine", &label),
        root(SYSTEM, "mine", &label),
    ))
    .unwrap();
    apply(&route("v1", "kept.example", "x")).unwrap();

    meshctl(&["uninstall"]).ends_with(0);
    assert!(there("virtualservice", "kept-example", "default"));
    assert!(there("configmap", "mine", SYSTEM) && there("configmap", "istio-ca-root-cert", OTHER));
    assert!(!there("configmap", "istio", SYSTEM) && !there("deployment", "meshgate-controller", SYSTEM));
    assert!(!there("clusterrole", "meshgate-controller", SYSTEM));

    // The users' objects go with the definitions: that has to be said.
    let refused = meshctl(&["uninstall", "--purge"]).ends_with(64);
    assert!(refused.err.contains("virtualservices.networking.istio.io takes along 1 object"), "{}", refused.err);
    assert!(refused.err.contains("ConfigMap/meshgate-system/mine"), "{}", refused.err);
    assert!(there("virtualservice", "kept-example", "default"));
    meshctl(&["uninstall", "--purge", "-y"]).ends_with(0);
    let left: Vec<String> = versions().into_keys().collect();
    assert_eq!(left, [format!("\"ConfigMap\"/\"{OTHER}\"/\"mine\"")]);
    assert!(!there("namespace", SYSTEM, SYSTEM));
    assert!(there("configmap", "istio-ca-root-cert", "default"));
    let again = meshctl(&["uninstall", "--purge", "-y"]).ends_with(0);
    assert_eq!(again.out, "Nothing that could be removed is installed.\n");
    kubectl(&["delete", "configmap", "istio-ca-root-cert", "-n", "default"], "").unwrap();
    kubectl(&["delete", "namespace", OTHER], "").unwrap();
}

/// As another control plane defines it, and who did.
fn foreign(plural: &str, kind: &str) {
    let crd = serde_json::json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.networking.istio.io"), "labels": { "app.kubernetes.io/part-of": "istio" } },
        "spec": {
            "group": "networking.istio.io",
            "scope": "Namespaced",
            "names": { "kind": kind, "plural": plural, "listKind": format!("{kind}List"), "singular": kind.to_lowercase() },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    });
    kubectl(&["create", "--field-manager", "theirs", "-f", "-"], &crd.to_string()).unwrap();
}

#[test]
fn definitions_of_others_are_taken_over_only_when_that_is_said_and_never_removed() {
    let Some(_) = cluster::folder() else { return };
    clean();
    foreign("virtualservices", "VirtualService");
    foreign("gateways", "Gateway");
    let names =
        ["gateways", "virtualservices"].map(|kind| format!("CustomResourceDefinition/{kind}.networking.istio.io"));
    // All that is in the way, and nothing is done.
    for line in [&["install"][..], &["install", "--dry-run"]] {
        let refused = meshctl(line).ends_with(1);
        for name in &names {
            assert!(refused.err.contains(&format!("    {name}: theirs has set ")), "{}", refused.err);
        }
        for word in
            ["nothing was changed", ".spec.versions", "--force-conflicts sets these fields", "`uninstall` leaves"]
        {
            assert!(refused.err.contains(word), "{}", refused.err);
        }
        assert_eq!(refused.out, "");
    }
    assert_eq!(versions(), BTreeMap::new());
    assert!(!there("namespace", SYSTEM, SYSTEM));

    let forced = meshctl(&["install", "--wait=false", "--force-conflicts"]).ends_with(0);
    for name in &names {
        assert!(forced.err.contains(&format!("{name} was made by somebody else")), "{}", forced.err);
    }
    let again = meshctl(&["install", "--wait=false"]).ends_with(0);
    assert!(again.lines(" changed").is_empty() && again.lines(" created").is_empty(), "{}", again.out);
    let short =
        kubectl(&["get", "crd", "virtualservices.networking.istio.io", "-o", "jsonpath={.spec.names.shortNames}"], "");
    assert_eq!(short.unwrap(), "[\"vs\"]");

    let purged = meshctl(&["uninstall", "--purge", "-y"]).ends_with(0);
    assert!(
        purged.out.contains(&format!("To stay, for somebody else made it: {}", names.join(", "))),
        "{}",
        purged.out
    );
    for kind in ["gateways", "virtualservices"] {
        assert!(there("crd", &format!("{kind}.networking.istio.io"), SYSTEM));
    }
    assert!(!there("crd", "destinationrules.networking.istio.io", SYSTEM));
    kubectl(&["delete", "crd", "gateways.networking.istio.io", "virtualservices.networking.istio.io"], "").unwrap();
}

#[test]
fn what_is_in_the_way_is_found_before() {
    let Some(_) = cluster::folder() else { return };
    clean();
    let fine = meshctl(&["precheck"]).ends_with(0);
    assert!(fine.out.ends_with("\nMeshgate can be installed.\n"), "{}", fine.out);
    kubectl(&["create", "clusterrole", "meshgate-controller", "--verb", "get", "--resource", "pods"], "").unwrap();
    let taken = meshctl(&["precheck"]).ends_with(79);
    kubectl(&["delete", "clusterrole", "meshgate-controller"], "").unwrap();
    assert!(
        taken.out.contains("ClusterRole/meshgate-controller exists (kubectl-create), and is not ours"),
        "{}",
        taken.out
    );

    // Somebody without rights.
    let folder = tempfile::tempdir().unwrap();
    apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {OTHER}}}\n---\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: nobody, namespace: {OTHER}}}\n"
    ))
    .unwrap();
    let kubeconfig = kubeconfig_of(folder.path(), "nobody", OTHER);
    let denied = meshctl_with(&kubeconfig, &["precheck", "-o", "json"]).ends_with(79);
    let findings: Value = serde_json::from_str(&denied.out).unwrap();
    let problems: Vec<&str> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["state"] == "problem")
        .map(|finding| finding["message"].as_str().unwrap())
        .collect();
    let rights = "you may not create, get, list, patch deployments.apps in meshgate-system";
    assert!(problems.contains(&rights), "{problems:#?}");
    let refused = meshctl_with(&kubeconfig, &["install", "--wait=false"]).ends_with(1);
    assert!(
        refused.err.contains("Deployment/meshgate-system/meshgate-controller: the API server: "),
        "{}",
        refused.err
    );
    kubectl(&["delete", "namespace", OTHER], "").unwrap();
}

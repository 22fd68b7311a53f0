//! What `meshctl` says of a cluster that has what it cannot do yet, or does not show all that it has.

use super::install::{meshctl, meshctl_with};
use super::*;

const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: analyzed}
spec: {mtls: {mode: STRICT}}
";

/// As Istio has it, as far as it matters here.
const TELEMETRIES: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: telemetries.telemetry.istio.io}
spec:
  group: telemetry.istio.io
  scope: Namespaced
  names: {kind: Telemetry, plural: telemetries}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_no_trouble_and_what_cannot_be_seen_is_not_missing() {
    let Some(_) = cluster::folder() else { return };
    define().unwrap();
    apply(TELEMETRIES).unwrap();
    apply_namespace("analyzed").unwrap();
    meshctl(&["analyze", "-n", "analyzed"]).ends_with(0);
    apply(STRICT).unwrap();
    meshctl(&["analyze", "-n", "analyzed"]).ends_with(0);

    kubectl(&["delete", "peerauthentication", "strict", "-n", "analyzed"], "").unwrap();

    // Who may see what has an effect, and not the rest, is told of that, and that is all.
    kubectl(&["create", "serviceaccount", "reader", "-n", "analyzed"], "").unwrap();
    let read = "gateways.networking.istio.io,virtualservices,destinationrules,serviceentries,workloadentries,sidecars,services,pods,secrets,\
                configmaps,endpointslices,nodes,namespaces,authorizationpolicies,requestauthentications,\
                peerauthentications,ratelimits";
    kubectl(&["create", "clusterrole", "analyzed", "--verb", "list", "--resource", read], "").unwrap();
    let bind = ["create", "clusterrolebinding", "analyzed", "--clusterrole", "analyzed"];
    kubectl(&[&bind[..], &["--serviceaccount", "analyzed:reader"]].concat(), "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let reader = kubeconfig_of(folder.path(), "reader", "analyzed");
    let said = meshctl_with(&reader, &["analyze", "-n", "analyzed", "-o", "json"]).ends_with(0);
    let kind = "telemetries.telemetry.istio.io";
    let note = format!("meshctl: {kind}, which have no effect yet, cannot be listed: {kind} is forbidden");
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.err.starts_with(&note), "{}", said.err);
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["notLookedAt"][0]["kind"], kind, "{report:#}");
    kubectl(&["delete", "clusterrole/analyzed", "clusterrolebinding/analyzed", &format!("crd/{kind}")], "").unwrap();

    kubectl(&["create", "serviceaccount", "nobody", "-n", "analyzed"], "").unwrap();
    let nobody = kubeconfig_of(folder.path(), "nobody", "analyzed");
    let said = meshctl_with(&nobody, &["explain", "http://a.example/"]).ends_with(1);
    assert!(said.err.contains("gateways cannot be listed"), "{}", said.err);
    kubectl(&["delete", "namespace", "analyzed"], "").unwrap();
}

//! What `meshctl` says of a cluster that has what it cannot do yet, or does not show all that it has.

use super::install::{meshctl, meshctl_with};
use super::*;

/// As Istio has it, as far as it matters here.
const POLICIES: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: authorizationpolicies.security.istio.io}
spec:
  group: security.istio.io
  scope: Namespaced
  names: {kind: AuthorizationPolicy, plural: authorizationpolicies}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

const NOTHING: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-nothing, namespace: analyzed}
spec: {}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_not_enforced_is_an_error_and_what_cannot_be_seen_is_not_missing() {
    let Some(_) = cluster::folder() else { return };
    define().unwrap();
    apply_namespace("analyzed").unwrap();
    meshctl(&["analyze", "-n", "analyzed"]).ends_with(0);
    apply(POLICIES).unwrap();
    apply(NOTHING).unwrap();
    let said = meshctl(&["analyze", "-n", "analyzed"]).ends_with(79);
    assert!(
        said.out.contains("MESH0010") && said.out.contains("AuthorizationPolicy/analyzed/allow-nothing"),
        "{}",
        said.out
    );
    kubectl(&["delete", "crd", "authorizationpolicies.security.istio.io"], "").unwrap();

    kubectl(&["create", "serviceaccount", "nobody", "-n", "analyzed"], "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nobody = kubeconfig_of(folder.path(), "nobody", "analyzed");
    let said = meshctl_with(&nobody, &["explain", "http://a.example/"]).ends_with(1);
    assert!(said.err.contains("gateways cannot be listed"), "{}", said.err);
    kubectl(&["delete", "namespace", "analyzed"], "").unwrap();
}

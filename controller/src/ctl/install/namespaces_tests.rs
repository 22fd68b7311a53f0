#![allow(clippy::unwrap_used)]
use kube::ResourceExt;
use serde_json::json;

use super::*;
use crate::ctl::manifests::{Profile, manifests};

fn deployment(container: Value) -> Deployment {
    let value = json!({ "metadata": { "name": "meshgate-controller" }, "spec": {
        "selector": {}, "template": { "spec": { "containers": [container] } } } });
    serde_json::from_value(value).unwrap()
}

/// What is put in, the arguments of the controller, and the namespaces of rights to secrets.
fn kept(container: Value) -> (Vec<String>, Option<Value>, Vec<String>) {
    let mut objects = manifests(Profile::Minimal).unwrap();
    let names = put(&deployment(container), &mut objects).unwrap();
    let controller = objects.iter().find(|object| kind(object) == "Deployment").unwrap();
    let arguments = controller.data.pointer("/spec/template/spec/containers/0/args").cloned();
    let rights = objects.iter().filter(|object| object.name_any() == "meshgate-gateway-secrets");
    (names, arguments, rights.filter(|object| kind(object) == "Role").filter_map(ResourceExt::namespace).collect())
}

#[test]
fn what_is_installed_stays() {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<String>>();
    for arguments in [json!(["--gateway-namespaces=a,b"]), json!(["--log=debug", "--gateway-namespaces", "a,b"])] {
        let installed = kept(json!({ "name": "controller", "args": arguments }));
        assert_eq!(installed, (words(&["a", "b"]), Some(arguments), words(&["a", "b"])));
    }
    let by_variable = json!({ "name": "controller", "env": [{ "name": "GATEWAY_NAMESPACES", "value": "a" }] });
    assert_eq!(kept(by_variable), (words(&["a"]), None, words(&["a"])));
    for nothing in [json!({}), json!({ "args": ["--gateway-namespaces="] }), json!({ "args": ["--log=debug"] })] {
        let mut container = nothing;
        container["name"] = "controller".into();
        assert_eq!(kept(container), (words(&[]), None, words(&[])));
    }
}

#[test]
fn who_orders_certificates_may_write_them_where_gateways_stay() {
    let mut objects = manifests(Profile::Minimal).unwrap();
    let sets = ["acme.email=a@b.example".parse::<Set>().unwrap()];
    values::put(&sets, Profile::Minimal, &mut objects).unwrap();
    put(&deployment(json!({ "name": "controller", "args": ["--gateway-namespaces=a"] })), &mut objects).unwrap();
    let rights = objects.iter().filter(|object| kind(object) == "Role" && object.name_any() == "meshgate-acme");
    assert_eq!(rights.filter_map(ResourceExt::namespace).collect::<Vec<_>>(), [NAMESPACE, "a"]);
}

#[test]
fn namespaces_must_be_there() {
    let going = serde_json::from_value(json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" })).unwrap();
    assert_eq!(in_the_way("a", Some(&ObjectMeta::default())), None);
    let lines = [in_the_way("a", None).unwrap(), in_the_way("a", Some(&going)).unwrap()];
    insta::assert_snapshot!(lines.join("\n"), @r"
    gateway.namespaces: namespace `a` does not exist; create it, or leave it out
    gateway.namespaces: namespace `a` is being deleted; leave it out
    ");
}

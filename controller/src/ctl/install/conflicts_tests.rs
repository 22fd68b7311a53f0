#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;
use crate::ctl::install::apply::clashes;
use crate::ctl::manifests::{Profile, manifests};

fn name(kind: &str) -> Name {
    let objects = manifests(Profile::Minimal).unwrap();
    let names = objects.iter().map(|object| Name::of(object).unwrap());
    names.into_iter().find(|name| name.is(kind)).unwrap()
}

fn clash(manager: &str, field: &str) -> Clash {
    Clash { manager: manager.to_owned(), field: field.to_owned() }
}

#[test]
fn all_of_them_are_told_and_what_could_be_done() {
    let definition = vec![clash("helm", ".spec.versions"), clash("istioctl", ".spec.names.categories")];
    let many: Vec<Clash> = (0..6).map(|number| clash("somebody", &format!(".spec.f{number}"))).collect();
    let deployment = (name("Deployment"), many);
    insta::assert_snapshot!(told(std::slice::from_ref(&deployment)), @r"
    somebody else has set what is to be set; nothing was changed:
        Deployment/meshgate-system/meshgate-controller: somebody has set .spec.f0, .spec.f1, .spec.f2, .spec.f3 and 2 more
    --force-conflicts sets these fields and takes them over.
    ");
    let found = [(name("CustomResourceDefinition"), definition), deployment];
    let text = told(&found);
    for line in [
        "    CustomResourceDefinition/gateways.networking.istio.io: helm has set .spec.versions\n",
        "    CustomResourceDefinition/gateways.networking.istio.io: istioctl has set .spec.names.categories\n",
        "`uninstall` leaves such definitions",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn who_has_set_what_is_read_from_the_answer() {
    let cause =
        |message: &str, field: &str| json!({ "reason": "FieldManagerConflict", "message": message, "field": field });
    let status = json!({
        "code": 409,
        "message": "Apply failed with 2 conflicts: conflicts with ...",
        "details": { "causes": [
            cause("conflict with \"helm\" using apiextensions.k8s.io/v1", ".spec.versions"),
            cause("conflict of another kind", ".metadata.labels.a"),
        ] },
    });
    let expected = [clash("helm", ".spec.versions"), clash("somebody", ".metadata.labels.a")];
    assert_eq!(clashes(&serde_json::from_value(status).unwrap()), expected);
    let bare = json!({ "code": 409, "message": "the object has been modified" });
    assert_eq!(clashes(&serde_json::from_value(bare).unwrap()), [clash("somebody", "the object has been modified")]);
}

#[test]
fn a_definition_that_is_not_ours_does_not_get_our_label() {
    let mut object = manifests(Profile::Minimal)
        .unwrap()
        .into_iter()
        .find(|object| crate::ctl::manifests::kind(object) == "CustomResourceDefinition")
        .unwrap();
    assert!(object.metadata.labels.as_ref().unwrap().contains_key(PART_OF.0));
    without_label(&mut object);
    assert!(!object.metadata.labels.unwrap().contains_key(PART_OF.0));
}

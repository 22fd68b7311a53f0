use super::super::super::{Spec, parse};

/// Codes and fields of what is found, and the names of the limits that stay; none: the object went.
fn found(spec: &str) -> (Vec<String>, Option<Vec<String>>) {
    let text = format!("apiVersion: meshgate.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: a}}\nspec: {spec}\n");
    let parsed = parse("x.yaml", &text, "default");
    let said = parsed.diagnostics.iter().map(|one| {
        assert!(one.position.is_some(), "{one:?}");
        format!("{} {}", one.code, one.field)
    });
    let left = parsed.objects.first().map(|object| {
        let Spec::RateLimit(policy) = &object.spec else { panic!("{object:?}") };
        policy.limits.iter().map(|limit| limit.name.clone()).collect()
    });
    (said.collect(), left)
}

#[test]
fn what_is_right_is_kept() {
    let limits = "{selector: {matchLabels: {a: b}}, limits: [{name: a, requests: 1, per: 1s}, {name: b, requests: 100, per: 60s, \
                  burst: 20, headers: false, maxBuckets: 16, scope: Local, to: [{operation: {paths: [/a*]}}], by: [{clientAddress: {}}, \
                  {header: {name: x-a}}, {claim: sub}, {claim: '[a][b]'}, {clientAddress: {ipv4: 24, ipv6: 56}}]}]}";
    assert_eq!(found(limits), (vec![], Some(vec!["a".to_owned(), "b".to_owned()])));
}

#[test]
fn what_is_wrong_with_a_limit_costs_that_limit() {
    for (wrong, said) in [
        ("requests: 1, per: 1s", "MESH0006 spec.limits[0].name"),
        ("name: 'a b', requests: 1, per: 1s", "MESH0003 spec.limits[0].name"),
        ("name: a, per: 1s", "MESH0006 spec.limits[0].requests"),
        ("name: a, requests: 0, per: 1s", "MESH0006 spec.limits[0].requests"),
        ("name: a, requests: -1, per: 1s", "MESH0003 spec.limits[0].requests"),
        ("name: a, requests: 2000000, per: 1s", "MESH0003 spec.limits[0].requests"),
        ("name: a, requests: 1", "MESH0006 spec.limits[0].per"),
        ("name: a, requests: 1, per: 60", "MESH0003 spec.limits[0].per"),
        ("name: a, requests: 1, per: 745h", "MESH0003 spec.limits[0].per"),
        ("name: a, requests: 1, per: 1s, burst: 0", "MESH0003 spec.limits[0].burst"),
        ("name: a, requests: 1, per: 1s, maxBuckets: 1", "MESH0003 spec.limits[0].maxBuckets"),
        ("name: a, requests: 1, per: 1s, scope: Galaxy", "MESH0003 spec.limits[0].scope"),
        ("name: a, requests: 1, per: 1s, by: [{}]", "MESH0006 spec.limits[0].by[0]"),
        ("name: a, requests: 1, per: 1s, by: [{claim: a, header: {name: b}}]", "MESH0003 spec.limits[0].by[0]"),
        ("name: a, requests: 1, per: 1s, by: [{claim: '[a'}]", "MESH0003 spec.limits[0].by[0].claim"),
        ("name: a, requests: 1, per: 1s, by: [{header: {name: 'x y'}}]", "MESH0003 spec.limits[0].by[0].header.name"),
        ("name: a, requests: 1, per: 1s, by: [{header: {}}]", "MESH0006 spec.limits[0].by[0].header.name"),
        (
            "name: a, requests: 1, per: 1s, by: [{clientAddress: {ipv4: 33}}]",
            "MESH0003 spec.limits[0].by[0].clientAddress.ipv4",
        ),
    ] {
        let spec = format!("{{limits: [{{{wrong}}}, {{name: other, requests: 1, per: 1s}}]}}");
        assert_eq!(found(&spec), (vec![said.to_owned()], Some(vec!["other".to_owned()])), "{wrong}");
    }
}

#[test]
fn what_is_wrong_with_conditions_is_told_and_kept() {
    let spec =
        "{limits: [{name: a, requests: 1, per: 1s, to: [{operation: {}}], when: [{key: nothing, values: [a]}]}]}";
    let said = ["MESH0006 spec.limits[0].to[0].operation", "MESH0003 spec.limits[0].when[0].key"];
    assert_eq!(found(spec), (said.map(str::to_owned).to_vec(), Some(vec!["a".to_owned()])));
}

#[test]
fn what_is_wrong_around_the_limits_costs_the_object() {
    for (spec, said) in [
        ("{}", "MESH0006 spec.limits"),
        ("{limits: []}", "MESH0006 spec.limits"),
        (
            "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: a}], limits: [{name: a, requests: 1, per: 1s}]}",
            "MESH0003 spec",
        ),
    ] {
        assert_eq!(found(spec), (vec![said.to_owned()], None), "{spec}");
    }
    let twice = "{limits: [{name: a, requests: 1, per: 1s}, {name: a, requests: 2, per: 1s}]}";
    assert_eq!(found(twice), (vec!["MESH0003 spec.limits[1].name".to_owned()], Some(vec!["a".to_owned()])));
}

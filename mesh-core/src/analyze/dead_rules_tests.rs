//! What is said of rules that no request reaches, and of those that lose some.

use std::collections::BTreeMap;

use super::analyze;
use crate::api::parse;
use crate::compile::compile;
use crate::diag::{self, Code, Diagnostic};
use crate::model::ProxyInfo;
use crate::translate::translate;
use crate::world::World;

const GATEWAY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: istio-system }
spec:
  selector: { istio: ingressgateway }
  servers:
    - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }
"#;

/// Of a gateway with these VirtualServices.
fn found(services: &str) -> Vec<Diagnostic> {
    let mut objects = parse("gw.yaml", GATEWAY, "default").objects;
    let parsed = parse("a.yaml", services, "default");
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics.first());
    objects.extend(parsed.objects);
    let world = World::from_objects(objects);
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let translation = translate(&world, &ProxyInfo::edge("test", "istio-system", labels));
    let compiled = compile(&translation.set, None, 1);
    let mut diagnostics = translation.diagnostics;
    analyze(&world, &translation.set, &compiled.snapshot, None, &mut diagnostics);
    diag::arrange(&mut diagnostics);
    diagnostics
}

/// A VirtualService of `a.example` in which each line is the `match` of a rule with an answer of its own.
fn service(name: &str, rules: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: {name} }}\n\
         spec:\n  hosts: [a.example]\n  gateways: [istio-system/gw]\n  http:\n"
    );
    for (number, conditions) in rules.iter().enumerate() {
        text.push_str(&format!(
            "    - {{ match: {conditions}, directResponse: {{ status: 200, body: {{ string: n{number} }} }} }}\n"
        ));
    }
    text
}

fn said(diagnostics: &[Diagnostic], code: Code) -> Vec<String> {
    let of_code = diagnostics.iter().filter(|diagnostic| diagnostic.code == code.id);
    of_code.map(|one| format!("{} {}: {}", one.position.as_ref().unwrap(), one.field, one.message)).collect()
}

#[test]
fn a_rule_that_one_other_covers() {
    let found = found(&service(
        "a",
        &["[{ uri: { prefix: /api } }]", "[{ uri: { regex: '/api/v[0-9]+' }, method: { exact: GET } }]"],
    ));
    assert_eq!(
        said(&found, diag::RULE_UNREACHABLE),
        [
            "a.yaml:10:7 spec.http[1]: for host `a.example`, rule default/a[0] match[0] (a.yaml:9:17) takes all requests that this \
             asks for, like GET http://a.example/api/v0"
        ]
    );
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_rule_that_several_cover_together() {
    let rules = [
        "[{ uri: { prefix: /a }, headers: { x: { exact: '1' } } }]",
        "[{ uri: { prefix: /other } }]",
        "[{ withoutHeaders: { x: { exact: '1' } } }]",
        "[{ uri: { prefix: /a/b } }]",
    ];
    let found = found(&service("a", &rules));
    assert_eq!(
        said(&found, diag::RULE_UNREACHABLE),
        [
            "a.yaml:12:7 spec.http[3]: for host `a.example`, rules default/a[0] match[0] (a.yaml:9:17) and default/a[2] match[0] \
             (a.yaml:11:17) together take all requests that this asks for, like GET http://a.example/a/b"
        ]
    );
}

#[test]
fn an_alternative_without_effect_is_told_of_alone() {
    let found =
        found(&service("a", &["[{ uri: { prefix: /a } }, { uri: { prefix: /a/b } }, { uri: { prefix: /c } }]"]));
    let said = said(&found, diag::MATCH_INEFFECTIVE);
    assert_eq!(said.len(), 1, "{found:?}");
    assert!(said[0].starts_with("a.yaml:9:42 spec.http[0].match[1]: "), "{said:?}");
    assert_eq!(found.len(), 1, "what translation says of it is not said again: {found:?}");
}

#[test]
fn what_no_request_has_needs_no_other_rule() {
    let rules = ["[{ uri: { exact: '/a b' } }]", "[{ headers: { x: { exact: '1' } }, withoutHeaders: { x: {} } }]"];
    let found = found(&service("a", &rules));
    let said = said(&found, diag::RULE_UNREACHABLE);
    assert_eq!(said.len(), 2, "{found:?}");
    assert!(said.iter().all(|said| said.contains("no request for host `a.example` is what this asks for")), "{said:?}");
}

#[test]
fn rules_of_another_object_are_named() {
    let text = service("a", &["[{ uri: { prefix: /a } }]"])
        + &service("b", &["[{ uri: { exact: /a/1 } }]", "[{ uri: { exact: /b } }]"]);
    let found = found(&text);
    let said = said(&found, diag::RULE_UNREACHABLE);
    assert_eq!(said.len(), 1, "{found:?}");
    assert!(said[0].contains("rule default/a[0] match[0] (a.yaml:9:17) takes all"), "{said:?}");
}

#[test]
fn only_what_is_not_the_usual_order_is_overtaken() {
    // The narrower first: nobody means anything else.
    let usual =
        ["[{ uri: { prefix: /a/b } }]", "[{ uri: { prefix: /a }, headers: { x: {} } }]", "[{ uri: { prefix: /a } }]"];
    let found_usual = found(&service("a", &usual));
    let said_usual = said(&found_usual, diag::RULE_OVERTAKEN);
    assert_eq!(said_usual.len(), 1, "{found_usual:?}");
    assert!(said_usual[0].contains("spec.http[1].match[0]"), "{said_usual:?}");
    assert!(said_usual[0].ends_with("like GET http://a.example/a/b with x: 1"), "{said_usual:?}");
    let canary =
        ["[{ uri: { prefix: /a }, headers: { x: {} } }]", "[{ uri: { prefix: /a } }]", "[{ uri: { prefix: / } }]"];
    assert_eq!(found(&service("a", &canary)), []);
}

#[test]
fn a_rule_that_nothing_matches_hides_no_pair() {
    let rules = [
        "[{ queryParams: { 'a&b': { exact: '1' } } }]",
        "[{ uri: { prefix: /a }, method: { exact: GET } }]",
        "[{ uri: { prefix: /a }, headers: { x: {} } }]",
    ];
    let found = found(&service("a", &rules));
    assert_eq!(said(&found, diag::RULE_OVERTAKEN).len(), 1, "{found:?}");
}

/// The alternatives of a delegate are joined with each of the rule that delegates; one of four is left.
#[test]
fn a_delegate_of_which_something_is_left_is_not_dead() {
    let root = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: root }\nspec:\n  hosts: [a.example]\n  \
                gateways: [istio-system/gw]\n  http:\n    - match: [{ uri: { prefix: /a }, headers: { x: { exact: '1' } } }]\n      \
                directResponse: { status: 200 }\n    - match: [{ headers: { x: { exact: '1' } } }, { headers: { x: { exact: '1' } }, \
                method: { exact: GET } }]\n      delegate: { name: own }\n";
    let own = |second: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: own }}\nspec:\n  http:\n    - match: \
             [{{ uri: {{ prefix: /a/b }} }}, {{ uri: {{ prefix: {second} }} }}]\n      directResponse: {{ status: 201 }}\n"
        )
    };
    let partly = found(&(root.to_owned() + &own("/c")));
    assert_eq!(said(&partly, diag::RULE_UNREACHABLE), [""; 0], "{partly:?}");
    let ineffective = said(&partly, diag::MATCH_INEFFECTIVE);
    assert!(!ineffective.is_empty() && ineffective.iter().all(|said| said.contains(" spec.http[0]: ")), "{partly:?}");
    let whole = found(&(root.to_owned() + &own("/a/c")));
    assert_eq!(said(&whole, diag::RULE_UNREACHABLE).len(), 1, "{whole:?}");
}

#[test]
fn a_limit_is_said_to_be_one() {
    let found = found(&service("a", &["[{ uri: { regex: '/.*a.{18}' } }]", "[{ uri: { prefix: /b } }]"]));
    let said = said(&found, diag::REACH_UNKNOWN);
    assert_eq!(said.len(), 1, "{found:?}");
    assert!(said[0].contains("spec.http: whether a request reaches 2 of these is not known"), "{said:?}");
}

#[test]
fn a_large_host_takes_a_bounded_time() {
    let mut rules: Vec<String> = (0..1500).map(|number| format!("[{{ uri: {{ prefix: /p{number}/ }} }}]")).collect();
    rules.push("[{ uri: { prefix: /p700/x } }]".to_owned());
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let found = found(&service("a", &rules));
    assert_eq!(said(&found, diag::RULE_UNREACHABLE).len(), 1);
}

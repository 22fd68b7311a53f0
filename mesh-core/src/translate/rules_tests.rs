use super::super::fixture::{docs, http_server, keys, to};
use crate::diag;
use crate::model::{HeaderMatch, PathMatch, StringMatch};

fn rule(matches: &str) -> String {
    format!("{{match: [{matches}], route: [{{destination: {{host: x}}}}]}}")
}

fn translate(http: &str) -> super::super::Translation {
    docs().http("'*'").service("default/x", 80).vs("default/v", "a.com", http).translate_anyway()
}

#[test]
fn one_rule_per_match_entry_with_a_shared_action() {
    let t = translate(&rule("{uri: {exact: /a}}, {uri: {prefix: /b}}, {uri: {regex: /c.*}, ignoreUriCase: true}"));
    let rules = t.rules("a.com");
    assert_eq!(rules.len(), 3);
    assert!(std::sync::Arc::ptr_eq(&rules[0].action, &rules[2].action));
    assert_eq!(rules[0].predicate.path, PathMatch::Exact { value: "/a".into(), ignore_case: false });
    assert_eq!(rules[2].predicate.path, PathMatch::Regex("/c.*".into()));
    assert_eq!(rules.iter().map(|rule| rule.source.r#match).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
}

#[test]
fn conditions() {
    let t = translate(&rule(
        "{method: {exact: GET}, authority: {prefix: a}, scheme: {exact: http}, headers: {X-A: {exact: '1'}, x-b: {}}, \
         withoutHeaders: {x-c: {regex: '*'}, x-d: {exact: v}}, queryParams: {q: {regex: '[0-9]+'}}}",
    ));
    let predicate = &t.rules("a.com")[0].predicate;
    let header = |name: &str, value: StringMatch, invert: bool| HeaderMatch { name: name.into(), value, invert };
    assert_eq!(
        predicate.headers,
        [
            header("x-a", StringMatch::Exact("1".into()), false),
            header("x-b", StringMatch::Present, false),
            header("x-c", StringMatch::Present, true),
            header("x-d", StringMatch::Exact("v".into()), true),
        ]
    );
    assert_eq!(predicate.method, Some(StringMatch::Exact("GET".into())));
    assert_eq!(predicate.query[0].value, StringMatch::Regex("[0-9]+".into()));
}

#[test]
fn nothing_behind_a_catch_all_is_reached() {
    let t = translate(&format!(
        "{}, {}, {}",
        rule("{uri: {exact: /a}}, {uri: {prefix: /}}, {uri: {exact: /b}}"),
        to("x"),
        rule("{uri: {exact: /c}}")
    ));
    assert_eq!(t.rules("a.com").len(), 2);
    let said = t.said(diag::RULE_UNREACHABLE);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().any(|line| line.contains("spec.http[0].match[2]")));
}

#[test]
fn a_prefix_with_another_condition_catches_not_all() {
    let t = translate(&format!("{}, {}", rule("{uri: {prefix: /}, headers: {x: {}}}"), rule("{method: {exact: GET}}")));
    assert_eq!(t.rules("a.com").len(), 2);
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn names_of_rules() {
    let t = translate(
        "{name: r, match: [{name: m, uri: {exact: /a}}, {uri: {exact: /b}}], route: [{destination: {host: x}}]}, \
         {match: [{name: m, uri: {exact: /c}}], route: [{destination: {host: x}}]}, {route: [{destination: {host: x}}]}",
    );
    let names: Vec<Option<&str>> = t.rules("a.com").iter().map(|rule| rule.name.as_deref()).collect();
    assert_eq!(names, [Some("r.m"), Some("r"), Some(".m"), None]);
}

#[test]
fn gateways_ports_and_sources_are_settled_here() {
    let http = [
        rule("{uri: {exact: /1}, gateways: [istio-system/other]}"),
        rule("{uri: {exact: /2}, gateways: [istio-system/gw], sourceLabels: {app: none}}"),
        rule("{uri: {exact: /3}, port: 8080}"),
        rule("{uri: {exact: /4}, port: 80}"),
        rule("{uri: {exact: /5}, sourceLabels: {app: none}}"),
        rule("{uri: {exact: /6}, sourceLabels: {istio: ingressgateway}, sourceNamespace: istio-system}"),
        rule("{uri: {exact: /7}, sourceNamespace: default}"),
    ];
    let t = translate(&http.join(", "));
    assert_eq!(t.order("a.com"), ["default/v[1]", "default/v[3]", "default/v[5]"]);
}

#[test]
fn the_port_of_a_match_is_the_servers_number() {
    let service = "spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}";
    let t = docs()
        .http("'*'")
        .add("Service", "istio-system/ingress", service)
        .service("default/x", 80)
        .vs("default/v", "a.com", &rule("{port: 80}"))
        .translate();
    assert_eq!(t.host("http.8080", "a.com").rules.len(), 1);
}

#[test]
fn a_virtual_service_without_rules_for_the_port_does_not_open_the_host() {
    let t = docs()
        .gateway("istio-system/gw", &format!("{}, {}", http_server(80, "'*'"), http_server(81, "'*'")))
        .service("default/x", 80)
        .vs("default/v", "a.com", &rule("{port: 81}"))
        .translate();
    assert_eq!(t.hosts("http.80"), Vec::<String>::new());
    assert_eq!(t.hosts("http.81"), ["a.com"]);
}

#[test]
fn a_regex_is_read_as_re2_reads_it() {
    let t = translate(&rule(r"{uri: {regex: '/users/{id}'}}, {uri: {regex: '\Q/a.b\E'}}"));
    assert_eq!(t.rules("a.com").len(), 2);
    assert_eq!(t.said(diag::REGEX_INVALID), Vec::<String>::new());
}

#[test]
fn a_bad_regex_never_matches_and_the_host_stays() {
    // The parser drops such a rule; objects of another source may still have it.
    let t = translate(&rule("{uri: {regex: '/a('}}"));
    assert_eq!(t.order("a.com"), Vec::<String>::new());
    let mut world = docs().http("'*'").vs("default/v", "a.com", &rule("{uri: {regex: '/a'}}")).world();
    let entry = world.virtual_service("default", "v").unwrap().clone();
    let mut spec = entry.spec.clone();
    spec.http[0].r#match[0].uri = Some(crate::api::StringMatch::Regex("/a(".to_owned()));
    world.apply(vec![crate::api::ApiObject {
        meta: entry.meta.clone(),
        spec: crate::api::Spec::VirtualService(spec),
        positions: entry.positions.clone(),
    }]);
    let t = super::super::translate(&world, &super::super::fixture::proxy());
    assert_eq!(t.order("a.com"), Vec::<String>::new());
    let said = t.said(diag::REGEX_INVALID);
    assert!(said[0].contains("spec.http[0].match[0].uri.regex: `/a(`"), "{said:?}");
}

#[test]
fn a_rule_for_claims_is_no_catch_all_and_one_for_no_claim_never_matches() {
    let t = translate(&format!("{}, {}", rule("{headers: {'@request.auth.claims.group': {exact: admin}}}"), to("x")));
    assert_eq!(t.order("a.com"), ["default/v[0]", "default/v[1]"]);
    let t = translate(&format!("{}, {}", rule("{headers: {'@request.auth.claims': {exact: admin}}}"), to("x")));
    // A claim without a name is refused where it is read, and the rule with it.
    assert_eq!(t.order("a.com"), ["default/v[1]"]);
}

#[test]
fn delegates_are_spliced_in() {
    let root = "{match: [{uri: {prefix: /api}, headers: {x: {exact: y}}}], timeout: 3s, name: r, delegate: {name: d, namespace: shop}}";
    let delegate = "spec: {http: [{match: [{uri: {prefix: /api/v1}}], name: d, route: [{destination: {host: web}}]}, \
                    {match: [{uri: {prefix: /other}}], route: [{destination: {host: web}}]}, {route: [{destination: {host: web}}]}]}";
    let t = docs()
        .http("'*'")
        .service("default/x", 80)
        .service("shop/web", 80)
        .add("VirtualService", "shop/d", delegate)
        .vs("default/v", "a.com", &format!("{root}, {}", to("x")))
        .translate();
    assert_eq!(t.order("a.com"), ["shop/d[0]", "shop/d[2]", "default/v[1]"]);
    let first = &t.rules("a.com")[0];
    assert_eq!(first.name.as_deref(), Some("r-d"));
    assert_eq!(first.predicate.path, PathMatch::Prefix { value: "/api/v1".into(), ignore_case: false });
    assert_eq!(first.predicate.headers.len(), 1);
    assert_eq!(keys(first), ["outbound|80||web.shop.svc.cluster.local"]);
    assert_eq!(super::super::fixture::forward(first).timeout, Some(std::time::Duration::from_secs(3)));
    assert_eq!(t.said(diag::RULE_UNREACHABLE).len(), 1);
}

#[test]
fn a_missing_delegate_vanishes() {
    let t = translate(&format!("{{delegate: {{name: none}}}}, {}", to("x")));
    assert_eq!(t.order("a.com"), ["default/v[1]"]);
    assert_eq!(t.codes(), [diag::DELEGATE_UNKNOWN.id]);
}

#[test]
fn requests_of_a_match_are_counted_by_its_prefix() {
    let t =
        translate(&rule("{uri: {exact: /a}, statPrefix: a}, {uri: {exact: /b}, statPrefix: ''}, {uri: {exact: /c}}"));
    let prefixes: Vec<Option<&str>> = t.rules("a.com").iter().map(|rule| rule.stat_prefix.as_deref()).collect();
    assert_eq!(prefixes, [Some("a"), None, None]);
}

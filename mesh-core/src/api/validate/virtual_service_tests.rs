use super::*;
use crate::api::parse;

#[test]
fn hosts_that_cover_others() {
    for (inner, outer, expected) in [
        ("a.example", "a.example", true),
        ("A.example", "a.EXAMPLE", true),
        ("a.example", "*.example", true),
        ("a.example", "*", true),
        ("*.a.example", "*.example", true),
        ("*.example", "*.a.example", false),
        ("example", "*.example", false),
        ("*.example", "a.example", false),
        ("*", "*.example", false),
    ] {
        assert_eq!(subset(inner, outer), expected, "{inner} in {outer}");
    }
    assert!(overlap("*.example", "a.example") && !overlap("a.example", "b.example"));
    assert!(is_generated("outbound_.80_._.a.example") && !is_generated("outbound_.80") && !is_generated("a_80__b"));
}

/// Codes and fields of the errors.
fn errors(spec: &str) -> Vec<String> {
    let text =
        format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n{spec}");
    let parsed = parse("f", &text, "default");
    let errors = parsed.diagnostics.iter().filter(|d| d.severity == crate::diag::Severity::Error);
    errors.map(|d| format!("{} {}", d.code, d.field)).collect()
}

fn rule(rule: &str) -> Vec<String> {
    errors(&format!("  hosts: [a.example]\n  gateways: [g]\n  http:\n  - {rule}\n"))
}

#[test]
fn the_object_as_a_whole() {
    let ok = "http: [{route: [{destination: {host: a}}]}]";
    for (spec, expected) in [
        ("  hosts: ['*']\n", vec!["MESH0003 spec.hosts[0]", "MESH0006 spec"]),
        (&format!("  hosts: [a.example, '*.example']\n  {ok}\n"), vec!["MESH0003 spec.hosts[1]"]),
        (&format!("  hosts: [1.2.3.4, '::1']\n  {ok}\n"), vec![]),
        (&format!("  hosts: ['*']\n  gateways: [g]\n  {ok}\n"), vec![]),
        (&format!("  hosts: ['*']\n  gateways: [g, mesh]\n  {ok}\n"), vec!["MESH0003 spec.hosts[0]"]),
        (&format!("  gateways: [g]\n  {ok}\n"), vec!["MESH0003 spec.gateways"]),
        (&format!("  {ok}\n"), vec![]),
        (
            &format!("  hosts: [a]\n  gateways: [a/b/c, /b]\n  {ok}\n"),
            vec!["MESH0003 spec.gateways[0]", "MESH0003 spec.gateways[1]"],
        ),
        (
            &format!("  hosts: [a]\n  exportTo: [., default, '*', ~x]\n  {ok}\n"),
            vec!["MESH0003 spec.exportTo[1]", "MESH0003 spec.exportTo[2]", "MESH0003 spec.exportTo[3]"],
        ),
        (
            "  hosts: [a.b]\n  tls: [{match: [{sniHosts: [c.d]}], route: [{destination: {host: a}}]}, {route: []}]\n",
            vec![
                "MESH0003 spec.tls[0].match[0].sniHosts[0]",
                "MESH0006 spec.tls[1].match",
                "MESH0006 spec.tls[1].route",
            ],
        ),
        (
            "  hosts: [a.b]\n  tcp: [{match: [{destinationSubnets: [x], port: 70000}], route: [{destination: {host: '*'}}]}]\n",
            vec![
                "MESH0003 spec.tcp[0].match[0].destinationSubnets[0]",
                "MESH0003 spec.tcp[0].match[0].port",
                "MESH0003 spec.tcp[0].route[0].destination.host",
            ],
        ),
    ] {
        assert_eq!(errors(spec), expected, "{spec}");
    }
}

#[test]
fn rules() {
    let to = "route: [{destination: {host: a}}]";
    for (text, expected) in [
        ("{}", vec!["MESH0006 spec.http[0]"]),
        (&format!("{{{to}, redirect: {{uri: /}}}}"), vec!["MESH0003 spec.http[0].redirect"]),
        (&format!("{{{to}, directResponse: {{status: 200}}}}"), vec!["MESH0003 spec.http[0].directResponse"]),
        (
            "{redirect: {uri: /}, rewrite: {uri: /}, fault: {delay: {fixedDelay: 1s}}}",
            vec!["MESH0003 spec.http[0].fault", "MESH0003 spec.http[0].rewrite"],
        ),
        ("{redirect: {}}", vec!["MESH0006 spec.http[0].redirect"]),
        (
            "{redirect: {uri: /, redirectCode: 305, scheme: ftp, port: 70000}}",
            vec![
                "MESH0003 spec.http[0].redirect.redirectCode",
                "MESH0003 spec.http[0].redirect.scheme",
                "MESH0003 spec.http[0].redirect.port",
            ],
        ),
        (
            "{redirect: {prefixRewrite: /x}, match: [{uri: {exact: /a}}]}",
            vec!["MESH0003 spec.http[0].redirect.prefixRewrite"],
        ),
        ("{directResponse: {status: 199}}", vec!["MESH0003 spec.http[0].directResponse.status"]),
        ("{route: [{destination: {host: a}}, {destination: {host: b}}]}", vec!["MESH0003 spec.http[0].route"]),
        (
            "{route: [{destination: {host: a, subset: 'x y', port: {number: 0}}, weight: -1}]}",
            vec![
                "MESH0003 spec.http[0].route[0].destination.subset",
                "MESH0003 spec.http[0].route[0].destination.port.number",
                "MESH0003 spec.http[0].route[0].weight",
            ],
        ),
        (&format!("{{{to}, timeout: 0s}}"), vec!["MESH0003 spec.http[0].timeout"]),
        (&format!("{{{to}, retries: {{attempts: 0, retryOn: 5xx}}}}"), vec!["MESH0003 spec.http[0].retries"]),
        (
            &format!("{{{to}, retries: {{attempts: 1, retryOn: '503,5xx, reset'}}}}"),
            vec!["MESH0003 spec.http[0].retries.retryOn"],
        ),
        (&format!("{{{to}, rewrite: {{}}}}"), vec!["MESH0006 spec.http[0].rewrite"]),
        (
            &format!("{{{to}, rewrite: {{uriRegexRewrite: {{match: '('}}}}}}"),
            vec![
                "MESH0006 spec.http[0].rewrite.uriRegexRewrite",
                "MESH0003 spec.http[0].rewrite.uriRegexRewrite.match",
            ],
        ),
        (
            &format!("{{{to}, rewrite: {{authority: b}}, headers: {{request: {{set: {{Host: c}}}}}}}}"),
            vec!["MESH0003 spec.http[0].headers.request.set.Host"],
        ),
        (
            &format!("{{{to}, headers: {{request: {{remove: [Host]}}, response: {{add: {{x: '%'}}}}}}}}"),
            vec!["MESH0003 spec.http[0].headers.request.remove[0]", "MESH0003 spec.http[0].headers.response.add.x"],
        ),
        (
            &format!(
                "{{{to}, match: [{{uri: {{regex: '['}}, headers: {{x: {{prefix: ''}}}}, withoutHeaders: {{x: {{regex: '*'}}}}}}]}}"
            ),
            vec!["MESH0003 spec.http[0].match[0].headers.x.prefix", "MESH0003 spec.http[0].match[0].uri.regex"],
        ),
        (
            &format!("{{{to}, match: [{{uri: {{prefix: ''}}, method: {{exact: GET}}, queryParams: {{x: {{}}}}}}]}}"),
            vec![],
        ),
        (
            &format!(
                "{{{to}, corsPolicy: {{allowMethods: [GET, FETCH], allowOrigins: [{{exact: ''}}], maxAge: 1500ms}}}}"
            ),
            vec![
                "MESH0003 spec.http[0].corsPolicy.allowOrigins[0]",
                "MESH0003 spec.http[0].corsPolicy.allowMethods[1]",
                "MESH0003 spec.http[0].corsPolicy.maxAge",
            ],
        ),
    ] {
        assert_eq!(rule(text), expected, "{text}");
    }
}

#[test]
fn claims_are_for_gateways() {
    let rules =
        "http: [{match: [{headers: {'@request.auth.claims.sub': {exact: a}}}], route: [{destination: {host: a}}]}]";
    assert_eq!(errors(&format!("  hosts: [a.example]\n  gateways: [g]\n  {rules}\n")), Vec::<String>::new());
    assert_eq!(errors(&format!("  hosts: [a.example]\n  {rules}\n")).len(), 1);
}

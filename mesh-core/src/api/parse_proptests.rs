//! `parse` takes any text: it never panics, and what it keeps knows where it is from.

use proptest::prelude::*;

use super::parse;

const SAMPLE: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingressgateway}
  servers:
  - &s {hosts: ['*'], port: {number: 80, name: http, protocol: HTTP}}
  - <<: *s
    port: {number: 443, name: https, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: c}
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: v
  labels: {a.example/b: c}
spec:
  hosts: [a.example, '*.b.example']
  gateways: [gw, x/gw]
  http:
  - name: one
    match:
    - uri: {prefix: /a}
      headers: {x-a: {regex: 'a.*'}, ':authority': {exact: b}}
    rewrite: {uriRegexRewrite: {match: '^/a(.*)', rewrite: \"\\\\1\"}}
    route:
    - destination: {host: a, subset: v1, port: {number: 80}}
      weight: 10
      headers: {request: {set: {x: '%REQ(y)%'}, remove: [z]}}
    - {destination: {host: b}, weight: '90'}
    timeout: 1.5s
    retries: {attempts: 2, retryOn: '5xx,connect-failure'}
  - directResponse:
      status: 200
      body:
        string: |
          --- text
          ...
---
{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"DestinationRule\", \"metadata\": {\"name\": \"d\"}, \"spec\":
 {\"host\": \"a\", \"trafficPolicy\": {\"loadBalancer\": {\"simple\": \"RANDOM\"}}, \"subsets\": [{\"name\": \"v1\"}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: se}
spec:
  hosts: [ext.example]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 1.2.3.4, ports: {http: 1}, weight: 3, locality: a/b/c}]
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: istio}, data: {mesh: 'accessLogFile: /dev/stdout'}}
";

/// Pieces that mean something to YAML or to the schema.
const PIECES: &[&str] = &[
    "---\n",
    "...\n",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "- ",
    ": ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "\\",
    "#",
    "%YAML 1.2\n",
    "!!str ",
    "!",
    "~",
    "null",
    "true",
    "80",
    "-1",
    "1e400",
    "\u{feff}",
    "\u{0}",
    "é",
    "spec:",
    "http:",
    "items:",
    "kind: List\n",
    "route",
    "port",
    ",",
];

fn check(text: &str) {
    let parsed = parse("f.yaml", text, "default");
    for object in &parsed.objects {
        assert!(object.position("spec").is_some_and(|p| p.line > 0 && p.column > 0));
        assert!(!object.meta.name.is_empty() && !object.meta.namespace.is_empty());
    }
    let lines = u32::try_from(text.lines().count()).unwrap() + 1;
    for diagnostic in &parsed.diagnostics {
        let position = diagnostic.position.as_ref();
        assert!(position.is_some_and(|p| p.line > 0 && p.line <= lines), "{diagnostic}");
    }
}

#[test]
fn the_sample_is_whole() {
    let parsed = parse("f.yaml", SAMPLE, "default");
    assert_eq!(parsed.objects.len(), 5, "{:?}", parsed.diagnostics);
    assert!(parsed.diagnostics.iter().all(|d| d.code == "MESH0005"), "{:?}", parsed.diagnostics);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_can_be_parsed(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_pieces_can_be_parsed(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        check(&pieces.concat());
    }

    /// Pieces put over, into or in place of parts of a good file.
    #[test]
    fn a_damaged_file_can_be_parsed(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..8, prop::sample::select(PIECES)), 1..6)
    ) {
        let mut text = SAMPLE.to_owned();
        for (at, cut, piece) in edits {
            let from = floor(&text, at.index(text.len() + 1));
            let to = floor(&text, (from + cut).min(text.len())).max(from);
            text.replace_range(from..to, piece);
        }
        check(&text);
    }

    /// What is wrong in one document does not touch the others.
    #[test]
    fn a_damaged_document_leaves_the_others(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
        let damage = pieces.concat().replace("---", "").replace("...", "").replace('%', "");
        let object = |name: &str| format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{address: 1.1.1.1}}\n"
        );
        let text = format!("{}---\n{damage}\n---\n{}", object("first"), object("last"));
        let parsed = parse("f.yaml", &text, "default");
        let names: Vec<&str> = parsed.objects.iter().map(|o| o.meta.name.as_str()).collect();
        prop_assert_eq!(names, ["first", "last"], "{:?}", text);
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

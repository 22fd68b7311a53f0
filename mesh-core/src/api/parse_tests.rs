use super::*;
use crate::api::{HttpBody, Percent, Protocol, StringMatch, VirtualService};

/// `code field line:column` of each diagnostic.
fn brief(parsed: &Parsed) -> Vec<String> {
    parsed
        .diagnostics
        .iter()
        .map(|d| {
            let at = d.position.as_ref().map_or(String::new(), |p| format!("{}:{}", p.line, p.column));
            format!("{} {} {at}", d.code, d.field)
        })
        .collect()
}

fn messages(parsed: &Parsed) -> String {
    parsed.diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

fn virtual_service(parsed: &Parsed, index: usize) -> &VirtualService {
    match &parsed.objects[index].spec {
        Spec::VirtualService(service) => service,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_a_file_of_several_kinds() {
    let parsed = parse(
        "f.yaml",
        "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, labels: {a: b}}
spec:
  selector: {istio: ingressgateway}
  servers:
  - hosts: ['*']
    port: {number: 80, name: http, protocol: HTTP}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: a, namespace: x}
  spec: {ports: [{port: 80, targetPort: http, unknownToUs: 1}], clusterIP: None}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: s}}
---
{\"apiVersion\": \"networking.istio.io/v1alpha3\", \"kind\": \"VirtualService\", \"metadata\": {\"name\": \"vs\"},
 \"spec\": {\"hosts\": [\"a.example\"], \"gateways\": [\"gw\"], \"http\": [{\"route\": [{\"destination\": {\"host\": \"a\"}}]}]}}
",
        "default",
    );
    let refs: Vec<String> = parsed.objects.iter().map(|object| object.object_ref().to_string()).collect();
    assert_eq!(refs, ["Gateway/default/gw", "Service/x/a", "VirtualService/default/vs"]);
    assert_eq!(brief(&parsed), ["MESH0002 kind 17:26"]);
    assert_eq!(parsed.diagnostics[0].severity, Severity::Info);
    assert_eq!(virtual_service(&parsed, 2).http[0].route[0].destination.host, "a");
    let position = parsed.objects[2].position("spec.http[0].route[0].destination.host").unwrap();
    assert_eq!(position.to_string(), "f.yaml:20:100");
}

#[test]
fn a_broken_document_leaves_the_others() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one}
spec: {address: 1.2.3.4}
---
apiVersion: networking.istio.io/v1
kind: [WorkloadEntry
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: three}
spec: {address: a.example}
--- 5
";
    let parsed = parse("f", text, "ns");
    let names: Vec<_> = parsed.objects.iter().map(|o| o.meta.name.as_str()).collect();
    assert_eq!(names, ["one", "three"]);
    assert_eq!(brief(&parsed), ["MESH0001  7:7", "MESH0003  13:5"]);
    let parsed = parse("f", &text.replace('\n', "\r\n"), "ns");
    assert_eq!(brief(&parsed), ["MESH0001  7:7", "MESH0003  13:5"]);
}

fn rules(rules: &str) -> Parsed {
    let head = "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {name: v}\n\
                spec:\n  hosts: [a.example]\n  gateways: [g]\n  http:\n";
    parse("f", &format!("{head}{rules}"), "default")
}

#[test]
fn an_invalid_rule_is_dropped_and_the_others_keep_their_place() {
    let parsed = rules(
        "  - {name: one, route: [{destination: {host: a}}]}
  - name: two
    match: [{uri: {regx: a, exact: b}, port: http}]
    timeout: 5
    route:
    - destination: {host: b, port: {number: -1}}
      wieght: 5
  - {name: three, route: [{destination: {}}]}
  - {name: four, redirect: {uri: /, derivePort: REQUEST}, retries: {attempts: x}}
  - {name: five, route: [{destination: {host: a}}]}
",
    );
    let kept: Vec<_> = virtual_service(&parsed, 0).http.iter().map(|r| (r.index, r.name.clone().unwrap())).collect();
    assert_eq!(kept, [(0, "one".to_owned()), (4, "five".to_owned())]);
    assert_eq!(
        brief(&parsed),
        [
            "MESH0004 spec.http[1].match[0].uri.regx 10:20",
            "MESH0003 spec.http[1].match[0].port 10:46",
            "MESH0003 spec.http[1].timeout 11:14",
            "MESH0003 spec.http[1].route[0].destination.port.number 13:45",
            "MESH0004 spec.http[1].route[0].wieght 14:7",
            "MESH0006 spec.http[2].route[0].destination.host 15:28",
            "MESH0003 spec.http[3].redirect.derivePort 16:49",
            "MESH0003 spec.http[3].retries.attempts 16:79",
        ]
    );
    let text = messages(&parsed);
    for part in [
        "did you mean `regex`?",
        "`http` is not a whole number from 0 to 4294967295",
        "`5` is not a duration, it has no unit: did you mean `5s`?",
        "did you mean `weight`?",
        "allowed: `FROM_PROTOCOL_DEFAULT`, `FROM_REQUEST_PORT`",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let position = parsed.objects[0].position("spec.http[4].name").unwrap();
    assert_eq!((position.line, position.column), (17, 12));
}

#[test]
fn what_is_wrong_at_the_top_drops_the_object() {
    let parsed = parse(
        "f",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n\
        spec: {hosts: a.example, http: [{route: [{destination: {host: a}}]}], exportTo: {}}\n",
        "default",
    );
    assert!(parsed.objects.is_empty());
    assert_eq!(brief(&parsed), ["MESH0003 spec.hosts 4:15", "MESH0003 spec.exportTo 4:71"]);
}

#[test]
fn protojson_is_lenient() {
    let parsed = rules(
        "  - match: [{ignore_uri_case: on, uri: null, port: '80', headers: {x: {}}}]
    route: [{destination: {host: a}, weight: \"1e2\"}]
    mirror_percentage: {value: '1.5'}
    mirror: {host: m}
    timeout: 1m0.5s
    headers:
  - direct_response: {status: 200.0, body: {bytes: aGk}}
",
    );
    let http = &virtual_service(&parsed, 0).http;
    assert_eq!(http[0].r#match[0].ignore_uri_case, Some(true));
    assert_eq!(http[0].r#match[0].port, Some(80));
    assert_eq!(http[0].r#match[0].headers["x"], StringMatch::Present);
    assert_eq!(http[0].route[0].weight, Some(100));
    assert_eq!(http[0].mirror_percentage, Some(Percent { value: Some(1.5) }));
    assert_eq!(http[0].timeout.unwrap().get(), std::time::Duration::from_millis(60_500));
    assert_eq!(http[1].direct_response.as_ref().unwrap().body, Some(HttpBody::Bytes(b"hi".to_vec())));
    assert_eq!(brief(&parsed), [""; 0]);
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let parsed = rules(
        "  - &first {name: one, route: &r [{destination: {host: a}}]}
  - <<: *first
    name: two
  - {name: three, route: *r}
",
    );
    let http = &virtual_service(&parsed, 0).http;
    assert_eq!(http.iter().map(|r| r.name.as_deref().unwrap()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert!(http.iter().all(|route| route.route[0].destination.host == "a"));
    let position = parsed.objects[0].position("spec.http[2].route[0].destination.host").unwrap();
    assert_eq!((position.line, position.column), (8, 56));
}

#[test]
fn keys_given_twice_and_null_elements_are_errors() {
    let parsed = rules(
        "  - name: one
    name: two
    route: [{destination: {host: a}}]
  - {timeout: 1s, time_out: 1s, route: [null]}
  - match: [{headers: {a: {exact: x}, a: {exact: y}}, uri: {exact: a, prefix: b}}]
    route: [{destination: {host: a}}]
  - match: [{headers: {a: null}}]
    route: [{destination: {host: a}}]
  - {route: [{destination: {host: a}}]}
",
    );
    assert_eq!(virtual_service(&parsed, 0).http.iter().map(|r| r.index).collect::<Vec<_>>(), [4]);
    assert_eq!(
        brief(&parsed),
        [
            "MESH0003 spec.http[0].name 9:5",
            "MESH0004 spec.http[1].time_out 11:19",
            "MESH0003 spec.http[1].route[0] 11:41",
            "MESH0003 spec.http[2].match[0].headers.a 12:39",
            "MESH0003 spec.http[2].match[0].uri 12:55",
            "MESH0003 spec.http[3].match[0].headers.a 14:27",
        ]
    );
}

#[test]
fn heads_are_checked() {
    for (text, expected) in [
        ("a: 1\n", "MESH0006 kind 1:1"),
        ("kind: Gateway\n", "MESH0006 apiVersion 1:1"),
        ("[1]", "MESH0003  1:1"),
        ("apiVersion: networking.istio.io/v1\nkind: Gateway\nspec: {}\n", "MESH0006 metadata.name 1:1"),
        ("apiVersion: networking.istio.io/v2\nkind: Gateway\n", "MESH0003 apiVersion 1:13"),
        ("apiVersion: networking.istio.io/v1\nkind: VirtualSerivce\n", "MESH0002 kind 2:7"),
        ("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n", "MESH0002 kind 2:7"),
        ("apiVersion: networking.istio.io/v1\nkind: EnvoyFilter\n", "MESH0002 kind 2:7"),
        ("apiVersion: security.istio.io/v1alpha1\nkind: AuthorizationPolicy\n", "MESH0003 apiVersion 1:13"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {v: 1}}\n", "MESH0003 metadata.labels.v 3:33"),
        ("apiVersion: v1\nkind: Service\nmetadata: []\n", "MESH0003 metadata 3:1"),
    ] {
        let parsed = parse("f", text, "default");
        assert!(parsed.objects.is_empty(), "{text}");
        assert_eq!(brief(&parsed), [expected], "{text}");
    }
    let typo = parse("f", "apiVersion: networking.istio.io/v1\nkind: VirtualSerivce\n", "default");
    assert_eq!(typo.diagnostics[0].severity, Severity::Warning);
    assert_eq!(typo.diagnostics[0].help.as_deref(), Some("did you mean `VirtualService`?"));
}

/// Of a policy nothing is lost that would close something.
#[test]
fn a_rule_of_a_policy_that_cannot_be_read_keeps_its_place() {
    let text = "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  \
                action: DENY\n  rules:\n  - to: [{operation: {paths: 5}}, {operation: {paths: [/a]}}]\n  - 7\n";
    let parsed = parse("f", text, "default");
    assert_eq!(brief(&parsed), ["MESH0003 spec.rules[0].to[0].operation.paths 7:30", "MESH0003 spec.rules[1] 8:5"]);
    let Spec::AuthorizationPolicy(policy) = &parsed.objects[0].spec else { panic!("{parsed:?}") };
    let [Some(rule), None] = policy.rules.as_slice() else { panic!("{policy:?}") };
    assert!(matches!(rule.to.as_slice(), [None, Some(_)]), "{rule:?}");
}

#[test]
fn a_field_beside_spec_is_unknown() {
    let parsed = parse(
        "f",
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\n\
        address: 1.1.1.1\nspec: {address: 1.2.3.4, addres: x}\nstatus: {anything: 1}\n",
        "default",
    );
    assert_eq!(parsed.objects.len(), 1);
    assert_eq!(brief(&parsed), ["MESH0004 address 4:1", "MESH0004 spec.addres 5:26"]);
}

#[test]
fn kubernetes_objects_are_views() {
    let parsed = parse(
        "f",
        "\
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: a}, ownerReferences: [{x: 1}]}
spec:
  serviceAccountName: sa
  containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.0.0.1, phase: Running}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
type: kubernetes.io/tls
data: {tls.crt: aGk=}
stringData: {tls.key: key}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], conditions: {ready: false}}]
ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio}
data: {mesh: 'accessLogFile: x'}
",
        "default",
    );
    assert_eq!(brief(&parsed), Vec::<String>::new());
    let Spec::Pod(pod) = &parsed.objects[0].spec else { panic!() };
    assert!(pod.ready && pod.ports[0].container_port == 8080 && pod.service_account_name.as_deref() == Some("sa"));
    let Spec::Secret(secret) = &parsed.objects[1].spec else { panic!() };
    assert_eq!((secret.data["tls.crt"].as_slice(), secret.data["tls.key"].as_slice()), (&b"hi"[..], &b"key"[..]));
    let Spec::EndpointSlice(slice) = &parsed.objects[2].spec else { panic!() };
    assert!(!slice.endpoints[0].conditions.is_ready());
    let Spec::ConfigMap(map) = &parsed.objects[3].spec else { panic!() };
    assert_eq!(map.data["mesh"], "accessLogFile: x");
}

#[test]
fn secrets_are_not_shown() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: 'hunter2!', b: 12345, c: [hunter2]}\n";
    let parsed = parse("f", text, "default");
    assert_eq!(parsed.diagnostics.len(), 3);
    assert!(!messages(&parsed).contains("hunter2") && !messages(&parsed).contains("12345"), "{}", messages(&parsed));
}

#[test]
fn enums_and_protocols_name_what_is_allowed() {
    let parsed = parse(
        "f",
        "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  servers:
  - {hosts: [a.example], port: {number: 443, name: a, protocol: https}, tls: {mode: SIMPEL, credentialName: c}}
  - {hosts: [b.example], port: {number: 80, name: b, protocol: HTTTP}}
  - {hosts: [c.example], port: {number: 80, name: c, protocol: grpc-Web}}
",
        "default",
    );
    let Spec::Gateway(gateway) = &parsed.objects[0].spec else { panic!() };
    assert_eq!(gateway.servers.len(), 1);
    assert_eq!((gateway.servers[0].index, gateway.servers[0].port.protocol), (2, Protocol::GrpcWeb));
    assert_eq!(
        brief(&parsed),
        ["MESH0003 spec.servers[0].tls.mode 6:85", "MESH0003 spec.servers[1].port.protocol 7:64"]
    );
    let text = messages(&parsed);
    assert!(text.contains("did you mean `SIMPLE`?") && text.contains("`HTTTP` is not one of `HTTP`"), "{text}");
}

#[test]
fn a_wrong_block_of_a_policy_leaves_the_rest() {
    let parsed = parse(
        "f",
        "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec:
  host: a
  trafficPolicy:
    loadBalancer: {simple: FASTEST}
    connectionPool: {tcp: {connectTimeout: 1s}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: 2}}
  - {name: v3, labels: {version: v3}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, consistentHash: {}}}}
",
        "default",
    );
    let Spec::DestinationRule(rule) = &parsed.objects[0].spec else { panic!() };
    let policy = rule.traffic_policy.as_ref().unwrap();
    assert!(policy.load_balancer.is_none() && policy.connection_pool.is_some());
    assert_eq!(rule.subsets.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["v1", "v3"]);
    assert!(rule.subsets[1].traffic_policy.as_ref().unwrap().load_balancer.is_none());
}

#[test]
fn many_errors_end() {
    let mut text = String::from("  - {route: [{destination: {host: a}}]}\n");
    for _ in 0..2000 {
        text.push_str("  - {timeout: x, route: [{weight: y, destination: {host: 1}}]}\n");
    }
    let parsed = rules(&text);
    assert_eq!(virtual_service(&parsed, 0).http.len(), 1);
    assert_eq!(parsed.diagnostics.len(), 6000);
    let list = "x, ".repeat(100_000);
    let parsed = rules(&format!("  - {{match: [{{port: 1}}], route: [{list}]}}\n"));
    assert!(parsed.diagnostics.len() < 30, "{}", parsed.diagnostics.len());
}

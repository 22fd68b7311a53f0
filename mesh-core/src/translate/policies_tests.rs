use std::sync::Arc;

use crate::model::{
    Attribute, AuthorizerProtocol, Clause, DestinationRef, ExternalAuthorizer, KeySource, NameMatch, PolicyAction,
    ProxyInfo, TokenLocation, ValueMatch,
};
use crate::translate::fixture::{Docs, docs, http_server, proxy};
use crate::translate::{Translation, Translator, translate};
use crate::world::World;

fn policy(name: &str, spec: &str) -> Docs {
    docs().add("AuthorizationPolicy", name, &format!("spec: {spec}"))
}

/// Clauses as `request.headers[a]=x|y`, with `!` where they are negated.
fn shown(clauses: &[Clause]) -> String {
    let one = |clause: &Clause| {
        let values: Vec<String> = clause.values.iter().map(ToString::to_string).collect();
        format!("{}{}={}", if clause.negated { "!" } else { "" }, clause.attribute, values.join("|"))
    };
    clauses.iter().map(one).collect::<Vec<_>>().join(" & ")
}

fn rules(translation: &Translation) -> Vec<String> {
    let lists = |lists: &[Vec<Clause>]| {
        let all: Vec<String> = lists.iter().map(|clauses| format!("({})", shown(clauses))).collect();
        all.join("")
    };
    let policies = translation.set.authorization.values();
    policies
        .flat_map(|policy| &policy.rules)
        .map(|rule| {
            format!("{} from{} to{} when({})", rule.index, lists(&rule.from), lists(&rule.to), shown(&rule.when))
        })
        .collect()
}

#[test]
fn a_policy_is_for_its_namespace_or_from_the_root_for_the_mesh() {
    let mut names = docs();
    for (name, spec) in [
        ("istio-system/root", "{}"),
        ("istio-system/selected", "{selector: {matchLabels: {istio: ingressgateway}}}"),
        ("istio-system/other", "{selector: {matchLabels: {istio: egressgateway}}}"),
        ("istio-system/attached", "{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: gw}]}"),
        ("istio-system/behind", "{targetRefs: [{kind: Service, group: '', name: gw}]}"),
        ("default/elsewhere", "{}"),
        ("edge/own", "{}"),
        ("edge/attached", "{targetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: gw}}"),
    ] {
        names = names.add("AuthorizationPolicy", name, &format!("spec: {spec}"));
    }
    let world = World::from_objects(names.objects_anyway());
    let keys = |proxy: &ProxyInfo| -> Vec<String> {
        translate(&world, proxy).set.authorization.keys().map(|key| key.to_string()).collect()
    };
    assert_eq!(keys(&proxy()), ["istio-system/root", "istio-system/selected"]);
    let labels = [("gateway.networking.k8s.io/gateway-name".to_owned(), "gw".to_owned())];
    let managed = ProxyInfo::edge("edge", "edge", labels.into());
    assert_eq!(keys(&managed), ["edge/attached", "edge/own", "istio-system/root"]);
}

#[test]
fn rules_are_read() {
    let spec = "{action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b], notIpBlocks: [10.0.0.0/8]}}, \
                {source: {serviceAccounts: [sa]}}], to: [{operation: {paths: [/a*, '/b/{*}'], notPorts: ['80']}}], \
                when: [{key: 'request.headers[X-A]', values: [v], notValues: [w]}]}, {}]}";
    let translation = policy("istio-system/p", spec).translate_anyway();
    assert_eq!(
        rules(&translation),
        [
            "0 from(source.principal=cluster.local/ns/a/sa/b & !source.ip=10.0.0.0/8)(source.serviceAccount=istio-system/sa) \
             to(!destination.port=80 & path=/a*|/b/{*}) when(request.headers[x-a]=v & !request.headers[x-a]=w)",
            "1 from to when()",
        ]
    );
    let policy = translation.set.authorization.values().next().unwrap();
    assert_eq!((&policy.action, policy.dry_run), (&PolicyAction::Deny, false));
    assert_eq!(translation.diagnostics, []);
}

#[test]
fn principals_are_those_of_all_trust_domains_of_the_mesh() {
    let mesh = "data: {mesh: \"trustDomain: new.example\\ntrustDomainAliases: [old.example]\"}";
    let docs =
        policy("istio-system/p", "{rules: [{from: [{source: {principals: [old.example/ns/a/sa/b, x/ns/a/sa/b]}}]}]}");
    let translation = docs.add("ConfigMap", "istio-system/istio", mesh).translate_anyway();
    let policy = translation.set.authorization.values().next().unwrap();
    let values: Vec<String> = policy.rules[0].from[0][0].values.iter().map(ToString::to_string).collect();
    assert_eq!(values, ["old.example/ns/a/sa/b", "new.example/ns/a/sa/b", "x/ns/a/sa/b"]);
}

/// What cannot be understood does not allow.
#[test]
fn what_is_wrong_never_allows() {
    for (rule, expected) in [
        ("7", &[][..]),
        ("{to: [7]}", &["0 from to(method=) when()"]),
        ("{to: [{operation: {}}]}", &["0 from to(method=) when()"]),
        ("{from: [{source: {ipBlocks: [x]}}]}", &["0 from(source.ip=) to when()"]),
        ("{from: [{source: {ipBlocks: [x, 10.0.0.1]}}]}", &["0 from(source.ip=10.0.0.1/32) to when()"]),
        ("{from: [{source: {notIpBlocks: [x, 10.0.0.1]}}]}", &["0 from(method=) to when()"]),
        ("{when: [{key: no.such, values: [a]}]}", &["0 from to when(method=)"]),
        ("{when: [{key: source.ip}]}", &["0 from to when(method=)"]),
        ("{when: [{key: 'experimental.envoy.filters.a[b]', values: [c]}]}", &["0 from to when(method=)"]),
    ] {
        let translation = policy("istio-system/p", &format!("{{rules: [{rule}]}}")).translate_anyway();
        assert_eq!(rules(&translation), expected, "{rule}");
        assert_eq!(translation.set.authorization.len(), 1, "a policy that allows nothing is one nevertheless");
    }
}

/// What cannot be understood does not keep from denying.
#[test]
fn what_is_wrong_always_denies() {
    for (rule, expected) in [
        ("7", "0 from to when()"),
        ("{to: [7]}", "0 from to() when()"),
        (
            "{from: [{source: {ipBlocks: [x, 10.0.0.1]}}], to: [{operation: {paths: [/a]}}]}",
            "0 from() to(path=/a) when()",
        ),
        ("{from: [{source: {notIpBlocks: [x, 10.0.0.1]}}]}", "0 from(!source.ip=10.0.0.1/32) to when()"),
        ("{when: [{key: no.such, values: [a]}]}", "0 from to when()"),
        ("{to: [{operation: {paths: ['/{a}', /b], methods: [GET]}}]}", "0 from to(method=GET) when()"),
    ] {
        let translation = policy("istio-system/p", &format!("{{action: DENY, rules: [{rule}]}}")).translate_anyway();
        assert_eq!(rules(&translation), [expected], "{rule}");
    }
}

#[test]
fn a_change_of_a_policy_changes_policies_alone() {
    let docs = || docs().gateway("istio-system/gw", &http_server(80, "a.example"));
    let mut world = World::from_objects(docs().objects_anyway());
    let mut translator = Translator::new(proxy());
    translator.update(&world);
    let before = translator.set().clone();
    let added = policy("istio-system/p", "{action: DENY, rules: [{}]}").objects_anyway();
    let name = added[0].object_ref();
    world.apply(added);
    translator.update(&world);
    assert_eq!(translator.set().authorization.len(), 1);
    assert!(before.listeners.ptr_eq(&translator.set().listeners));
    world.remove(&[name]);
    translator.update(&world);
    assert_eq!(*translator.set(), before);
}

#[test]
fn tokens() {
    let rules = "[{issuer: a, jwksUri: 'https://a/keys'}, {issuer: b, fromHeaders: [{name: X-T, prefix: 'T '}], fromCookies: [c], \
                 outputClaimToHeaders: [{header: X-C, claim: a.b}]}, 5, {issuer: c, jwks: '{\"keys\":[]}', jwksUri: 'http://c/'}]";
    let docs = docs().add("RequestAuthentication", "istio-system/t", &format!("spec: {{jwtRules: {rules}}}"));
    let translation = docs.translate_anyway();
    let policy = translation.set.authentication.values().next().unwrap();
    let [a, b, broken, both] = policy.rules.as_slice() else { panic!("{policy:?}") };
    assert_eq!(a.keys, KeySource::Url("https://a/keys".into()));
    assert_eq!(a.locations, TokenLocation::usual());
    assert_eq!(b.keys, KeySource::Issuer("b".into()));
    let header = TokenLocation::Header { name: "x-t".to_owned(), prefix: "T ".to_owned() };
    assert_eq!(b.locations, [header, TokenLocation::Cookie("c".to_owned())]);
    assert_eq!(b.claim_headers[0].header, "x-c");
    assert_eq!(b.claim_headers[0].claim, ["a", "b"]);
    assert_eq!((&*broken.issuer, &broken.keys), ("", &KeySource::Nowhere));
    assert_eq!(both.keys, KeySource::Nowhere);
}

#[test]
fn claims_in_rules_of_virtual_services() {
    let rule = "{match: [{headers: {'@request.auth.claims.a.b': {exact: x}}, withoutHeaders: {'@request.auth.claims[c]': {prefix: y}}}], \
                directResponse: {status: 200}}";
    let docs = docs().http("a.example").vs("default/v", "a.example", rule);
    let translation = docs.translate();
    let routes = translation.set.routes.values().next().unwrap();
    let claims = &routes.virtual_hosts[0].rules[0].predicate.claims;
    assert_eq!(claims.len(), 2);
    assert_eq!((claims[0].claim.as_slice(), claims[0].invert), (&["a".to_owned(), "b".to_owned()][..], false));
    assert_eq!((claims[1].claim.as_slice(), claims[1].invert), (&["c".to_owned()][..], true));
    assert_eq!(Attribute::Claim(vec!["a".to_owned()]).value("x*").unwrap(), ValueMatch::Prefix("x".to_owned()));
}

const MESH: &str = "data: {mesh: \"extensionProviders: [\\
    {name: a, envoyExtAuthzHttp: {service: authz.default.svc.cluster.local, port: 80, timeout: 1s, statusOnError: '503', headersToUpstreamOnAllow: [X-User, x-g-*]}}, \\
    {name: b, envoyExtAuthzGrpc: {service: default/authz.default.svc.cluster.local, port: 81}}, {name: c, zipkin: {}}, \
    {name: far, envoyExtAuthzHttp: {service: far/authz.example, port: 80}}, {name: any, envoyExtAuthzHttp: {service: authz.example, port: 80}}, \
    {name: nowhere, envoyExtAuthzHttp: {service: nowhere/authz.example, port: 80}}]\"}";

fn custom(provider: &str) -> Docs {
    let spec = format!("{{action: CUSTOM, provider: {{name: {provider}}}, rules: [{{}}]}}");
    policy("istio-system/p", &spec).add("ConfigMap", "istio-system/istio", MESH).service("default/authz", 80)
}

fn asked(translation: &Translation) -> Option<Arc<ExternalAuthorizer>> {
    match &translation.set.authorization["istio-system/p"].action {
        PolicyAction::Custom { authorizer, .. } => authorizer.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_provider_is_read_and_its_destination_is_told() {
    let translation = custom("a").translate_anyway();
    let authorizer = asked(&translation).unwrap();
    let key = "outbound|80||authz.default.svc.cluster.local";
    assert_eq!(authorizer.destination, DestinationRef::Known(key.into()));
    assert_eq!((authorizer.timeout.as_secs(), authorizer.status_on_error, authorizer.fail_open), (1, 503, false));
    let AuthorizerProtocol::Http(check) = &authorizer.protocol else { panic!("{authorizer:?}") };
    assert_eq!(check.upstream, [NameMatch::Exact("x-user".to_owned()), NameMatch::Prefix("x-g-".to_owned())]);
    assert!(translation.set.destinations.contains_key(key) && translation.set.endpoints.contains_key(key));
    // Nobody names it any more.
    let mut world = World::from_objects(custom("a").objects_anyway());
    let mut translator = Translator::new(proxy());
    translator.update(&world);
    assert!(translator.set().destinations.contains_key(key));
    let policy = world.authorization_policies("istio-system").next().unwrap().reference.clone();
    world.remove(&[policy]);
    translator.update(&world);
    assert!(!translator.set().destinations.contains_key(key) && !translator.set().endpoints.contains_key(key));
}

/// The name is in two namespaces, and that of one nobody else may see.
#[test]
fn a_provider_of_a_namespace_is_that_namespaces_own() {
    let entry = |address: &str, export: &str| {
        format!(
            "spec: {{hosts: [authz.example], exportTo: ['{export}'], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: {address}}}]}}"
        )
    };
    let translated = |provider: &str| {
        let docs = custom(provider).add("ServiceEntry", "near/authz", &entry("10.0.0.1", "*"));
        docs.add("ServiceEntry", "far/authz", &entry("10.0.0.2", ".")).translate_anyway()
    };
    for (provider, namespace) in [("far", "far"), ("any", "near")] {
        let translation = translated(provider);
        let DestinationRef::Known(key) = &asked(&translation).unwrap().destination else { panic!("{provider}") };
        assert_eq!(&*translation.set.destinations[key].origin.namespace, namespace, "{provider}");
    }
    let nowhere = translated("nowhere");
    assert!(matches!(asked(&nowhere).unwrap().destination, DestinationRef::Unknown(_)));
    let said = nowhere.diagnostics.iter().find(|found| found.field == "spec.provider.name").unwrap();
    assert!(said.message.contains("of namespace `nowhere`"), "{said:?}");
}

#[test]
fn a_provider_that_cannot_be_asked_is_said_and_denies() {
    let found = |translation: &Translation| -> Vec<(&'static str, String)> {
        let own = translation.diagnostics.iter().filter(|found| found.field == "spec.provider.name");
        own.map(|found| (found.code, found.message.clone())).collect()
    };
    let unknown = custom("d").translate_anyway();
    assert_eq!(asked(&unknown), None);
    assert_eq!(found(&unknown)[0].0, "MESH0130");
    let of_another_kind = custom("c").translate_anyway();
    assert_eq!(asked(&of_another_kind), None);
    assert!(found(&of_another_kind)[0].1.contains("does not decide"), "{:?}", found(&of_another_kind));
    let no_port = custom("b").translate_anyway();
    assert!(matches!(asked(&no_port).unwrap().destination, DestinationRef::Unknown(_)));
    assert_eq!(found(&no_port)[0].0, "MESH0105");
}

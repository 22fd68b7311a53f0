use std::sync::Arc;
use std::time::Duration;

use super::super::fixture::{Docs, docs, keys, sidecar, to};
use super::super::{Translator, translate};
use crate::diag;
use crate::model::{
    AuthoritySource, Balancing, CertificateSource, Origination, ProxyInfo, SecretAccess, UpstreamProtocol, UpstreamTls,
};

const WEB: &str = "outbound|80||web.default.svc.cluster.local";
const V1: &str = "outbound|80|v1|web.default.svc.cluster.local";
const V2: &str = "outbound|80|v2|web.default.svc.cluster.local";

fn pod(ip: &str) -> String {
    format!("spec: {{serviceAccountName: web}}\nstatus: {{podIP: {ip}}}")
}

/// `web` with two endpoints: pods `web-v1-abc-1` and `web-v2-def-2`.
fn web() -> super::super::fixture::Docs {
    docs()
        .http("'*'")
        .add("Service", "default/web", "spec: {ports: [{name: http, port: 80, targetPort: 9080}]}")
        .slice(
            "default/web-1",
            "web",
            "ports: [{name: http, port: 9080}]\nendpoints: [\
             {addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-v1-abc-1}}, \
             {addresses: [10.0.0.2], conditions: {ready: true}, targetRef: {kind: Pod, name: web-v2-def-2, namespace: default}}, \
             {addresses: [10.0.0.3], conditions: {ready: false}}]",
        )
        .labelled("default/web-v1-abc-1", "app: web, version: v1, pod-template-hash: abc", &pod("10.0.0.1"))
        .labelled("default/web-v2-def-2", "app: web, version: v2, pod-template-hash: def", &pod("10.0.0.2"))
}

fn subset(host: &str, subset: &str) -> String {
    format!("{{route: [{{destination: {{host: {host}, subset: {subset}}}}}]}}")
}

const RULE: &str = "spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]}";

#[test]
fn only_what_rules_name_is_emitted_with_ready_endpoints() {
    let t = web().service("default/other", 80).vs("default/v", "a.com", &to("web")).translate();
    assert_eq!(t.set.destinations.keys().map(|key| &**key).collect::<Vec<_>>(), [WEB]);
    assert_eq!(t.addresses(WEB), ["10.0.0.1:9080", "10.0.0.2:9080"]);
    let workload = t.set.endpoints[WEB].endpoints[0].workload.clone().unwrap();
    assert_eq!((&*workload.name, &*workload.version, &*workload.canonical_service), ("web-v1", "v1", "web"));
    assert_eq!(&*workload.principal, "spiffe://cluster.local/ns/default/sa/web");
    let destination = &t.set.destinations[WEB];
    assert_eq!(
        (destination.connect_timeout, destination.idle_timeout),
        (Duration::from_secs(10), Duration::from_secs(3600))
    );
    assert_eq!((&destination.balancing, destination.protocol), (&Balancing::LeastRequest, UpstreamProtocol::Http1));
}

#[test]
fn subsets_pick_endpoints_by_label() {
    let t =
        web().add("DestinationRule", "default/web", RULE).vs("default/v", "a.com", &subset("web", "v1")).translate();
    assert_eq!(t.addresses(V1), ["10.0.0.1:9080"]);
    assert_eq!(t.set.destinations[V1].rule.as_ref().unwrap().to_string(), "DestinationRule/default/web");
}

#[test]
fn a_subset_without_endpoints_is_there_and_said() {
    let t =
        web().add("DestinationRule", "default/web", RULE).vs("default/v", "a.com", &subset("web", "v3")).translate();
    assert_eq!(keys(&t.rules("a.com")[0]), ["outbound|80|v3|web.default.svc.cluster.local"]);
    let said = t.said(diag::SUBSET_WITHOUT_ENDPOINTS);
    assert!(said[0].contains("DestinationRule/default/web spec.subsets[2].labels"), "{said:?}");
    assert!(said[0].contains("none of the 2 endpoints"), "{said:?}");
}

#[test]
fn what_does_not_exist_is_unknown_for_its_share_only() {
    let http = "{route: [{destination: {host: web}, weight: 50}, {destination: {host: wbe}, weight: 50}]}, ";
    let t = web().vs("default/v", "a.com", http).translate();
    assert_eq!(keys(&t.rules("a.com")[0]), [WEB, "!outbound|80||wbe.default.svc.cluster.local"]);
    let said = t.said(diag::DESTINATION_HOST_UNKNOWN);
    assert!(said[0].contains("spec.http[0].route[1].destination.host"), "{said:?}");
    assert!(said[0].contains("did you mean `web.default.svc.cluster.local`?"), "{said:?}");
}

#[test]
fn names_with_a_dot_stay() {
    let t = web().vs("other/v", "a.com", &to("web.default")).vs("other/w", "b.com", &to("web")).translate();
    assert_eq!(keys(&t.rules("a.com")[0]), ["!outbound|80||web.default"]);
    assert_eq!(keys(&t.rules("b.com")[0]), ["!outbound|80||web.other.svc.cluster.local"]);
    let said = t.said(diag::DESTINATION_HOST_UNKNOWN);
    assert!(said.iter().any(|line| line.contains("write `web.default.svc.cluster.local`")), "{said:?}");
}

#[test]
fn unknown_subsets_and_ports() {
    let port = "{match: [{uri: {exact: /p}}], route: [{destination: {host: web, port: {number: 81}}}]}";
    let t = web()
        .add("DestinationRule", "default/web", RULE)
        .vs("default/v", "a.com", &format!("{port}, {}", subset("web", "v4")))
        .translate();
    assert_eq!(keys(&t.rules("a.com")[0]), ["!outbound|81||web.default.svc.cluster.local"]);
    assert_eq!(keys(&t.rules("a.com")[1]), ["!outbound|80|v4|web.default.svc.cluster.local"]);
    assert!(t.said(diag::DESTINATION_PORT_UNKNOWN)[0].contains("has ports 80, not 81"));
    assert!(t.said(diag::DESTINATION_SUBSET_UNKNOWN)[0].contains("has subsets v1, v2, v3"));
}

#[test]
fn without_a_port_the_only_one_is_taken_else_the_listeners() {
    let service = |ports: &str| format!("spec: {{ports: [{ports}]}}");
    let t = docs()
        .http("'*'")
        .add("Service", "default/one", &service("{port: 9080, name: http}"))
        .add("Service", "default/two", &service("{port: 80, name: http}, {port: 81, name: http-b}"))
        .add("Service", "default/three", &service("{port: 8080, name: http}, {port: 81, name: http-b}"))
        .vs("default/v", "a.com", &to("one"))
        .vs("default/w", "b.com", &to("two"))
        .vs("default/x", "c.com", &to("three"))
        .translate();
    assert_eq!(keys(&t.rules("a.com")[0]), ["outbound|9080||one.default.svc.cluster.local"]);
    assert_eq!(keys(&t.rules("b.com")[0]), ["outbound|80||two.default.svc.cluster.local"]);
    assert_eq!(keys(&t.rules("c.com")[0]), ["!outbound|80||three.default.svc.cluster.local"]);
}

#[test]
fn rules_are_looked_for_with_the_client_then_the_service_then_the_root() {
    let rule = |balancer: &str| {
        format!(
            "spec: {{host: web.default.svc.cluster.local, trafficPolicy: {{loadBalancer: {{simple: {balancer}}}}}}}"
        )
    };
    let balancing = |docs: super::super::fixture::Docs| {
        let docs = docs.add("ConfigMap", "istio-system/istio", "data: {mesh: 'rootNamespace: root'}");
        docs.vs("default/v", "a.com", &to("web")).translate().set.destinations[WEB].balancing.clone()
    };
    let elsewhere = || web().add("DestinationRule", "elsewhere/r", &rule("RANDOM"));
    assert_eq!(balancing(elsewhere()), Balancing::LeastRequest);
    let root = || elsewhere().add("DestinationRule", "root/r", &rule("RANDOM"));
    assert_eq!(balancing(root()), Balancing::Random);
    let service = || root().add("DestinationRule", "default/r", &rule("ROUND_ROBIN"));
    assert_eq!(balancing(service()), Balancing::RoundRobin);
    let client = || service().add("DestinationRule", "istio-system/r", &rule("RANDOM"));
    assert_eq!(balancing(client()), Balancing::Random);
}

#[test]
fn the_most_specific_host_counts_and_is_not_mixed_with_a_wildcard() {
    let t = web()
        .add(
            "DestinationRule",
            "default/wide",
            "spec: {host: '*.default.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
        )
        .add("DestinationRule", "default/web", RULE)
        .vs("default/v", "a.com", &subset("web", "v1"))
        .service("default/other", 80)
        .vs("default/w", "b.com", &to("other"))
        .translate();
    assert_eq!(t.set.destinations[V1].balancing, Balancing::LeastRequest);
    assert_eq!(t.set.destinations["outbound|80||other.default.svc.cluster.local"].balancing, Balancing::Random);
}

#[test]
fn rules_of_one_host_and_namespace_merge() {
    let first = "spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}";
    let second = "spec: {host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v1, labels: {version: v2}}, {name: v2, labels: {version: v2}}]}";
    let http = "{route: [{destination: {host: web, subset: v1}, weight: 1}, {destination: {host: web, subset: v2}, weight: 1}]}";
    let t = web()
        .add_on(1, "DestinationRule", "default/z", first)
        .add_on(2, "DestinationRule", "default/a", second)
        .vs("default/v", "a.com", http)
        .translate();
    assert_eq!(t.addresses(V1), ["10.0.0.1:9080"]);
    assert_eq!(t.addresses(V2), ["10.0.0.2:9080"]);
    assert_eq!(t.set.destinations[V2].balancing, Balancing::Random);
    assert_eq!(t.said(diag::SUBSET_DUPLICATE).len(), 1);
    assert_eq!(t.said(diag::RULE_IGNORED).len(), 1);
}

#[test]
fn subset_policies_replace_block_by_block_and_ports_replace_all_blocks() {
    let rule = "spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {connectTimeout: 3s}, http: {idleTimeout: 7s}}}, \
                subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}, \
                {name: v2, labels: {version: v2}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}]}}]}";
    let http = "{route: [{destination: {host: web, subset: v1}, weight: 1}, {destination: {host: web, subset: v2}, weight: 1}]}";
    let t = web().add("DestinationRule", "default/web", rule).vs("default/v", "a.com", http).translate_anyway();
    let (v1, v2) = (&t.set.destinations[V1], &t.set.destinations[V2]);
    assert_eq!(
        (&v1.balancing, v1.connect_timeout, v1.idle_timeout),
        (&Balancing::RoundRobin, Duration::from_secs(3), Duration::from_secs(7))
    );
    assert_eq!((&v2.balancing, v2.protocol), (&Balancing::Random, UpstreamProtocol::Http2Upgraded));
    assert_eq!(v2.connect_timeout, Duration::from_secs(10));
}

#[test]
fn port_settings_do_not_inherit() {
    let rule = "spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {connectTimeout: 1s}}}]}}";
    let t = web().add("DestinationRule", "default/web", rule).vs("default/v", "a.com", &to("web")).translate();
    let web = &t.set.destinations[WEB];
    assert_eq!((&web.balancing, web.connect_timeout), (&Balancing::LeastRequest, Duration::from_secs(1)));
}

#[test]
fn encrypted_destinations_are_not_reached_in_clear() {
    let docs = |mode: &str| {
        let rule = format!("spec: {{host: web, trafficPolicy: {{tls: {{mode: {mode}, credentialName: a}}}}}}");
        web().add("DestinationRule", "default/web", &rule).vs("default/v", "a.com", &to("web"))
    };
    let key = "istio-system/a/simple";
    let missing = docs("SIMPLE").translate_anyway();
    assert_eq!(missing.set.destinations[WEB].tls.secret().map(|key| &**key), Some(key));
    assert_eq!((missing.said(diag::SECRET_MISSING).len(), missing.set.secrets.len()), (1, 0));
    // Nothing of it is needed.
    let blind = docs("SIMPLE, insecureSkipVerify: true").translate_anyway();
    assert_eq!(blind.said(diag::SECRET_MISSING), [""; 0]);
    // What else is in it is for those of its namespace.
    let other = docs("SIMPLE").add("Secret", "istio-system/a", "stringData: {password: p}").translate_anyway();
    let said = other.said(diag::SECRET_WITHOUT_KEYS);
    assert!(said[0].contains("has no CA certificates") && !said[0].contains("password"), "{said:?}");
    // Of a secret only what is needed is told.
    let secret = "stringData: {ca.crt: ca, tls.crt: certificate, tls.key: key}";
    let there = docs("SIMPLE").add("Secret", "istio-system/a", secret).translate_anyway();
    let told = &there.set.secrets[key];
    assert_eq!((&*told.authorities_pem, told.has_pair()), ("ca", false));
    let mutual = docs("MUTUAL").add("Secret", "istio-system/a", secret).translate_anyway();
    assert!(mutual.set.secrets["istio-system/a/mutual"].has_pair());
    assert_eq!(mutual.set.secrets.len(), 1);
    // Those of other namespaces are nobody's.
    let elsewhere = docs("SIMPLE").add("Secret", "default/a", secret).translate_anyway();
    assert_eq!(elsewhere.set.secrets.len(), 0);
}

#[test]
fn a_sidecar_is_given_what_its_rule_names_and_its_account_may_read() {
    let docs = |selector: &str, credential: &str| {
        let rule = format!(
            "spec: {{host: web, {selector}trafficPolicy: {{tls: {{mode: MUTUAL, credentialName: {credential}}}}}}}"
        );
        let secret = "stringData: {ca.crt: ca, tls.crt: certificate, tls.key: key}";
        web().add("DestinationRule", "default/web", &rule).add("Secret", "default/a", secret).add(
            "Secret",
            "istio-system/a",
            secret,
        )
    };
    let selector = "workloadSelector: {matchLabels: {app: client}}, ";
    let key = "default/a/mutual";
    let as_one = |docs: Docs, access: SecretAccess| {
        let translation = translate(&docs.world(), &ProxyInfo { secrets: access, ..sidecar() });
        let said: Vec<String> = translation.diagnostics.iter().map(ToString::to_string).collect();
        let keys: Vec<String> = translation.set.secrets.keys().map(ToString::to_string).collect();
        let named = translation.set.destinations.get(WEB).and_then(|web| web.tls.secret()).map(ToString::to_string);
        (keys, named, said)
    };
    let (given, named, said) = as_one(docs(selector, "a"), SecretAccess::Allowed);
    assert_eq!((given, named.as_deref(), said), (vec![key.to_owned()], Some(key), Vec::new()));
    // In its own namespace, and in no other.
    let (given, named, said) = as_one(docs(selector, "istio-system/a"), SecretAccess::Allowed);
    assert!(
        given.is_empty() && named.is_none() && said[0].contains("only `default` (of the workload) is allowed"),
        "{said:?}"
    );
    // Who may not, or of whom it is not known, gets nothing; TLS is spoken all the same.
    for (access, code, word) in [
        (SecretAccess::Denied, "MESH0117", "may not list the secrets"),
        (SecretAccess::Unknown, "MESH0117", "cannot be found out"),
        (SecretAccess::Unread, "MESH0106", "does not exist"),
        (SecretAccess::Pending, "", ""),
    ] {
        let (given, named, said) = as_one(docs(selector, "a"), access);
        assert_eq!((given, named.as_deref()), (Vec::new(), Some(key)), "{access:?}");
        assert_eq!(said.len(), usize::from(!code.is_empty()), "{said:?}");
        assert!(said.iter().all(|said| said.contains(code) && said.contains(word)), "{said:?}");
    }
    // Without a selector all sidecars would need it.
    let (given, named, said) = as_one(docs("", "a"), SecretAccess::Allowed);
    assert!(given.is_empty() && named.is_none() && said[0].contains("without a `workloadSelector`"), "{said:?}");
    // Of others it says nothing.
    let (given, _, said) = as_one(docs("workloadSelector: {matchLabels: {app: other}}, ", "a"), SecretAccess::Allowed);
    assert!(given.is_empty() && said.is_empty(), "{said:?}");
}

#[test]
fn a_right_that_comes_or_goes_is_followed() {
    let rule = "spec: {host: web, workloadSelector: {matchLabels: {app: client}}, trafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}}";
    let docs = web().add("DestinationRule", "default/web", rule).add("Secret", "default/a", "stringData: {ca.crt: ca}");
    let world = docs.world();
    let mut translator = Translator::new(ProxyInfo { secrets: SecretAccess::Pending, ..sidecar() });
    translator.update(&world);
    assert!(translator.names_secrets() && translator.set().secrets.is_empty());
    for (access, count) in [(SecretAccess::Allowed, 1), (SecretAccess::Denied, 0), (SecretAccess::Allowed, 1)] {
        let before = translator.set().destinations.get(WEB).cloned();
        assert!(translator.give_secrets(access) && !translator.give_secrets(access));
        translator.update(&world);
        assert_eq!(translator.set().secrets.len(), count, "{access:?}");
        let after = translator.set().destinations.get(WEB).cloned();
        assert!(before.zip(after).is_some_and(|(before, after)| Arc::ptr_eq(&before, &after)), "nothing else changes");
    }
}

#[test]
fn tls_to_others() {
    let read = |tls: &str| {
        let rule = format!("spec: {{host: web, trafficPolicy: {{tls: {{{tls}}}}}}}");
        let t = web().add("DestinationRule", "default/web", &rule).vs("default/v", "a.com", &to("web")).translate();
        match &t.set.destinations[WEB].tls {
            UpstreamTls::Originate(origination) => Origination::clone(origination),
            other => panic!("{other:?}"),
        }
    };
    let plain = Origination { sni: None, authorities: None, names: Vec::new(), unverified: false, certificate: None };
    assert_eq!(read("mode: SIMPLE"), plain);
    assert_eq!(read("mode: SIMPLE, caCertificates: system"), plain);
    assert_eq!(read("mode: SIMPLE, insecureSkipVerify: true"), Origination { unverified: true, ..plain.clone() });
    let files = AuthoritySource::Files { certificates: "/ca".to_owned(), revoked: Some("/crl".to_owned()) };
    let pair = CertificateSource::Files { certificate: "/c".to_owned(), private_key: "/k".to_owned() };
    let all = Origination {
        sni: Some("b.example".into()),
        authorities: Some(files),
        names: vec!["c.example".to_owned()],
        unverified: false,
        certificate: Some(pair),
    };
    let tls = "mode: MUTUAL, sni: b.example, caCertificates: /ca, caCrl: /crl, subjectAltNames: [c.example], \
               clientCertificate: /c, privateKey: /k";
    assert_eq!(read(tls), all);
}

#[test]
fn names_of_a_service_entry_count_where_the_rule_has_none() {
    let entry = "spec: {hosts: [web.ext], location: MESH_EXTERNAL, resolution: STATIC, subjectAltNames: [se.example], \
                 ports: [{number: 443, name: https, protocol: HTTP}], endpoints: [{address: 10.9.9.9}]}";
    let names = |names: &str| {
        let rule = format!("spec: {{host: web.ext, trafficPolicy: {{tls: {{mode: SIMPLE{names}}}}}}}");
        let docs = web().add("ServiceEntry", "default/ext", entry).add("DestinationRule", "default/ext", &rule);
        let t = docs.vs("default/v", "a.com", &to("web.ext")).translate();
        match &t.set.destinations["outbound|443||web.ext"].tls {
            UpstreamTls::Originate(origination) => origination.names.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(names(""), ["se.example"]);
    assert_eq!(names(", subjectAltNames: [dr.example]"), ["dr.example"]);
}

#[test]
fn a_rule_decides_about_mutual_tls_and_else_the_mesh_does() {
    let tls = |rule: &str, mesh: &str| {
        let mut docs = web().vs("default/v", "a.com", &to("web"));
        if !rule.is_empty() {
            docs = docs.add("DestinationRule", "default/web", rule);
        }
        if !mesh.is_empty() {
            docs = docs.add("ConfigMap", "istio-system/istio", &format!("data: {{mesh: '{mesh}'}}"));
        }
        docs.translate().set.destinations[WEB].tls.clone()
    };
    assert_eq!(tls("", ""), UpstreamTls::Auto);
    assert_eq!(
        tls("spec: {host: web, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}}", ""),
        UpstreamTls::Auto
    );
    assert_eq!(tls("spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}", ""), UpstreamTls::Mutual);
    assert_eq!(tls("spec: {host: web, trafficPolicy: {tls: {mode: DISABLE}}}", ""), UpstreamTls::Disable);
    assert_eq!(tls("", "enableAutoMtls: false"), UpstreamTls::Disable);
    let both = "spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}";
    assert_eq!(tls(both, "enableAutoMtls: false"), UpstreamTls::Mutual);
}

#[test]
fn pods_say_that_they_speak_mutual_tls_and_those_outside_are_not_believed() {
    let labels = |mode: &str| format!("app: p, security.istio.io/tlsMode: {mode}");
    let entry = "spec: {hosts: [out.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, workloadSelector: {labels: {app: p}}";
    let endpoints = |location: &str| {
        let t = docs()
            .http("'*'")
            .labelled("default/a", &labels("istio"), &pod("10.0.0.1"))
            .labelled("default/b", &labels("disabled"), &pod("10.0.0.2"))
            .labelled("default/c", "app: p", &pod("10.0.0.3"))
            .add("ServiceEntry", "default/out", &format!("{entry}{location}}}"))
            .vs("default/v", "a.com", &to("out.example"))
            .translate();
        let endpoints = &t.set.endpoints["outbound|80||out.example"].endpoints;
        endpoints.iter().map(|endpoint| endpoint.mtls).collect::<Vec<_>>()
    };
    assert_eq!(endpoints(", location: MESH_INTERNAL"), [true, false, false]);
    assert_eq!(endpoints(""), [false, false, false]);
}

#[test]
fn a_proxy_header_before_the_meshs_tls_is_doubtful() {
    let said = |mode: &str, tls: &str| {
        let rule = format!("spec: {{host: web, trafficPolicy: {{proxyProtocol: {{}}{tls}}}}}");
        let selecting = "spec: {selector: {app: p}, ports: [{port: 80, name: http}]}";
        let t = docs()
            .http("'*'")
            .labelled("default/a", &format!("app: p, security.istio.io/tlsMode: {mode}"), &pod("10.0.0.1"))
            .add("Service", "default/web", selecting)
            .add("DestinationRule", "default/web", &rule)
            .vs("default/v", "a.com", &to("web"))
            .translate_anyway();
        t.said(diag::FIELD_DOUBTFUL).len()
    };
    assert_eq!(said("istio", ""), 1);
    assert_eq!(said("disabled", ""), 0);
    assert_eq!(said("istio", ", tls: {mode: DISABLE}"), 0);
    assert_eq!(said("disabled", ", tls: {mode: ISTIO_MUTUAL}"), 1);
}

#[test]
fn a_rule_for_no_service_is_a_warning() {
    let t = web().add("DestinationRule", "default/r", "spec: {host: wob}").translate();
    let said = t.said(diag::RULE_HOST_UNKNOWN);
    assert!(said[0].contains("wob.default.svc.cluster.local"), "{said:?}");
}

#[test]
fn protocols_by_app_protocol_then_name() {
    let service = "spec: {ports: [{port: 80, name: grpc-a}, {port: 81, name: http, appProtocol: kubernetes.io/h2c}, {port: 82, name: http2, appProtocol: http}]}";
    let route = |port: u16| {
        format!(
            "{{match: [{{uri: {{exact: /{port}}}}}], route: [{{destination: {{host: s, port: {{number: {port}}}}}}}]}}"
        )
    };
    let t = docs()
        .http("'*'")
        .add("Service", "default/s", service)
        .vs("default/v", "a.com", &[80, 81, 82].map(route).join(", "))
        .translate();
    let protocol =
        |port: u16| t.set.destinations[format!("outbound|{port}||s.default.svc.cluster.local").as_str()].protocol;
    assert_eq!([80, 81, 82].map(protocol), [UpstreamProtocol::Http2, UpstreamProtocol::Http2, UpstreamProtocol::Http1]);
}

#[test]
fn service_entries() {
    let fixed = "spec: {hosts: [ext.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], resolution: STATIC, \
                 endpoints: [{address: 1.1.1.1, weight: 3, labels: {version: v1}}, {address: 1.1.1.2, ports: {http: 9}}]}";
    let dns = "spec: {hosts: [dns.com], ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS}";
    let named = "spec: {hosts: [named.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, endpoints: [{address: real.com}]}";
    let selected = "spec: {hosts: [vm.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, workloadSelector: {labels: {app: vm}}}";
    let t = docs()
        .http("'*'")
        .add("ServiceEntry", "default/fixed", fixed)
        .add("ServiceEntry", "default/dns", dns)
        .add("ServiceEntry", "default/named", named)
        .add("ServiceEntry", "default/selected", selected)
        .add(
            "WorkloadEntry",
            "default/vm",
            "spec: {address: 2.2.2.2, labels: {app: vm}, serviceAccount: vm, ports: {http: 8081}}",
        )
        .vs("default/a", "a.com", &to("ext.com"))
        .vs("default/b", "b.com", &to("dns.com"))
        .vs("default/c", "c.com", &to("named.com"))
        .vs("default/d", "d.com", &to("vm.com"))
        .translate();
    assert_eq!(t.addresses("outbound|80||ext.com"), ["1.1.1.1:8080", "1.1.1.2:9"]);
    assert_eq!(t.set.endpoints["outbound|80||ext.com"].endpoints[0].weight, 3);
    assert_eq!(t.addresses("outbound|443||dns.com"), ["dns.com:443"]);
    assert_eq!(t.addresses("outbound|80||named.com"), ["real.com:80"]);
    assert_eq!(t.addresses("outbound|80||vm.com"), ["2.2.2.2:8081"]);
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn resolution_none_means_nothing_at_a_gateway() {
    let entry = "spec: {hosts: [ext.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}";
    let t = docs()
        .http("'*'")
        .add("ServiceEntry", "default/e", entry)
        .vs("default/a", "a.com", &to("ext.com"))
        .translate_anyway();
    assert_eq!(keys(&t.rules("a.com")[0]), ["outbound|80||ext.com"]);
    assert_eq!(t.addresses("outbound|80||ext.com"), Vec::<String>::new());
    assert_eq!(t.said(diag::DESTINATION_NOT_BUILT).len(), 1);
}

#[test]
fn external_names_are_resolved_or_another_service() {
    let t = web()
        .add(
            "Service",
            "default/out",
            "spec: {type: ExternalName, externalName: example.com, ports: [{port: 80, name: http}]}",
        )
        .add(
            "Service",
            "default/in",
            "spec: {type: ExternalName, externalName: web.default.svc.cluster.local, ports: [{port: 80, name: http}]}",
        )
        .vs("default/a", "a.com", &to("out"))
        .vs("default/b", "b.com", &to("in"))
        .translate();
    assert_eq!(t.addresses("outbound|80||out.default.svc.cluster.local"), ["example.com:80"]);
    assert_eq!(t.addresses("outbound|80||in.default.svc.cluster.local"), ["10.0.0.1:9080", "10.0.0.2:9080"]);
}

#[test]
fn services_are_visible_as_exported() {
    let entry = |export: &str| {
        format!(
            "spec: {{hosts: [ext.com], exportTo: ['{export}'], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}"
        )
    };
    let docs = |export: &str| {
        docs().http("'*'").add("ServiceEntry", "default/e", &entry(export)).vs("default/a", "a.com", &to("ext.com"))
    };
    assert_eq!(keys(&docs(".").translate().rules("a.com")[0]), ["!outbound|80||ext.com"]);
    assert_eq!(keys(&docs("istio-system").translate().rules("a.com")[0]), ["outbound|80||ext.com"]);
    let said = docs(".").translate().said(diag::DESTINATION_HOST_UNKNOWN);
    assert!(said[0].contains("not exported"), "{said:?}");
}

#[test]
fn without_slices_the_pods_are_taken() {
    let service = "spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: web}]}";
    let t = docs()
        .http("'*'")
        .add("Service", "default/web", service)
        .labelled(
            "default/web-0",
            "app: web",
            "spec: {containers: [{name: c, ports: [{name: web, containerPort: 8081}]}]}\nstatus: {podIP: 10.1.1.1}",
        )
        .labelled("default/db-0", "app: db", "spec: {containers: []}\nstatus: {podIP: 10.1.1.2}")
        .vs("default/a", "a.com", &to("web"))
        .translate();
    assert_eq!(t.addresses(WEB), ["10.1.1.1:8081"]);
}

#[test]
fn a_service_selects_workload_entries_too() {
    let t = docs()
        .http("'*'")
        .add(
            "Service",
            "default/web",
            "spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}",
        )
        .slice("default/s", "web", "ports: [{name: http, port: 8080}]\nendpoints: [{addresses: [10.0.0.1]}]")
        .slice("default/t", "web", "ports: [{name: http, port: 8080}]\nendpoints: [{addresses: [10.0.0.1, 10.0.0.2]}]")
        .add("WorkloadEntry", "default/vm", "spec: {address: 2.2.2.2, labels: {app: web}}")
        .vs("default/a", "a.com", &to("web"))
        .translate();
    assert_eq!(t.addresses(WEB), ["10.0.0.1:8080", "10.0.0.2:8080", "2.2.2.2:8080"]);
}

#[test]
fn hosts_of_requests_are_called_at_the_target_port() {
    let entry = "spec: {hosts: ['*.ext.com'], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], \
                 resolution: DYNAMIC_DNS}";
    let docs = docs().http("'*'").add("ServiceEntry", "default/e", entry);
    let t = docs.vs("default/v", "a.com", &to("'*.ext.com'")).translate();
    assert_eq!(t.set.destinations["outbound|80||*.ext.com"].reach, crate::model::Reach::Named(8080));
}

#[test]
fn what_is_about_endpoints_is_said_to_have_no_effect_where_hosts_of_requests_are_called() {
    let entry =
        "spec: {hosts: ['*.ext.com'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DYNAMIC_DNS}";
    let rule = |policy: &str| {
        let docs = docs().http("'*'").add("ServiceEntry", "default/e", entry);
        let docs = docs.vs("default/v", "a.com", &to("'*.ext.com'"));
        let body = format!("spec: {{host: '*.ext.com', trafficPolicy: {{{policy}}}}}");
        docs.add("DestinationRule", "default/r", &body).translate()
    };
    let found = rule(
        "outlierDetection: {consecutive5xxErrors: 1}, loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 9s}}",
    );
    let said = found.said(diag::FIELD_DOUBTFUL);
    assert_eq!(said.len(), 3, "{said:?}");
    for field in ["outlierDetection", "loadBalancer.simple", "loadBalancer.warmup"] {
        assert!(said.iter().any(|said| said.contains(&format!("spec.trafficPolicy.{field}"))), "{said:?}");
    }
    let usual = rule("connectionPool: {tcp: {connectTimeout: 1s}}, loadBalancer: {simple: RANDOM}");
    assert!(usual.codes().is_empty());
}

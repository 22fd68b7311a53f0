use super::super::fixture::*;
use super::super::{Translation, translate};
use crate::diag;
use crate::model::{CertificateSource, ListenerProtocol, Proof, ProxyInfo};

const SECRET: &str = "type: kubernetes.io/tls\nstringData: {tls.crt: CERT, tls.key: KEY}";
const ANNOTATION: &str = "meshgate.io/acme: 'true'";

fn gateway(annotation: &str, hosts: &str, tls: &str) -> Docs {
    let servers = https_server(443, "one", hosts, tls);
    let body = format!("spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}");
    docs().annotated("Gateway", "default/gw", annotation, &body)
}

fn by_itself(docs: &Docs) -> Translation {
    translate(&docs.world(), &ProxyInfo { orders: true, ..proxy() })
}

fn sources(translation: &Translation) -> Vec<CertificateSource> {
    let ListenerProtocol::Tls { servers } = &translation.set.listeners["0.0.0.0:443"].protocol else { panic!() };
    servers[0].tls.certificates.clone()
}

fn ordered(name: &str) -> CertificateSource {
    CertificateSource::Ordered(name.into())
}

#[test]
fn each_host_without_a_certificate_is_ordered_for_itself() {
    let t = by_itself(&gateway(ANNOTATION, "a.com, './B.com', a.com", "mode: SIMPLE, credentialName: none"));
    assert_eq!(sources(&t), [ordered("a.com"), ordered("b.com")]);
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn a_secret_that_is_there_counts_whenever_it_comes() {
    let docs = gateway(ANNOTATION, "a.com", "mode: SIMPLE, credentialName: cert");
    let mut world = docs.world();
    let mut translator = super::super::Translator::new(ProxyInfo { orders: true, ..proxy() });
    translator.update(&world);
    world.apply(super::super::fixture::docs().add("Secret", "istio-system/cert", SECRET).objects());
    translator.update(&world);
    let t = Translation::from(translator);
    assert_eq!(sources(&t), [CertificateSource::Secret("istio-system/cert".into())]);
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn without_the_annotation_nothing_is_ordered() {
    for annotation in ["meshgate.io/acme: 'false'", "meshgate.io/other: 'true'"] {
        let t = by_itself(&gateway(annotation, "a.com", "mode: SIMPLE, credentialName: none"));
        assert_eq!(sources(&t), [CertificateSource::Secret("istio-system/none".into())], "{annotation}");
        assert_eq!(t.codes(), [diag::SECRET_MISSING.id]);
    }
}

#[test]
fn wildcards_are_told_and_take_no_other_host_down() {
    let t = by_itself(&gateway(ANNOTATION, "'*.a.com', b.com", "mode: SIMPLE, credentialName: none"));
    assert_eq!(sources(&t), [ordered("b.com")]);
    let said = t.said(diag::ORDER_IMPOSSIBLE);
    assert!(
        said.len() == 1 && said[0].contains("spec.servers[0].hosts[0]") && said[0].contains("`*.a.com`"),
        "{said:?}"
    );
}

fn issued(host: &str, secret: &str) -> CertificateSource {
    CertificateSource::Issued { host: host.into(), secret: secret.into() }
}

#[test]
fn the_controller_keeps_one_in_the_secret_that_is_named_and_several_in_secrets_of_their_own() {
    let t = gateway(ANNOTATION, "a.com", "mode: SIMPLE, credentialName: none").translate();
    assert_eq!(sources(&t), [issued("a.com", "istio-system/none")]);
    assert_eq!(t.codes(), Vec::<&str>::new());
    let t = gateway(ANNOTATION, "a.com, b.com", "mode: SIMPLE, credentialName: none").translate();
    let both = [issued("a.com", "istio-system/acme-a.com"), issued("b.com", "istio-system/acme-b.com")];
    assert_eq!(sources(&t), both);
    let wants = crate::acme::wants(&t.set);
    let names: Vec<(&str, &str)> = wants.names.iter().map(|(key, want)| (&**key, &*want.host)).collect();
    assert_eq!(names, [("istio-system/acme-a.com", "a.com"), ("istio-system/acme-b.com", "b.com")]);
}

#[test]
fn a_secret_of_somebody_else_is_served_as_it_is_and_that_is_told() {
    let docs = gateway(ANNOTATION, "a.com", "mode: SIMPLE, credentialName: cert");
    let t = docs.add("Secret", "istio-system/cert", SECRET).translate();
    assert_eq!(sources(&t), [CertificateSource::Secret("istio-system/cert".into())]);
    let said = t.said(diag::ORDER_NOT_NEEDED);
    assert!(said.len() == 1 && said[0].contains("metadata.annotations.meshgate.io/acme"), "{said:?}");
}

#[test]
fn what_a_ca_is_to_be_shown_goes_to_who_serves_the_name() {
    let proof = Proof::File { token: "t".to_owned(), text: "t.k".to_owned() };
    let json = serde_json::to_string(&proof).unwrap();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: cert\n  namespace: istio-system\n  labels: {{meshgate.io/acme: 'true'}}\n  annotations: {{meshgate.io/acme-challenge: '{json}'}}\n{SECRET}\n"
    );
    let mut world = gateway(ANNOTATION, "a.com", "mode: SIMPLE, credentialName: cert").world();
    world.apply(crate::api::parse("", &secret, "istio-system").objects);
    let t = translate(&world, &proxy());
    assert_eq!(sources(&t), [issued("a.com", "istio-system/cert")]);
    assert_eq!(t.set.secrets["istio-system/cert"].certificate_pem, "CERT");
    let shown = &t.set.challenges["istio-system/cert"];
    assert_eq!((&*shown.host, &shown.proof), ("a.com", &proof));
    assert_eq!(t.codes(), Vec::<&str>::new());
}

/// A server for a.com that names a secret of ours which is for b.com.
fn for_another_host(body: &str) -> Translation {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: cert\n  namespace: istio-system\n  labels: {{meshgate.io/acme: 'true'}}\n  annotations: {{meshgate.io/acme-host: b.com, meshgate.io/acme-challenge: '{{\"file\":{{\"token\":\"t\",\"text\":\"x\"}}}}'}}\n{body}\n"
    );
    let mut world = gateway(ANNOTATION, "a.com", "mode: SIMPLE, credentialName: cert").world();
    world.apply(crate::api::parse("", &secret, "istio-system").objects);
    translate(&world, &proxy())
}

#[test]
fn a_certificate_of_another_host_is_told_and_nothing_is_wanted_in_its_place() {
    let t = for_another_host(SECRET);
    assert_eq!(sources(&t), []);
    assert!(t.set.challenges.is_empty() && crate::acme::wants(&t.set).names.is_empty());
    let said = t.said(diag::ORDER_IMPOSSIBLE);
    assert!(said.len() == 1 && said[0].contains("tls.credentialName") && said[0].contains("b.com"), "{said:?}");
}

#[test]
fn an_order_for_another_host_that_came_to_nothing_is_in_nobodys_way() {
    let t = for_another_host("type: kubernetes.io/tls\ndata: {tls.crt: '', tls.key: ''}");
    assert_eq!(sources(&t), [issued("a.com", "istio-system/cert")]);
    assert!(t.set.challenges.is_empty(), "what is shown is for the other one");
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn only_servers_that_ask_nothing_of_their_clients() {
    let t = by_itself(&gateway(ANNOTATION, "a.com", "mode: MUTUAL, credentialName: none"));
    assert_eq!(sources(&t), [CertificateSource::Secret("istio-system/none".into())]);
    assert_eq!(t.codes(), [diag::SECRET_MISSING.id]);
}

use super::super::fixture::*;
use crate::diag;
use crate::model::{AuthoritySource, ClientDemand, ListenerProtocol};

const SECRET: &str = "type: kubernetes.io/tls\nstringData: {tls.crt: CERT, tls.key: KEY}";
const WITH_CA: &str = "type: kubernetes.io/tls\nstringData: {tls.crt: CERT, tls.key: KEY, ca.crt: CA, ca.crl: CRL}";

fn demand(translation: &super::super::Translation) -> &ClientDemand {
    let ListenerProtocol::Tls { servers } = &translation.set.listeners["0.0.0.0:443"].protocol else { panic!() };
    servers[0].tls.clients.as_deref().unwrap()
}

fn gateway(tls: &str) -> Docs {
    docs().gateway("default/gw", &https_server(443, "one", "a.com", tls))
}

fn secret(key: &str) -> Option<AuthoritySource> {
    Some(AuthoritySource::Secret(key.into()))
}

#[test]
fn the_ca_is_in_the_secret_of_the_certificate() {
    let t = gateway("mode: MUTUAL, credentialName: cert").add("Secret", "istio-system/cert", WITH_CA).translate();
    assert_eq!(demand(&t).authorities, secret("istio-system/cert"));
    assert!(!demand(&t).optional);
    let secret = &t.set.secrets["istio-system/cert"];
    assert_eq!((&*secret.certificate_pem, &*secret.authorities_pem, &*secret.revoked_pem), ("CERT", "CA", "CRL"));
    assert_eq!(t.codes(), Vec::<&str>::new());
}

#[test]
fn who_asks_for_no_certificates_is_sent_no_ca() {
    let t = gateway("mode: SIMPLE, credentialName: cert").add("Secret", "istio-system/cert", WITH_CA).translate();
    assert_eq!(t.set.secrets["istio-system/cert"].authorities_pem, "");
}

#[test]
fn or_in_one_of_its_own() {
    let own = "stringData: {cacert: OWN}";
    let t = gateway("mode: OPTIONAL_MUTUAL, credentialName: cert")
        .add("Secret", "istio-system/cert", WITH_CA)
        .add("Secret", "istio-system/cert-cacert", own)
        .translate();
    assert_eq!(demand(&t).authorities, secret("istio-system/cert-cacert"));
    assert!(demand(&t).optional);
    assert_eq!(t.set.secrets["istio-system/cert-cacert"].authorities_pem, "OWN");
    assert_eq!(t.set.secrets["istio-system/cert"].authorities_pem, "");
    let t = gateway("mode: MUTUAL, credentialName: cert, caCertCredentialName: trust")
        .add("Secret", "istio-system/cert", WITH_CA)
        .add("Secret", "istio-system/cert-cacert", own)
        .add("Secret", "istio-system/trust", "stringData: {ca.crt: TRUST}")
        .translate();
    assert_eq!(demand(&t).authorities, secret("istio-system/trust"));
    assert_eq!(t.set.secrets.keys().map(|key| &**key).collect::<Vec<_>>(), ["istio-system/cert", "istio-system/trust"]);
}

#[test]
fn what_is_missing_is_said_once() {
    let t = gateway("mode: MUTUAL, credentialName: cert").add("Secret", "istio-system/cert", SECRET).translate();
    let said = t.said(diag::SERVER_WITHOUT_AUTHORITY);
    assert!(said[0].contains("has tls.crt, tls.key, but no CA certificates"), "{said:?}");
    assert_eq!(demand(&t).authorities, secret("istio-system/cert"), "it may come");
    let t = gateway("mode: MUTUAL, credentialName: cert").translate();
    assert_eq!(t.codes(), [diag::SECRET_MISSING.id]);
    assert_eq!(t.diagnostics.len(), 1);
    let t = gateway("mode: MUTUAL, credentialName: cert, caCertCredentialName: gone")
        .add("Secret", "istio-system/cert", SECRET)
        .translate();
    let said = t.said(diag::SECRET_MISSING);
    assert!(said[0].contains("spec.servers[0].tls.caCertCredentialName"), "{said:?}");
    let t = gateway("mode: MUTUAL, credentialName: cert, caCertCredentialName: other/ca")
        .add("Secret", "istio-system/cert", SECRET)
        .translate();
    assert_eq!(t.codes(), [diag::SERVER_WITHOUT_AUTHORITY.id, diag::SECRET_FORBIDDEN.id]);
    assert_eq!(demand(&t).authorities, None);
}

#[test]
fn a_change_of_a_ca_is_followed() {
    let docs = |ca: &str| {
        gateway("mode: MUTUAL, credentialName: cert").add("Secret", "istio-system/cert", SECRET).add(
            "Secret",
            "istio-system/cert-cacert",
            &format!("stringData: {{ca.crt: {ca}}}"),
        )
    };
    let mut world = docs("ONE").world();
    let mut translator = super::super::Translator::new(proxy());
    translator.update(&world);
    let now = |translator: &super::super::Translator| {
        translator.set().secrets["istio-system/cert-cacert"].authorities_pem.clone()
    };
    assert_eq!(now(&translator), "ONE");
    world.apply(docs("TWO").objects());
    translator.update(&world);
    assert_eq!(now(&translator), "TWO");
}

#[test]
fn files_and_conditions() {
    let t = gateway(
        "mode: MUTUAL, serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, caCrl: /crl.pem, \
         subjectAltNames: [a, b], verifyCertificateHash: ['AB:00']",
    )
    .translate_anyway();
    let files = AuthoritySource::Files { certificates: "/ca.pem".into(), revoked: Some("/crl.pem".into()) };
    let demand = demand(&t);
    assert_eq!(demand.authorities, Some(files));
    assert_eq!(
        (demand.names.as_slice(), demand.certificate_hashes.as_slice()),
        (&["a".into(), "b".into()][..], &["ab00".into()][..])
    );
}

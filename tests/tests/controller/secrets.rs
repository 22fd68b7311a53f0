//! Who is given which certificate.

use base64::Engine as _;
use e2e::certs;
use e2e::controller::{ELSEWHERE, pod};
use mesh_core::diag;

use super::*;

fn secret(namespace: &str) -> String {
    let certificate = certs::certificate("a.example").unwrap();
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: {namespace}}}\ntype: kubernetes.io/tls\n\
         data: {{tls.crt: {}, tls.key: {}}}\n",
        base64(&certificate.certificate_pem),
        base64(&certificate.key_pem)
    )
}

/// Namespaces of the secrets that a gateway of this namespace is to have, and what is said of those that it names.
async fn secrets(control: &Control, namespace: &str) -> (Vec<String>, Vec<(&'static str, String)>) {
    let (pod, uid) = ("gw".to_owned(), UID.to_owned());
    let identity = Identity { namespace: namespace.to_owned(), service_account: "gateway".to_owned(), pod, uid };
    let joined = control.keeper.join(&identity).await.unwrap();
    let state = joined.states.borrow().clone();
    let findings = state
        .diagnostics
        .iter()
        .filter(|found| [diag::SECRET_MISSING.id, diag::SECRET_FORBIDDEN.id].contains(&found.code));
    let findings = findings.map(|found| (found.code, found.help.clone().unwrap_or_default())).collect();
    (state.set.secrets.keys().map(ToString::to_string).collect(), findings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_given_secrets_of_its_own_namespace_and_of_no_other() {
    let control = Control::start().await.unwrap();
    let server = |name: &str, credential: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {ELSEWHERE}}}\nspec:\n  \
             selector: {{istio: ingressgateway}}\n  servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, \
             hosts: [{name}.example], tls: {{mode: SIMPLE, credentialName: {credential}}}}}]\n"
        )
    };
    let elsewhere = pod(UID, "istio: ingressgateway").replace(NAMESPACE, ELSEWHERE);
    let unwatched = pod(UID, "istio: ingressgateway").replace(NAMESPACE, "unwatched");
    let full = format!("{ELSEWHERE}/cert");
    let objects =
        [elsewhere, unwatched, server("plain", "cert"), server("full", &full), secret(NAMESPACE), secret(ELSEWHERE)];
    control.apply(&objects.join("---\n")).await.unwrap();
    control.served(&[]).await.unwrap();

    assert_eq!(secrets(&control, ELSEWHERE).await, (vec![full], Vec::new()));
    // The Gateway names the secret beside it, but its pods here are not there.
    let (given, findings) = secrets(&control, NAMESPACE).await;
    assert_eq!(given, [format!("{NAMESPACE}/cert")]);
    assert_eq!(findings, [(diag::SECRET_FORBIDDEN.id, String::new())]);

    let (given, findings) = secrets(&control, "unwatched").await;
    assert_eq!(given, [""; 0]);
    let help = format!("`meshctl install --set gateway.namespaces={ELSEWHERE},unwatched` lets it");
    let wanted = [(diag::SECRET_FORBIDDEN.id, String::new()), (diag::SECRET_MISSING.id, help)];
    assert!(wanted.iter().all(|wanted| findings.contains(wanted)), "{findings:?}");
}

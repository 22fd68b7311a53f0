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

/// A pod with a sidecar, of the account `ACCOUNT`.
fn workload(name: &str, namespace: &str, account: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, uid: {UID}, labels: {{app: client}}, \
         annotations: {{sidecar.istio.io/status: '{{}}'}}}}\nspec: {{serviceAccountName: {account}, containers: []}}\n"
    )
}

/// What somebody outside of the mesh is called with, by the workloads of every namespace that have the label.
fn called_with(namespace: &str, credential: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: out, namespace: {namespace}}}\nspec:\n  hosts: [out.{namespace}.example]\n  \
         resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints: [{{address: 192.0.2.1}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: out, namespace: {namespace}}}\nspec:\n  host: out.{namespace}.example\n  \
         workloadSelector: {{matchLabels: {{app: client}}}}\n  trafficPolicy: {{tls: {{mode: MUTUAL, credentialName: {credential}}}}}\n"
    )
}

/// Keys of the secrets that a sidecar is to have which has asked for the host, as soon as there are so many findings about
/// secrets that it is not given; and these.
async fn of_sidecar(
    control: &Control,
    who: (&str, &str, &str),
    host: &str,
    refusals: usize,
) -> (Vec<String>, Vec<String>) {
    let (pod, namespace, account) = who;
    let identity = Identity {
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        pod: pod.to_owned(),
        uid: UID.to_owned(),
    };
    let mut joined = control.keeper.join(&identity).await.unwrap();
    let (class, here) = (joined.states.borrow().class, std::sync::Arc::new(()));
    control.keeper.ask(class, &here, mesh_core::model::asked_name(host).into_iter().collect()).await.unwrap();
    let codes = [diag::SECRET_MISSING.id, diag::SECRET_FORBIDDEN.id, diag::SECRET_WITHOUT_KEYS.id];
    let settled = joined.states.wait_for(|state| {
        let asked = state.set.destinations.values().any(|destination| &*destination.host == host);
        let found = state.diagnostics.iter().filter(|found| codes.contains(&found.code)).count();
        asked && found >= refusals && (refusals > 0 || !state.set.secrets.is_empty())
    });
    let state = tokio::time::timeout(e2e::client::DEADLINE, settled).await.expect("settles").unwrap().clone();
    let found = state.diagnostics.iter().filter(|found| codes.contains(&found.code));
    let found = found.map(|found| format!("{} {}", found.code, found.message)).collect();
    (state.set.secrets.keys().map(ToString::to_string).collect(), found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_is_given_secrets_of_its_namespace_if_its_account_may_read_them() {
    let control = Control::start().await.unwrap();
    control.lets_read(ELSEWHERE, "reader");
    control.lets_read("unwatched", "reader");
    let objects = [
        workload("may", ELSEWHERE, "reader"),
        workload("may-not", ELSEWHERE, "stranger"),
        workload("home", NAMESPACE, "reader"),
        workload("blind", "unwatched", "reader"),
        called_with(ELSEWHERE, "cert"),
        secret(ELSEWHERE).replace("data: {", "data: {ca.crt: Y2E=, "),
    ];
    control.apply(&objects.join("---\n")).await.unwrap();
    control.served(&[]).await.unwrap();
    let host = format!("out.{ELSEWHERE}.example");
    let key = format!("{ELSEWHERE}/cert/mutual");

    assert_eq!(of_sidecar(&control, ("may", ELSEWHERE, "reader"), &host, 0).await, (vec![key], Vec::new()));
    // The same labels, another account.
    let (given, found) = of_sidecar(&control, ("may-not", ELSEWHERE, "stranger"), &host, 1).await;
    assert_eq!(given, [""; 0]);
    assert!(found[0].starts_with(diag::SECRET_FORBIDDEN.id) && found[0].contains("`stranger` may not"), "{found:?}");
    // An account of that name elsewhere has no right, and there is no such secret; nor does one count that claims to be of there.
    let (given, found) = of_sidecar(&control, ("home", NAMESPACE, "reader"), &host, 1).await;
    assert_eq!(given, [""; 0]);
    assert!(found[0].starts_with(diag::SECRET_FORBIDDEN.id), "{found:?}");
    // Secrets that nobody reads here.
    let (given, found) = of_sidecar(&control, ("blind", "unwatched", "reader"), &host, 1).await;
    assert_eq!(given, [""; 0]);
    assert!(found[0].contains("gateway.namespaces lacks `unwatched`"), "{found:?}");
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

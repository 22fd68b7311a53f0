#![allow(clippy::unwrap_used)]
use mesh_core::acme::wants;
use mesh_core::api;
use mesh_core::model::ProxyInfo;
use mesh_core::translate::translate;
use mesh_core::world::World;

use super::*;
use crate::push::KindStatus;

const OBJECTS: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: ns, annotations: {meshgate.io/acme: 'true'}}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: cert}}
";

/// A Secret as it is while the CA is waited for.
fn secret(token: &str) -> String {
    let proof = Proof::File { token: token.to_owned(), text: "x".to_owned() };
    let json = serde_json::to_string(&proof).unwrap();
    format!(
        "---
apiVersion: v1
kind: Secret
metadata: {{name: cert, namespace: ns, labels: {{meshgate.io/acme: 'true'}}, annotations: {{meshgate.io/acme-challenge: '{json}'}}}}
type: kubernetes.io/tls
data: {{tls.crt: '', tls.key: ''}}
"
    )
}

fn state(class: u64, generation: u64, objects: &str) -> Arc<ClassState> {
    let world = World::from_objects(api::parse("", objects, "ns").objects);
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let translation = translate(&world, &ProxyInfo::edge("p", "ns", labels));
    Arc::new(ClassState { class, generation, set: Arc::new(translation.set), ..ClassState::default() })
}

fn proxy(class: u64, acknowledged: u64) -> ProxyStatus {
    let config = KindStatus { subscribed: true, acknowledged, ..KindStatus::default() };
    ProxyStatus {
        name: "p.ns".to_owned(),
        namespace: "ns".to_owned(),
        pod: "p".to_owned(),
        service_account: "gateway".to_owned(),
        version: String::new(),
        address: String::new(),
        locality: String::new(),
        connected_since: String::new(),
        kinds: [(Kind::Config, config)].into(),
        class,
    }
}

#[test]
fn who_has_acknowledged_the_challenge_shows_it() {
    let mut watching = Watching::default();
    let [wanted] = &*watching.count(&[state(1, 5, OBJECTS)], &[proxy(1, 5), proxy(1, 4)]) else { panic!() };
    assert_eq!((&*wanted.secret, &*wanted.host, wanted.http), ("ns/cert", "a.example", true));
    assert_eq!((wanted.gateways, wanted.showing, &wanted.challenge), (2, 0, &None));

    let with = |token: &str| format!("{OBJECTS}{}", secret(token));
    let first = with("one");
    let version_of = |token: &str| version(&Proof::File { token: token.to_owned(), text: "x".to_owned() });
    let now = watching.count(&[state(1, 6, &first)], &[proxy(1, 6), proxy(1, 5)]);
    assert_eq!((now[0].showing, now[0].challenge.clone()), (1, Some(version_of("one"))));
    // Later publications hold it, too.
    let now = watching.count(&[state(1, 9, &first)], &[proxy(1, 6), proxy(1, 7)]);
    assert_eq!(showing(now.iter(), "ns/cert", &version_of("one")), (2, 2));
    assert_eq!(showing(now.iter(), "ns/cert", &version_of("two")), (0, 2));
    let now = watching.count(&[state(1, 10, &with("two"))], &[proxy(1, 9), proxy(1, 9)]);
    assert_eq!(showing(now.iter(), "ns/cert", &version_of("two")), (0, 2));
}

#[test]
fn replicas_are_added_up_and_one_secret_is_for_one_host() {
    let set = state(1, 1, OBJECTS).set.clone();
    let want = &wants(&set).names["ns/cert"];
    let here = Wanted {
        gateways: 1,
        showing: 1,
        challenge: Some("v".to_owned()),
        ..Wanted::new(&"ns/cert".into(), want, false)
    };
    let there = Wanted { http: true, present: true, ..here.clone() };
    let other = Wanted { host: "b.example".into(), ..here.clone() };
    let unread = Wanted { secret: "far/cert".into(), unread: true, ..here.clone() };
    let all = [here, there, other, unread];
    let sum = sum(all.iter());
    assert_eq!(sum.wants.names.len(), 1);
    assert!(sum.wants.names["ns/cert"].http && sum.absent.is_empty());
    let said: Vec<String> = sum.findings.iter().map(ToString::to_string).collect();
    assert!(said.len() == 2 && said.iter().any(|said| said.contains("not watched")), "{said:?}");
    assert!(said.iter().any(|said| said.contains("there is none for b.example")), "{said:?}");
    assert_eq!(showing(all[..2].iter(), "ns/cert", "v"), (2, 2));
}

#[test]
fn who_wants_one_is_told_that_nobody_orders() {
    let mut watching = Watching::default();
    let wanted = watching.count(&[state(1, 1, OBJECTS)], &[]);
    let again: Vec<Wanted> = wanted.iter().map(|wanted| Wanted { present: true, ..wanted.clone() }).collect();
    let findings = declined(wanted.iter());
    let [told] = findings.as_slice() else { panic!("{findings:?}") };
    let text = told.to_string();
    assert!(told.severity == Severity::Error && text.contains("metadata.annotations.meshgate.io/acme"), "{text}");
    assert!(text.contains("--acme-email") && text.contains("meshctl install --set acme.email="), "{text}");
    let findings = declined(wanted.iter().chain(&again));
    assert!(findings.len() == 1 && findings[0].severity == Severity::Warning, "{findings:?}");
}

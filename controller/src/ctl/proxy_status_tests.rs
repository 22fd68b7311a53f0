#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

/// As two replicas say it.
fn pages() -> Vec<Page> {
    let proxy = |pod: &str, kinds: serde_json::Value| {
        json!({
            "name": format!("{pod}.meshgate-system"), "namespace": "meshgate-system", "pod": pod,
            "service_account": "gateway", "version": "0.1.0", "address": "10.0.0.7:4321", "locality": "north/a",
            "connected_since": "2026-01-01T00:00:00Z", "kinds": kinds,
        })
    };
    let kind = |sent: u64, acknowledged: u64, since: &str| json!({ "subscribed": true, "sent": sent, "acknowledged": acknowledged, "since": since });
    let mut refusing = kind(7, 7, "2026-01-01T01:00:00Z");
    refusing["refused"] = json!({ "host/http.8080/a.example": "unknown field `teapot`" });
    let one = json!({ "replica": "meshgate-controller-a", "leader": true, "generation": 7, "proxies": [
        proxy("istio-ingressgateway-2", json!({
            "config": refusing,
            "endpoints": kind(7, 7, "2026-01-01T01:59:48Z"),
            "secret": { "subscribed": false, "sent": 0, "acknowledged": 0 },
        })),
    ]});
    let two = json!({ "replica": "meshgate-controller-b", "leader": false, "generation": 9, "proxies": [
        proxy("istio-ingressgateway-1", json!({
            "config": kind(9, 9, "2026-01-01T01:56:55Z"),
            "endpoints": kind(9, 8, "2026-01-01T01:59:59Z"),
            "secret": kind(9, 9, "2026-01-01T01:56:55Z"),
        })),
    ]});
    [one, two].into_iter().map(|page| serde_json::from_value(page).unwrap()).collect()
}

fn now() -> jiff::Timestamp {
    "2026-01-01T02:00:00Z".parse().unwrap()
}

#[test]
fn all_proxies_of_all_replicas() {
    insta::assert_snapshot!(table(&select(pages(), None, None), false, now()), @r#"
    NAME                     NAMESPACE         VERSION   CONNECTED-TO            CONNECTED   CONFIG          ENDPOINTS      SECRETS         LOCALITY
    istio-ingressgateway-1   meshgate-system   0.1.0     meshgate-controller-b   120m        SYNCED (3m5s)   STALE (1s)     SYNCED (3m5s)   north/a
    istio-ingressgateway-2   meshgate-system   0.1.0     meshgate-controller-a   120m        REFUSED (60m)   SYNCED (12s)   NOT SENT        north/a

    istio-ingressgateway-2.meshgate-system refused config: host/http.8080/a.example: unknown field `teapot`
    "#);
}

#[test]
fn one_proxy() {
    for name in ["istio-ingressgateway-1", "istio-ingressgateway-1.meshgate-system"] {
        let found = select(pages(), Some(name), None);
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].connected_to, "meshgate-controller-b");
    }
    assert!(select(pages(), Some("other"), None).is_empty());
    assert!(select(pages(), None, Some("default")).is_empty());
    insta::assert_snapshot!(table(&select(pages(), Some("istio-ingressgateway-1"), None), true, now()), @r#"
    NAME                     NAMESPACE         VERSION   CONNECTED-TO            CONNECTED   CONFIG          ENDPOINTS    SECRETS         LOCALITY
    istio-ingressgateway-1   meshgate-system   0.1.0     meshgate-controller-b   120m        SYNCED (3m5s)   STALE (1s)   SYNCED (3m5s)   north/a

    KIND        GENERATION   SENT   IN FORCE   STATE
    config      9            9      9          SYNCED
    endpoints   9            9      8          STALE
    secrets     9            9      9          SYNCED
    "#);
}

/// A proxy that has all that it was sent is behind as long as the replica has more.
#[test]
fn what_was_not_sent_yet_is_stale() {
    let mut pages = pages();
    pages[1].generation = 10;
    let found = select(pages, Some("istio-ingressgateway-1"), None);
    assert!(found[0].states.iter().all(|state| state.state == "STALE"), "{:?}", found[0].states);
}

#[test]
fn programs_get_the_states_too() {
    let found = select(pages(), Some("istio-ingressgateway-2"), None);
    insta::assert_snapshot!(Output::Yaml.render(&found, String::new).unwrap(), @r#"
    - name: istio-ingressgateway-2.meshgate-system
      namespace: meshgate-system
      pod: istio-ingressgateway-2
      service_account: gateway
      version: "0.1.0"
      address: 10.0.0.7:4321
      locality: north/a
      connected_since: "2026-01-01T00:00:00Z"
      kinds:
        config:
          subscribed: true
          sent: 7
          acknowledged: 7
          responses: 0
          resources: 0
          refused:
            host/http.8080/a.example: unknown field `teapot`
          since: "2026-01-01T01:00:00Z"
        endpoints:
          subscribed: true
          sent: 7
          acknowledged: 7
          responses: 0
          resources: 0
          since: "2026-01-01T01:59:48Z"
        secret:
          subscribed: false
          sent: 0
          acknowledged: 0
          responses: 0
          resources: 0
      connected_to: meshgate-controller-a
      generation: 7
      states:
      - kind: config
        state: REFUSED
      - kind: endpoints
        state: SYNCED
      - kind: secret
        state: NOT SENT
    "#);
}

#[test]
fn nobody() {
    assert_eq!(table(&[], false, now()), "No proxies are connected.\n");
}

#[test]
fn ages() {
    let age = |since: &str| age(since, now()).unwrap();
    assert_eq!(age("2026-01-01T01:59:55Z"), "5s");
    assert_eq!(age("2026-01-01T01:55:00Z"), "5m");
    assert_eq!(age("2025-12-31T22:00:00Z"), "4h");
    assert_eq!(age("2025-12-29T02:00:00Z"), "3d");
    assert_eq!(age("2026-01-01T03:00:00Z"), "0s");
}

use std::collections::BTreeMap;

use http_body_util::BodyExt as _;

use super::*;
use crate::admin::{Command, Info, Phase, PoolList, Readiness};
use crate::source::{FilesOptions, load};
use crate::store::StoreOptions;
use crate::store::testing::{Rig, rig};

const OBJECTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: ["*"]}
  selector: {istio: ingressgateway}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a.example]
  gateways: [g]
  http:
  - match: [{uri: {prefix: /x}, headers: {k: {exact: v}}}]
    directResponse: {status: 200}
  - redirect: {uri: /y}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: istio-system}
stringData: {tls.crt: nonsense, tls.key: very-secret}
"#;

async fn admin() -> (Admin, tokio::sync::mpsc::UnboundedReceiver<Command>) {
    let Rig { cells, listeners, observe, mut store } = rig(StoreOptions::default());
    let identity = crate::bootstrap::IdentityArgs {
        namespace: "istio-system".to_owned(),
        labels: crate::bootstrap::Labels([("istio".to_owned(), "ingressgateway".to_owned())].into()),
    };
    let loaded = load(FilesOptions {
        paths: Vec::new(),
        text: Some(("objects.yaml".to_owned(), OBJECTS.to_owned())),
        default_namespace: "default".to_owned(),
        proxy: identity.proxy(),
    });
    store.apply(loaded.configuration.into()).await;
    let (commands, received) = tokio::sync::mpsc::unbounded_channel();
    let info = Info {
        namespace: "istio-system".to_owned(),
        labels: BTreeMap::new(),
        workers: 1,
        command_line: Vec::new(),
        started: None,
    };
    let admin = Admin {
        cells,
        status: store.status(),
        observe,
        listeners,
        pools: Arc::new(PoolList::default()),
        readiness: Arc::new(Readiness::default()),
        logging: None,
        commands,
        connection: None,
        renewal: None,
        orders: std::sync::OnceLock::new(),
        agent: crate::sidecar::agent::Agent::default(),
        info,
    };
    (admin, received)
}

async fn ask(admin: &Admin, audience: Audience, method: Method, target: &str) -> (StatusCode, String) {
    let request = http::Request::builder().method(method).uri(target).body(()).unwrap();
    let (head, body) = answer(admin, audience, ([127, 0, 0, 1], 1).into(), &request).into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(admin: &Admin, target: &str) -> (StatusCode, String) {
    ask(admin, Audience::Admin, Method::GET, target).await
}

#[tokio::test]
async fn every_page_answers_and_unknown_ones_list_the_others() {
    let (admin, _commands) = admin().await;
    admin.readiness.set(Phase::Live);
    for entry in ADMIN_PAGES.iter().filter(|entry| !entry.post && !matches!(entry.path, "/explain" | "/logging")) {
        let (status, body) = get(&admin, entry.path).await;
        assert_eq!(status, StatusCode::OK, "{}", entry.path);
        assert!(!body.is_empty() || entry.path == "/clusters", "{}", entry.path);
    }
    let (status, body) = get(&admin, "/nonsense").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("/config_dump"));
}

#[tokio::test]
async fn readiness_follows_the_phase() {
    let (admin, _commands) = admin().await;
    let ready = || ask(&admin, Audience::Status, Method::GET, "/healthz/ready");
    assert_eq!(ready().await.0, StatusCode::SERVICE_UNAVAILABLE);
    admin.readiness.set(Phase::Live);
    assert_eq!(ready().await.0, StatusCode::OK);
    admin.readiness.set(Phase::Draining);
    assert_eq!(ready().await.0, StatusCode::SERVICE_UNAVAILABLE);
    // Nothing else is shown to those who probe.
    assert_eq!(ask(&admin, Audience::Status, Method::GET, "/config_dump").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn explain_tells_rules_and_winner() {
    let (admin, _commands) = admin().await;
    let explain = async |query: &str| -> serde_json::Value {
        serde_json::from_str(&get(&admin, &format!("/explain?{query}")).await.1).unwrap()
    };
    let found = explain("url=http://a.example/xyz&header=k:v").await;
    assert_eq!((&found["outcome"], &found["rule"]), (&"respond".into(), &"default/v[0]".into()));
    let found = explain("url=http://a.example/xyz").await;
    assert_eq!((&found["outcome"], &found["rule"]), (&"redirect".into(), &"default/v[1]".into()));
    assert!(found["rules"][0]["failed"].as_str().unwrap().contains('k'));
    assert_eq!(explain("url=http://other.example/").await["outcome"], "no host");
    assert_eq!(explain("url=http://a.example:81/").await["outcome"], "no listener");
    for wrong in ["/explain", "/explain?url=%20", "/explain?url=http://a/&header=nonsense"] {
        assert_eq!(get(&admin, wrong).await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    for url in ["bogus", "a.example/x", "ftp://a.example/x", "/x", "http:///x"] {
        let (status, body) = get(&admin, &format!("/explain?url={url}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{url}: {body}");
        assert!(body.contains("a URL looks like http://host/path"), "{url}: {body}");
    }
}

#[tokio::test]
async fn keys_are_in_no_dump() {
    let (admin, _commands) = admin().await;
    let (_, dump) = get(&admin, "/config_dump").await;
    let json: serde_json::Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(json["generation"], 1);
    assert!(json["listeners"].get("127.0.0.1:80").is_some(), "{dump}");
    assert!(!dump.contains("very-secret"));
    let (_, routes) = get(&admin, "/config_dump?resource=routes").await;
    assert!(routes.contains("a.example") && !routes.contains("listeners"));
}

#[tokio::test]
async fn only_a_deliberate_post_changes_anything() {
    let (admin, mut commands) = admin().await;
    for page in ["/quitquitquit", "/drain_listeners", "/logging?level=trace", "/logging?filter=trace"] {
        assert_eq!(get(&admin, page).await.0, StatusCode::METHOD_NOT_ALLOWED, "{page}");
    }
    let foreign = http::Request::post("/quitquitquit").header("sec-fetch-site", "cross-site").body(()).unwrap();
    assert_eq!(answer(&admin, Audience::Admin, ([127, 0, 0, 1], 1).into(), &foreign).status(), StatusCode::FORBIDDEN);
    assert!(commands.try_recv().is_err());
    assert_eq!(ask(&admin, Audience::Admin, Method::POST, "/quitquitquit").await.0, StatusCode::OK);
    assert_eq!(commands.try_recv(), Ok(Command::Quit));
}

/// What comes from outside has the sidecar's own address when it is handed on.
#[tokio::test]
async fn only_containers_of_the_pod_command_the_agent() {
    let (admin, mut commands) = admin().await;
    let quit = http::Request::post("/quitquitquit").body(()).unwrap();
    for peer in ["127.0.0.6", "::ffff:127.0.0.6", "::6", "10.0.0.1"] {
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        assert_eq!(answer(&admin, Audience::Agent, peer, &quit).status(), StatusCode::FORBIDDEN, "{peer}");
    }
    assert!(commands.try_recv().is_err());
    for peer in ["127.0.0.1", "::ffff:127.0.0.1", "::1"] {
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        assert_eq!(answer(&admin, Audience::Agent, peer, &quit).status(), StatusCode::OK, "{peer}");
        assert_eq!(commands.try_recv(), Ok(Command::Quit));
    }
}

#[test]
fn a_name_that_is_not_this_machine_is_not_served_on_the_loopback() {
    let asked = |host: &str| {
        super::names_this_machine(&http::Request::get("/").header("host", host).body(()).expect("a request"))
    };
    for host in ["localhost", "localhost:15000", "127.0.0.1:15000", "[::1]:15000"] {
        assert!(asked(host), "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:15000", "", "a b"] {
        assert!(!asked(host), "{host}");
    }
}

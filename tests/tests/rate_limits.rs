//! Rate limits of a real gateway: what the workers count together, what is told of it, and what is not.

use e2e::backend::Backend;
use e2e::client::{Client, Request, Response};
use e2e::fixture::Edge;
use tokio::task::JoinSet;

const LIMITS: &str = r#"
apiVersion: meshgate.io/v1alpha1
kind: RateLimit
metadata: { name: api, namespace: istio-system }
spec:
  limits:
    - { name: all, requests: 100, per: 1h, to: [{ operation: { paths: [/all] } }] }
    - { name: per-key, requests: 10, per: 1h, by: [{ header: { name: x-api-key } }], to: [{ operation: { paths: [/key] } }] }
"#;

async fn ask(edge: &Edge, path: &str, key: &str) -> Response {
    let request = Request::get("app.example", path).header("x-api-key", key);
    Client::connect(edge.http, None, false).await.unwrap().0.send(&request).await.unwrap()
}

/// How many of so many requests, each over a connection of its own, are let through.
async fn let_through(edge: &std::sync::Arc<Edge>, count: usize, path: &'static str, key: &'static str) -> usize {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let edge = edge.clone();
        tasks.spawn(async move { ask(&edge, path, key).await.status == 200 });
    }
    tasks.join_all().await.into_iter().filter(|passed| *passed).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_count_together_and_no_client_is_named() {
    let app = Backend::echo("app").await.unwrap();
    let edge = Edge::with(&[("app.example", app.address, "http")], &["--workers", "2"]).await.unwrap();
    let edge = std::sync::Arc::new(edge);
    edge.write("limits.yaml", LIMITS).unwrap();
    edge.wait_for("app.example", "/key", |answer| answer.header("x-ratelimit-limit").is_some()).await.unwrap();

    assert_eq!(let_through(&edge, 150, "/all", "a").await, 100);
    assert_eq!(let_through(&edge, 30, "/key", "secret-of-a").await, 10);
    assert_eq!(let_through(&edge, 30, "/key", "secret-of-b").await, 10);
    // What it does not concern passes.
    assert_eq!(let_through(&edge, 30, "/else", "secret-of-b").await, 30);

    let metrics = edge.meshgate.admin("/metrics").await.unwrap();
    for line in [
        "meshgate_rate_limited_total{limit=\"istio-system/api/all\"} 50",
        "meshgate_rate_limited_total{limit=\"istio-system/api/per-key\"} 40",
        // And those without a key.
        "meshgate_rate_limit_buckets{limit=\"istio-system/api/per-key\"} 3",
        "meshgate_rate_limit_buckets_evicted_total{limit=\"istio-system/api/per-key\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for page in ["/config_dump", "/metrics", "/clusters"] {
        assert!(!edge.meshgate.admin(page).await.unwrap().contains("secret-of"), "{page}");
    }
    assert!(edge.meshgate.admin("/config_dump?resource=rate_limits").await.unwrap().contains("istio-system/api"));
    let explained = edge.meshgate.admin("/explain?url=http://app.example:8080/all").await.unwrap();
    assert!(explained.contains("istio-system/api/all") && !explained.contains("per-key"), "{explained}");

    // A change of something else, and of the other limit, forgets nothing.
    edge.write("limits.yaml", &LIMITS.replace("requests: 10,", "requests: 11,")).unwrap();
    edge.wait_for("app.example", "/key", |answer| answer.header("x-ratelimit-limit") == Some("11")).await.unwrap();
    assert_eq!(let_through(&edge, 5, "/all", "a").await, 0);
}

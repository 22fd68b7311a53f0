//! Limits that all proxies count together: two gateways of one controller.

use e2e::client::DEADLINE;
use e2e::fixture::eventually_async;

use super::*;

/// So many requests at once and in sum, and so many a second.
const LIMITS: &str = "apiVersion: meshgate.io/v1alpha1
kind: RateLimit
metadata: {name: api, namespace: istio-system}
spec:
  limits:
  - {name: few, requests: 100, per: 240h, scope: Global, to: [{operation: {hosts: [few.example]}}]}
  - {name: steady, requests: 40, per: 1s, burst: 10, scope: Global, to: [{operation: {hosts: [steady.example]}}]}
  - {name: own, requests: 3, per: 1h, to: [{operation: {hosts: [own.example]}}]}
";

/// A pod, and a listener of its own.
fn pod_with_listener(name: &str, address: SocketAddr) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: gw-{name}, namespace: {NAMESPACE}, uid: uid-{name}, labels: {{istio: ingressgateway, number: {name}}}}}
spec: {{containers: []}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{number: {name}}}
  servers:
  - {{port: {{number: {}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*/*']}}
",
        address.port()
    )
}

fn routes() -> String {
    let route = |host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}, namespace: default}}
spec:
  hosts: [{host}]
  gateways: [{NAMESPACE}/one, {NAMESPACE}/two]
  http:
  - directResponse: {{status: 200, body: {{string: ok}}}}
"
        )
    };
    ["few.example", "steady.example", "own.example"].map(route).join("---\n")
}

/// Two gateways, each with an address.
struct Two {
    control: Control,
    gateways: [(Meshgate, SocketAddr); 2],
    address: SocketAddr,
}

impl Two {
    async fn start() -> (Two, e2e::controller::Serving) {
        let control = Control::start().await.unwrap();
        let edges = [edge(), edge()];
        let pods =
            [("one", edges[0]), ("two", edges[1])].map(|(name, edge)| pod_with_listener(name, edge)).join("---\n");
        control.apply(&[pods, routes(), LIMITS.to_owned()].join("---\n")).await.unwrap();
        let serving = control.serve(None).await.unwrap();
        let start = |name: &str| {
            let token = format!("pod-gw-{name}@{NAMESPACE}/uid-{name}");
            control.gateway_with_token(serving.address, &token).unwrap()
        };
        let mut gateways = [(start("one"), edges[0]), (start("two"), edges[1])];
        for (gateway, _) in &mut gateways {
            gateway.ready().unwrap();
        }
        let address = serving.address;
        (Two { control, gateways, address }, serving)
    }

    /// What the metric of a limit says, of each.
    async fn metric(&self, name: &str, limit: &str) -> Vec<f64> {
        let mut values = Vec::new();
        for (gateway, _) in &self.gateways {
            let metrics = gateway.admin("/metrics").await.unwrap();
            let begin = format!("{name}{{limit=\"istio-system/api/{limit}\"");
            let line = metrics.lines().find(|line| line.starts_with(&begin));
            values.extend(line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok()));
        }
        values
    }

    async fn until(&self, what: &str, name: &str, limit: &str, holds: impl Fn(&[f64]) -> bool) {
        let seen = async || {
            let values = self.metric(name, limit).await;
            Ok(values.len() == 2 && holds(&values))
        };
        eventually_async(what, DEADLINE, seen).await.unwrap();
    }

    /// How many of so many requests to each are let through.
    async fn let_through(&self, host: &str, requests: usize) -> [usize; 2] {
        let mut passed = [0; 2];
        for _ in 0..requests {
            for (passed, (_, edge)) in passed.iter_mut().zip(&self.gateways) {
                *passed += usize::from(answer(*edge, host).await == "ok");
            }
        }
        passed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_let_through_in_sum_is_the_limit() {
    let (two, serving) = Two::start().await;
    two.until("shares of both", "meshgate_rate_limit_share", "few", |shares| shares.iter().all(|share| *share > 0.45))
        .await;
    let [one, other] = two.let_through("few.example", 120).await;
    // A bucket of 100, and a request for each proxy; what is shared out is all but a 64th.
    assert!((90..=102).contains(&(one + other)), "{one} {other}");
    assert!(one > 30 && other > 30, "{one} {other}");
    // Others are counted by each.
    assert_eq!(two.let_through("own.example", 5).await, [3, 3]);

    // What one does not need the other one gets.
    let moved = async || {
        for _ in 0..20 {
            answer(two.gateways[0].1, "steady.example").await;
        }
        let shares = two.metric("meshgate_rate_limit_share", "steady").await;
        Ok(shares.len() == 2 && shares[0] > 0.7 && shares[1] < 0.3)
    };
    eventually_async("the share of who is asked", DEADLINE, moved).await.unwrap();
    assert_eq!(two.metric("meshgate_rate_limit_fallback", "steady").await, [0.0, 0.0]);
    assert!(two.metric("meshgate_rate_limit_fallback", "own").await.is_empty());
    let standings = serving.lender.standings();
    let lent: Vec<(&str, usize)> = standings.iter().map(|(name, standing)| (name.as_str(), standing.holders)).collect();
    assert_eq!(lent, [("istio-system/api/few", 2), ("istio-system/api/steady", 2)]);
    assert!(standings.iter().all(|(_, standing)| standing.lent.ratio() < 1.0), "{standings:?}");
    let explained = two.gateways[0].0.admin("/explain?url=http://few.example/").await.unwrap();
    assert!(explained.contains("over all proxies"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_a_part_is_let_through() {
    let (two, serving) = Two::start().await;
    let lent = |values: &[f64]| values.iter().all(|share| *share > 0.45);
    two.until("shares of both", "meshgate_rate_limit_share", "steady", lent).await;

    // It does not lead any more: nothing is lent. Neither is all let through, nor nothing.
    serving.leads.send_replace(false);
    two.until("fallback", "meshgate_rate_limit_fallback", "steady", |alone| alone == [1.0, 1.0]).await;
    assert!(serving.lender.standings().is_empty());
    two.until("the last share", "meshgate_rate_limit_share", "steady", |shares| {
        shares.iter().all(|share| (0.4..0.5).contains(share))
    })
    .await;
    let passed = two.let_through("steady.example", 300).await;
    assert!(passed.iter().all(|passed| (1..300).contains(passed)), "{passed:?}");

    // Another one leads, and renews what they hold.
    serving.leads.send_replace(true);
    two.until("a lease", "meshgate_rate_limit_fallback", "steady", |alone| alone == [0.0, 0.0]).await;

    // A replica that comes back does the same.
    serving.stop().await;
    two.until("fallback", "meshgate_rate_limit_fallback", "steady", |alone| alone == [1.0, 1.0]).await;
    let serving = two.control.serve(Some(two.address)).await.unwrap();
    two.until("a lease", "meshgate_rate_limit_fallback", "steady", |alone| alone == [0.0, 0.0]).await;
    serving.stop().await;
}

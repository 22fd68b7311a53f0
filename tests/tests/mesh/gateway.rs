//! Servers of a gateway for workloads of the mesh alone (`ISTIO_MUTUAL`).

use e2e::client::{self, TlsOptions};
use e2e::sidecar::Who;

use super::*;

const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: inner, namespace: meshgate-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 9443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inner, namespace: default}
spec:
  hosts: ['*']
  gateways: [meshgate-system/inner]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
  tcp: [{match: [{port: 9443}], route: [{destination: {host: web, port: {number: 3306}}}]}]
";

/// The gateway, as workloads call it.
fn entry(gateway: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: inner, namespace: default}}
spec:
  hosts: [inner.example]
  addresses: [10.96.0.78]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8443}}, {{number: 3306, name: tcp, protocol: TCP, targetPort: 9443}}]
  endpoints: [{{address: {gateway}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: inner, namespace: default}}
spec: {{host: inner.example, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_for_the_mesh_let_its_workloads_in_and_nobody_else() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    let _application = web.echo(8080).await?;
    let _database = server_first(&web.pod, (web.pod.ip(), 3306).into()).await?;
    let gateway = mesh.network.pod()?;
    let (control, controller) = (mesh.control.clone(), mesh.controller);
    let mut edge = gateway.run(async move { control.gateway(controller) }).await?;
    for document in GATEWAY.split("---\n").chain(entry(&gateway.ip().to_string()).split("---\n")) {
        mesh.control.apply(document).await?;
    }
    tokio::task::block_in_place(|| edge.ready())?;
    let inner = |port: u16| SocketAddr::from(([10, 96, 0, 78], port));
    until(|| async {
        let answer = client.get(inner(80), "inner.example", "/a").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    let seen = saw(&client.get(inner(80), "inner.example", "/b").await?)?;
    let shown = seen.headers.iter().find(|(name, _)| name == "x-forwarded-client-cert").map(|(_, value)| &**value);
    let shown = shown.context("nobody is named")?;
    // The client by the gateway, the gateway by the workload's proxy.
    assert!(shown.contains(&format!("URI={CLIENT}")), "{shown}");
    assert!(shown.ends_with("URI=spiffe://cluster.local/ns/meshgate-system/sa/gateway"), "{shown}");
    until(|| async {
        let heard = client.converse(inner(3306), "there").await?;
        ensure!(heard == "hello there", "{heard:?}");
        Ok(())
    })
    .await?;

    let outsider = mesh.network.pod()?;
    for port in [8443, 9443] {
        let at = SocketAddr::new(gateway.ip(), port);
        assert!(get(&outsider, at, "inner.example", "/").await.is_err(), "clear text");
        for client in [None, Some("strangers/x.example".to_owned())] {
            let options = TlsOptions { sni: Some("inner.example".to_owned()), client, ..TlsOptions::default() };
            let asked = async move {
                let (mut client, _) = Client::connect(at, Some(&options), false).await?;
                client.send(&Request::get("inner.example", "/")).await
            };
            let answer = outsider.run(asked).await;
            assert!(answer.is_err(), "{port}: {answer:?}");
        }
    }
    Ok(())
}

const BETWEEN: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: between, namespace: meshgate-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}]
";

/// The Service `web` as a namespace in another network would see it: all of it is behind the gateway.
fn elsewhere(gateway: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: web, namespace: away}}
spec:
  hosts: [web.default.svc.cluster.local]
  exportTo: ['.']
  addresses: [10.96.0.79]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 15443}}]
  endpoints: [{{address: {gateway}, labels: {{security.istio.io/tlsMode: istio}}}}]
"
    )
}

/// `AUTO_PASSTHROUGH`: both sidecars speak with each other, and the gateway with nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_between_networks_passes_mutual_tls_on() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client: _near, web } = two().await?;
    let _application = web.echo(8080).await?;
    mesh.control.apply(STRICT).await?;
    let far = Who { namespace: "away".to_owned(), ..Who::named("far") };
    let far = mesh.workload_of(&far).await?;
    let gateway = mesh.network.pod()?;
    let (control, controller) = (mesh.control.clone(), mesh.controller);
    let mut edge = gateway.run(async move { control.gateway(controller) }).await?;
    mesh.control.apply(BETWEEN).await?;
    mesh.control.apply(&elsewhere(&gateway.ip().to_string())).await?;
    tokio::task::block_in_place(|| edge.ready())?;
    let at = SocketAddr::from(([10, 96, 0, 79], 80));
    until(|| async {
        let answer = far.get(at, "web.default.svc.cluster.local", "/a").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    let seen = saw(&far.get(at, "web.default.svc.cluster.local", "/b").await?)?;
    let shown = seen.headers.iter().find(|(name, _)| name == "x-forwarded-client-cert").map(|(_, value)| &**value);
    let shown = shown.context("nobody is named")?;
    assert!(shown.starts_with(&format!("By={WEB};")), "{shown}");
    assert!(shown.ends_with("URI=spiffe://cluster.local/ns/away/sa/far"), "{shown}");
    // What the gateway counts are bytes.
    let pages = edge.admin;
    let read = async move { Ok(client::get(pages, "localhost", "/metrics").await?.text()) };
    let metrics = gateway.run(read).await?;
    assert!(metrics.contains("istio_tcp_connections_opened_total{"), "{metrics}");
    assert!(!metrics.contains("istio_requests_total{"), "{metrics}");
    Ok(())
}

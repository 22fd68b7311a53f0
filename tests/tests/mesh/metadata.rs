//! Where the other end runs, for metrics: what proxies tell each other, in both directions, and nobody else sees.

use super::*;

/// Workloads by their addresses, of which nobody but their proxies says what runs there.
fn entry(web: &Workload) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: by-address, namespace: default}}
spec:
  hosts: [by-address.example]
  addresses: [10.96.0.77]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}, {{number: 3306, name: tcp, protocol: TCP}}]
  endpoints: [{{address: {}, labels: {{security.istio.io/tlsMode: istio}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: edge, namespace: default}}
spec:
  hosts: [web.example]
  gateways: [meshgate-system/edge]
  http: [{{route: [{{destination: {{host: by-address.example, port: {{number: 80}}}}}}]}}]
",
        web.pod.ip()
    )
}

const ENTRY: [u8; 4] = [10, 96, 0, 77];

fn workload(end: &str, name: &str) -> Vec<String> {
    vec![
        format!("{end}_workload=\"{name}\""),
        format!("{end}_workload_namespace=\"default\""),
        format!("{end}_canonical_service=\"{name}\""),
    ]
}

async fn counts(of: &Workload, family: &str, labels: &[String], least: f64) -> anyhow::Result<()> {
    of.counts(family, &labels.iter().map(String::as_str).collect::<Vec<_>>(), least).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_of_requests_and_of_bytes_know_where_the_other_one_runs() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    let _application = web.echo(8080).await?;
    let _database = server_first(&web.pod, (web.pod.ip(), 3306).into()).await?;
    mesh.control.apply(STRICT).await?;
    for document in entry(&web).split("---\n") {
        mesh.control.apply(document).await?;
    }
    let at = SocketAddr::from((ENTRY, 80));
    until(|| async {
        let answer = client.get(at, "by-address.example", "/").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    let answer = client.get(at, "by-address.example", "/").await?;
    let told = |name: &str| answer.header(name).is_none();
    assert!(told("x-envoy-peer-metadata") && told("x-envoy-peer-metadata-id"), "the application hears of it");
    let to = ["destination_service=\"by-address.example\"".to_owned(), "response_code=\"200\"".to_owned()];
    counts(&client, "istio_requests_total", &[&to[..], &workload("destination", "web")].concat(), 2.0).await?;

    // Bytes, of which the server speaks first, and of which the client does.
    let bytes = SocketAddr::from((ENTRY, 3306));
    until(|| async {
        let heard = client.converse(bytes, "there").await?;
        ensure!(heard == "hello there", "{heard:?}");
        Ok(())
    })
    .await?;
    assert_eq!(listen(&client.pod, bytes).await?, "hello ");
    for family in ["istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"] {
        let labels = [workload("source", "client"), workload("destination", "web")].concat();
        for (of, reporter) in [(&client, "source"), (&web, "destination")] {
            counts(of, family, &[&labels[..], &[format!("reporter=\"{reporter}\"")]].concat(), 2.0).await?;
        }
    }

    // What arrives by a gateway; the internet hears nothing.
    let gateway = mesh.network.pod()?;
    let (control, controller) = (mesh.control.clone(), mesh.controller);
    let mut edge = gateway.run(async move { control.gateway(controller) }).await?;
    mesh.control.apply(EDGE.split("---\n").next().context("the gateway")?).await?;
    tokio::task::block_in_place(|| edge.ready())?;
    let outside = mesh.network.pod()?;
    until(|| async {
        let answer = get(&outside, SocketAddr::new(gateway.ip(), 8080), "web.example", "/").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        let heard = ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"].map(|name| answer.header(name).is_some());
        assert_eq!(heard, [false; 2]);
        Ok(())
    })
    .await?;
    let from = ["source_principal=\"spiffe://cluster.local/ns/meshgate-system/sa/gateway\"".to_owned()];
    counts(
        &web,
        "istio_requests_total",
        &[&from[..], &["source_workload=\"istio-ingressgateway\"".to_owned()]].concat(),
        1.0,
    )
    .await
}

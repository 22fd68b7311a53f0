//! Two workloads that speak IPv6 with each other: redirected there and back, in mutual TLS.

use std::net::Ipv6Addr;

use e2e::netns::Pod;
use e2e::sidecar::Who;

use super::*;

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x10);

/// The Service `web` in IPv6, with what a cluster makes of it.
fn services(web: &Pod) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec:
  clusterIP: {VIP6}
  clusterIPs: [{VIP6}]
  ipFamilies: [IPv6]
  ipFamilyPolicy: SingleStack
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: tcp-db, port: 3306, targetPort: 3306}}, {{name: anything, port: 9000, targetPort: 9000}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-6, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv6
ports: [{{name: http, port: 8080}}, {{name: tcp-db, port: 3306}}, {{name: anything, port: 9000}}]
endpoints: [{{addresses: ['{}'], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: web, namespace: default}}}}]
",
        web.ip6
    )
}

fn vip6(port: u16) -> SocketAddr {
    (VIP6, port).into()
}

async fn conversation(v6: bool) -> anyhow::Result<()> {
    let mesh = Mesh::start().await?;
    let who = |name: &str| Who { v6, ..Who::named(name) };
    let (client, web) = (mesh.workload_of(&who("client")).await?, mesh.workload_of(&who("web")).await?);
    for document in services(&web.pod).split("---\n") {
        mesh.control.apply(document).await?;
    }
    mesh.control.apply(STRICT).await?;
    let at = |port: u16| SocketAddr::from((web.pod.ip6, port));
    let here = at(8080);
    let echo = async move { Backend::with_settings_at(here, "web", &Default::default()).await };
    let _application = web.pod.run(echo).await?;
    let _database = server_first(&web.pod, at(3306)).await?;
    let _anything = server_first(&web.pod, at(9000)).await?;

    until(|| async {
        let answer = client.get(vip6(80), "web", "/a").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    let answer = client.get(vip6(80), "web.default.svc.cluster.local", "/b").await?;
    let seen = saw(&answer)?;
    assert_eq!((answer.status, &*seen.path, answer.header("server")), (200, "/b", Some("envoy")));
    let shown = seen.headers.iter().find(|(name, _)| name == "x-forwarded-client-cert").map(|(_, value)| &**value);
    assert!(shown.is_some_and(|shown| shown.ends_with(&format!("URI={CLIENT}"))), "{shown:?}");
    for port in [3306, 9000] {
        until(|| async {
            let heard = client.converse(vip6(port), "there").await?;
            ensure!(heard == "hello there", "{port}: {heard:?}");
            Ok(())
        })
        .await?;
        assert_eq!(listen(&client.pod, vip6(port)).await?, "hello ", "{port}");
    }
    for (of, reporter) in [(&client, "source"), (&web, "destination")] {
        let labels =
            [&format!("reporter=\"{reporter}\"")[..], "source_workload=\"client\"", "destination_workload=\"web\""];
        of.counts("istio_requests_total", &labels, 2.0).await?;
        of.counts("istio_tcp_connections_opened_total", &labels, 4.0).await?;
    }

    // Past the caller's sidecar, in clear: what arrives is redirected, too.
    let outsider = mesh.network.pod()?;
    let error = get(&outsider, here, "web", "/").await.err().context("clear text is taken")?;
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::ConnectionReset), "{error:#}");
    // A port that no service has, and nobody of the mesh.
    let elsewhere = SocketAddr::from((outsider.ip6, 5432));
    let _outside = server_first(&outsider, elsewhere).await?;
    assert_eq!(client.converse(elsewhere, "you").await?, "hello you");
    // A workload that calls itself.
    assert_eq!(web.get(vip6(80), "web", "/").await?.status, 200);
    assert_eq!(web.get(here, "web", "/").await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_with_both_families_speak_ipv6_in_mutual_tls() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    conversation(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_with_ipv6_alone_speak_it_in_mutual_tls() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    conversation(true).await
}

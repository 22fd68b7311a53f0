//! The mesh in network namespaces: applications that know nothing of it, behind real rules and real sidecars, with a controller
//! in the test's process.

#[path = "mesh/gateway.rs"]
mod gateway;
#[path = "mesh/ipv6.rs"]
mod ipv6;
#[path = "mesh/metadata.rs"]
mod metadata;
#[path = "mesh/on_demand.rs"]
mod on_demand;
#[path = "mesh/rotation.rs"]
mod rotation;
#[path = "mesh/sockets.rs"]
mod sockets;

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use e2e::backend::Backend;
use e2e::client::{Client, Request};
use e2e::netns;
use e2e::sidecar::{Mesh, Workload, converse, echo, get, listen, saw, server_first, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the Service `web` is called at.
const VIP: [u8; 4] = [10, 96, 0, 10];
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

const SERVICES: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp-db, port: 3306, targetPort: 3306}
  - {name: anything, port: 9000, targetPort: 9000}
";

const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
";

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]
    to: [{operation: {paths: [/admin]}}]
";

const EDGE: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: meshgate-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec:
  hosts: [web.example]
  gateways: [meshgate-system/edge]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
";

struct Two {
    mesh: Mesh,
    client: Workload,
    web: Workload,
}

/// Two workloads of which one calls the other.
async fn two() -> anyhow::Result<Two> {
    let mesh = Mesh::start().await?;
    mesh.control.apply(SERVICES).await?;
    let (client, web) = (mesh.workload("client").await?, mesh.workload("web").await?);
    Ok(Two { mesh, client, web })
}

fn vip(port: u16) -> SocketAddr {
    (VIP, port).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_between_workloads_are_in_mutual_tls_and_the_applications_do_not_know() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    let _application = web.echo(8080).await?;
    // As soon as the endpoint has come.
    until(|| async {
        let answer = client.get(vip(80), "web", "/a").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    let answer = client.get(vip(80), "web.default.svc.cluster.local", "/b?c=d").await?;
    let seen = saw(&answer)?;
    assert_eq!((answer.status, &*seen.path, &*seen.authority), (200, "/b?c=d", "web.default.svc.cluster.local"));
    assert_eq!(answer.header("server"), Some("envoy"));
    let header = |name: &str| seen.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let shown = header("x-forwarded-client-cert").context("who came")?;
    assert!(shown.contains(&format!("By={WEB};")) && shown.ends_with(&format!("URI={CLIENT}")), "{shown}");
    assert_eq!(header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(header("x-envoy-attempt-count").as_deref(), Some("1"));
    assert!(header("x-request-id").is_some() && header("x-envoy-external-address").is_none());

    let parties = |reporter: &str, security: &str| {
        [
            format!("reporter=\"{reporter}\""),
            format!("connection_security_policy=\"{security}\""),
            format!("source_principal=\"{CLIENT}\""),
            format!("destination_principal=\"{WEB}\""),
            "destination_service=\"web.default.svc.cluster.local\"".to_owned(),
            "response_code=\"200\"".to_owned(),
        ]
    };
    for (workload, labels) in [(&client, parties("source", "unknown")), (&web, parties("destination", "mutual_tls"))] {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        workload.counts("istio_requests_total", &labels, 2.0).await?;
    }

    // The client's proxy has told whose request it is, and the application has not heard it.
    assert!(header("x-envoy-peer-metadata").is_none() && header("x-envoy-peer-metadata-id").is_none());
    let told = ["reporter=\"destination\"", "source_workload=\"client\"", "source_workload_namespace=\"default\""];
    web.counts("istio_requests_total", &told, 2.0).await?;

    // Somebody without a sidecar: as the mode says.
    let outsider = mesh.network.pod()?;
    let at = SocketAddr::new(web.pod.ip(), 8080);
    let plain = get(&outsider, at, "web", "/").await?;
    assert_eq!((plain.status, plain.header("server")), (200, Some("istio-envoy")));
    assert!(!saw(&plain)?.headers.iter().any(|(name, _)| name == "x-forwarded-client-cert"));
    // One that is open already, and is not thought of again.
    let mut older = outsider.run(async move { Client::connect(at, None, false).await }).await?.0;
    assert_eq!(older.send(&Request::get("web", "/")).await?.status, 200);
    mesh.apply_until(STRICT, || async {
        let Err(error) = get(&outsider, at, "web", "/").await else { bail!("clear text is still taken") };
        let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
        ensure!(kind == Some(std::io::ErrorKind::ConnectionReset), "{error:#}");
        Ok(())
    })
    .await?;
    assert!(older.send(&Request::get("web", "/")).await.is_err(), "clear text is taken on an older connection");
    assert_eq!(client.get(vip(80), "web", "/").await?.status, 200);

    // A workload that calls itself by its service's name, and by its own address.
    assert_eq!(web.get(vip(80), "web", "/").await?.status, 200);
    assert_eq!(web.get(at, "web", "/").await?.status, 200);

    mesh.apply_until(POLICY, || async {
        let answer = client.get(vip(80), "web", "/admin").await?;
        ensure!(answer.status == 403 && answer.text() == "RBAC: access denied", "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    assert_eq!(client.get(vip(80), "web", "/").await?.status, 200);
    Ok(())
}

/// Sends what follows 101 back.
async fn websocket(web: &Workload) -> anyhow::Result<Backend> {
    let at = SocketAddr::new(web.pod.ip(), 9000);
    let talk = |mut stream: TcpStream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes()).await;
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    };
    web.pod.run(async move { Backend::start_raw_at(at, talk).await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_websockets_pass_two_sidecars_and_an_edge_is_a_client_of_them() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    let _application = web.echo(8080).await?;
    mesh.control.apply(STRICT).await?;
    until(|| async { client.get(vip(80), "web", "/").await.and_then(|answer| saw(&answer).map(|_| ())) }).await?;
    let talk = async move {
        let (mut client, _) = Client::connect(vip(80), None, true).await?;
        client.send(&Request::get("web", "/h2")).await
    };
    let answer = client.pod.run(talk).await?;
    assert_eq!((answer.status, &*saw(&answer)?.path), (200, "/h2"));

    let gateway = mesh.network.pod()?;
    let (control, at) = (mesh.control.clone(), mesh.controller);
    let mut edge = gateway.run(async move { control.gateway(at) }).await?;
    mesh.control.apply(EDGE).await?;
    tokio::task::block_in_place(|| edge.ready())?;
    let outside = mesh.network.pod()?;
    let to = SocketAddr::new(gateway.ip(), 8080);
    until(|| async {
        let answer = get(&outside, to, "web.example", "/from/outside").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    let seen = saw(&get(&outside, to, "web.example", "/").await?)?;
    let shown =
        seen.headers.iter().find(|(name, _)| name == "x-forwarded-client-cert").map(|(_, value)| value.as_str());
    let gateway_id = "URI=spiffe://cluster.local/ns/meshgate-system/sa/gateway";
    assert!(shown.is_some_and(|shown| shown.ends_with(gateway_id)), "{shown:?}");

    // On a port of which nobody says what it speaks.
    let _websocket = websocket(&web).await?;
    let upgrade = "GET /ws HTTP/1.1\r\nhost: web\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nping";
    until(|| async {
        let heard = client.converse(vip(9000), upgrade).await?;
        ensure!(heard.starts_with("HTTP/1.1 101 ") && heard.ends_with("ping"), "{heard:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_in_mutual_tls_too_and_servers_may_speak_first() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    let _database = server_first(&web.pod, (web.pod.ip(), 3306).into()).await?;
    let anything = server_first(&web.pod, (web.pod.ip(), 9000).into()).await?;
    mesh.control.apply(STRICT).await?;
    for port in [3306, 9000] {
        until(|| async {
            let heard = client.converse(vip(port), "there").await?;
            ensure!(heard == "hello there", "{port}: {heard:?}");
            Ok(())
        })
        .await?;
        // Both wait for the other one.
        assert_eq!(listen(&client.pod, vip(port)).await?, "hello ", "{port}");
    }
    let labels = [
        "request_protocol=\"tcp\"",
        "destination_service=\"web.default.svc.cluster.local\"",
        &format!("source_principal=\"{CLIENT}\"")[..],
        &format!("destination_principal=\"{WEB}\"")[..],
    ];
    for (workload, reporter) in [(&client, "reporter=\"source\""), (&web, "connection_security_policy=\"mutual_tls\"")]
    {
        let labels = [&labels[..], &[reporter]].concat();
        until(|| async {
            let closed = workload.metric("istio_tcp_connections_closed_total", &labels).await?;
            ensure!(closed >= 4.0, "{closed} connections closed at {}", workload.name);
            Ok(())
        })
        .await?;
        assert!(workload.metric("istio_tcp_sent_bytes_total", &labels).await? >= 34.0);
    }
    // A port of which nobody says what it speaks may speak HTTP.
    anything.stop().await;
    let _http = web.echo(9000).await?;
    until(|| async {
        let answer = client.get(vip(9000), "web", "/").await?;
        ensure!(answer.status == 200 && answer.header("server") == Some("envoy"), "{}", answer.status);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_of_the_mesh_is_reached_where_he_is() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    let outside = mesh.network.pod()?;
    let _other = echo(&outside, 80, "outside").await?;
    let _bytes = server_first(&outside, (outside.ip(), 5432).into()).await?;
    // On a port that some service has for HTTP, and on one that nobody has.
    let answer = client.get((outside.ip(), 80).into(), "outside.example", "/").await?;
    assert_eq!((answer.status, &*saw(&answer)?.backend), (200, "outside"));
    assert_eq!(client.converse((outside.ip(), 5432).into(), "you").await?, "hello you");
    let at: SocketAddr = (outside.ip6, 5432).into();
    let _bytes = server_first(&outside, at).await?;
    assert_eq!(client.converse(at, "you").await?, "hello you");
    until(|| async {
        let labels = ["destination_service_name=\"PassthroughCluster\""];
        client.metric("istio_requests_total", &labels).await?;
        client.metric("istio_tcp_connections_closed_total", &labels).await?;
        Ok(())
    })
    .await?;
    // A port of the workload that no service has.
    let _more = server_first(&web.pod, (web.pod.ip(), 7777).into()).await?;
    assert_eq!(converse(&outside, (web.pod.ip(), 7777).into(), "you").await?, "hello you");
    let at: SocketAddr = (web.pod.ip6, 7777).into();
    let _more = server_first(&web.pod, at).await?;
    assert_eq!(converse(&outside, at, "you").await?, "hello you");
    // Who comes to the listeners by himself is not sent round and round.
    let answer = get(&outside, (web.pod.ip(), 15001).into(), "web", "/").await?;
    assert_eq!(answer.status, 503);
    assert!(get(&outside, (web.pod.ip(), 15006).into(), "web", "/").await.is_err());
    for listener in ["listener=\"[::]:15001\"", "listener=\"[::]:15006\""] {
        let labels = ["reason=\"not_redirected\"", listener];
        assert_eq!(web.metric("meshgate_downstream_refused_total", &labels).await?, 1.0, "{listener}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_told_to_stop_lets_its_workload_finish() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh: _mesh, client, mut web } = two().await?;
    let _application = web.echo(8080).await?;
    let _callee = client.echo(8080).await?;
    until(|| async { client.get(vip(80), "web", "/").await.map(|_| ()) }).await?;
    assert!(web.page(15021, "/healthz/ready").await?.starts_with("LIVE"));
    web.sidecar.terminate()?;
    until(|| async {
        let page = web.page(15021, "/healthz/ready").await?;
        ensure!(page.starts_with("DRAINING"), "{page}");
        Ok(())
    })
    .await?;
    // What arrives is still answered, and what leaves still gets out.
    assert_eq!(client.get(vip(80), "web", "/").await?.status, 200);
    let to_client = SocketAddr::new(client.pod.ip(), 8080);
    assert_eq!(web.get(to_client, "client", "/").await?.status, 200);
    let ended = tokio::task::block_in_place(|| web.sidecar.wait())?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_killed_is_replaced_and_nothing_else_is_needed() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh: _mesh, client, mut web } = two().await?;
    let _application = web.echo(8080).await?;
    let served = || async {
        let answer = client.get(vip(80), "web", "/").await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    };
    until(served).await?;
    e2e::process::signal(web.sidecar.pid(), "KILL")?;
    // Never past it, in clear.
    until(|| async {
        let answer = client.get(vip(80), "web", "/").await?;
        ensure!(answer.status == 503, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await?;
    web.restart().await?;
    until(served).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_asks_the_sidecar_for_the_application() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client: _client, web } = two().await?;
    let (node, probe) = (mesh.network.pod()?, "/app-health/app/readyz");
    let agent = SocketAddr::new(web.pod.ip(), 15020);
    assert_eq!(get(&node, agent, "web", probe).await?.status, 500, "there is no application");
    let application = web.echo(8080).await?;
    mesh.apply_until(STRICT, || async {
        let clear = get(&node, (web.pod.ip(), 8080).into(), "web", "/").await;
        ensure!(clear.is_err(), "clear text is still taken");
        Ok(())
    })
    .await?;
    assert_eq!(get(&node, agent, "web", probe).await?.status, 200);
    assert_eq!(application.last().context("a probe")?.path, "/ready");
    let metrics = get(&node, agent, "web", "/stats/prometheus").await?;
    assert!(metrics.text().contains("istio_build"), "{}", metrics.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_of_the_pod_ask_the_sidecar() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh: _mesh, client, web } = two().await?;
    drop(client);
    for (verb, page) in [("wait", "LIVE"), ("drain", "DRAINING")] {
        let mut command = std::process::Command::new(e2e::process::sidecar()?);
        command.arg(verb);
        let output = web.pod.output(command).await?;
        ensure!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        until(|| async {
            let said = web.page(15021, "/healthz/ready").await?;
            ensure!(said.starts_with(page), "{verb}: {said}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_may_read_files_in_place_of_a_controller() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let mesh = Mesh::start().await?;
    let web = mesh.network.pod()?;
    let _application = echo(&web, 8080, "web").await?;
    let ip = web.ip();
    let pod = format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: default, labels: {{app: web}}}}
spec: {{containers: []}}
status: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: 'True'}}]}}
"
    );
    let client = mesh.workload_with_files("client", &format!("{SERVICES}{pod}")).await?;
    let answer = client.get(vip(80), "web", "/").await?;
    assert_eq!((answer.status, answer.header("server"), &*saw(&answer)?.backend), (200, Some("envoy"), "web"));
    Ok(())
}

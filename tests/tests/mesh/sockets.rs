//! Workloads that listen on Unix sockets, behind their sidecars.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener as StdListener};
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

use super::*;

fn sidecar(path: &Path) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: web, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: web}}}}
  ingress:
  - {{port: {{number: 8080, protocol: HTTP, name: http}}, defaultEndpoint: 'unix://@meshgate-test'}}
  - {{port: {{number: 3306, protocol: TCP, name: tcp}}, defaultEndpoint: 'unix://{}'}}
",
        path.display()
    )
}

async fn http(mut stream: UnixStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        let byte = stream.read_u8().await?;
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nunix").await?;
        }
    }
}

async fn bytes(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(b"hello ").await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// On the pod's thread: names of abstract sockets are those of a network namespace.
async fn serve<F>(web: &Workload, at: UnixAddress, talk: fn(UnixStream) -> F) -> anyhow::Result<()>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let serving = async move {
        let listener = StdListener::bind_addr(&at)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream));
            }
        });
        Ok(())
    };
    web.pod.run(serving).await
}

fn egress(folder: &Path) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - {{port: {{number: 0, protocol: HTTP}}, bind: 'unix://{0}/http.sock', hosts: ['./*']}}
  - {{port: {{number: 0, protocol: TCP}}, bind: 'unix://{0}/db.sock', hosts: ['./db.default.svc.cluster.local']}}
  - {{port: {{number: 3128, protocol: HTTP_PROXY}}, captureMode: NONE, hosts: ['./*']}}
  - {{hosts: ['~/*']}}
",
        folder.display()
    )
}

const DB: &str = "apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {selector: {app: web}, clusterIP: 10.96.0.11, ports: [{name: tcp, port: 3306}]}
";

async fn exchange(path: &Path, said: &str, end: bool) -> anyhow::Result<String> {
    let exchanging = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(said.as_bytes()).await?;
        if end {
            stream.shutdown().await?;
        }
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await?;
        Ok(String::from_utf8_lossy(&heard).into_owned())
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), exchanging).await.context("no answer in time")?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_may_call_its_sidecar_by_unix_sockets_and_as_an_http_proxy() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, mut client, web } = two().await?;
    let folder = tempfile::tempdir()?;
    // The sidecar, which makes the files, has another user.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
    let (http, db) = (folder.path().join("http.sock"), folder.path().join("db.sock"));
    let _application = web.echo(8080).await?;
    let _database = server_first(&web.pod, (web.pod.ip(), 3306).into()).await?;
    mesh.control.apply(STRICT).await?;
    mesh.control.apply(DB).await?;
    mesh.control.apply(&egress(folder.path())).await?;
    let ask = |host: &str| format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    until(|| async {
        let heard = exchange(&http, &ask("web"), false).await?;
        ensure!(heard.starts_with("HTTP/1.1 200 ") && heard.contains("x-backend: web"), "{heard}");
        let heard = exchange(&db, "there", true).await?;
        ensure!(heard == "hello there", "{heard:?}");
        Ok(())
    })
    .await?;
    let mode = std::fs::metadata(&http)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    assert!(exchange(&http, &ask("web:80"), false).await?.starts_with("HTTP/1.1 200 "));
    assert!(exchange(&http, &ask("nobody"), false).await?.starts_with("HTTP/1.1 502 "));
    // Both ends have authenticated each other.
    let labels = ["reporter=\"destination\"", "connection_security_policy=\"mutual_tls\"", "response_code=\"200\""];
    web.counts("istio_requests_total", &labels, 2.0).await?;

    let proxy: SocketAddr = ([127, 0, 0, 1], 3128).into();
    let answer = client.get(proxy, "ignored", "http://web/absolute?form").await?;
    assert_eq!((answer.status, &*saw(&answer)?.path, &*saw(&answer)?.authority), (200, "/absolute?form", "web"));
    assert_eq!(client.get(proxy, "web", "http://nobody.example/").await?.status, 502);
    let listeners = client.page(15000, "/listeners").await?;
    assert!(listeners.contains(&format!("unix://{}", http.display())), "{listeners}");

    // The file goes with the listener.
    let sidecar = egress(folder.path()).replace("http.sock", "other.sock");
    mesh.apply_until(&sidecar, || async {
        ensure!(!http.exists() && folder.path().join("other.sock").exists(), "it is still there");
        Ok(())
    })
    .await?;
    assert_eq!(exchange(&db, "still", true).await?, "hello still");
    // What a sidecar left behind that was killed is replaced by the next one.
    e2e::process::signal(client.sidecar.pid(), "KILL")?;
    client.sidecar.wait()?;
    assert!(db.exists());
    client.restart().await?;
    until(|| async {
        let heard = exchange(&db, "again", true).await?;
        ensure!(heard == "hello again", "{heard:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_may_listen_on_unix_sockets() -> anyhow::Result<()> {
    if !netns::available() {
        return Ok(());
    }
    let Two { mesh, client, web } = two().await?;
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let path = folder.path().join("db.sock");
    serve(&web, UnixAddress::from_abstract_name("meshgate-test")?, http).await?;
    serve(&web, UnixAddress::from_pathname(&path)?, bytes).await?;
    // The sidecar has another user.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
    mesh.control.apply(STRICT).await?;
    mesh.control.apply(&sidecar(&path)).await?;
    until(|| async {
        let answer = client.get(vip(80), "web", "/").await?;
        ensure!((answer.status, &*answer.text()) == (200, "unix"), "{} {}", answer.status, answer.text());
        let heard = client.converse(vip(3306), "there").await?;
        ensure!(heard == "hello there", "{heard:?}");
        Ok(())
    })
    .await?;
    // Connections are kept.
    for _ in 0..5 {
        assert_eq!(client.get(vip(80), "web", "/").await?.text(), "unix");
    }
    let clusters = web.page(15000, "/clusters?format=json").await?;
    assert!(clusters.contains("unix://@meshgate-test"), "{clusters}");

    // Another socket in its place, on which nobody listens.
    let elsewhere = sidecar(&path).replace("@meshgate-test", "@meshgate-nobody");
    mesh.apply_until(&elsewhere, || async {
        let answer = client.get(vip(80), "web", "/").await?;
        ensure!(answer.status == 503, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await
}

//! The process as its operator sees it: command line, exit codes, readiness, admin pages, stopping.

use e2e::backend::Backend;
use e2e::client::{self, Client, H1, H2, Request};
use e2e::fixture::{Edge, eventually};
use e2e::ports;
use e2e::process::{self, Meshgate};

const VALID: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw }
spec:
  selector: { istio: ingressgateway }
  servers:
    - port: { number: 8080, name: http, protocol: HTTP }
      hosts: [\"*\"]
";

fn check(text: &str) -> (Option<i32>, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, text).unwrap();
    let output = process::run_to_end(["check", "-o", "json", "-f", file.to_str().unwrap()]).unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code(), report)
}

#[test]
fn check_tells_by_its_exit_code() {
    let (code, report) = check(VALID);
    assert_eq!((code, report["diagnostics"].as_array().map(Vec::len)), (Some(0), Some(0)));

    // A warning is no failure.
    let (code, report) = check(&VALID.replace("protocol: HTTP", "protocol: HTTP, protcol: x"));
    let found = &report["diagnostics"][0];
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((found["code"].as_str(), found["object"].as_str()), (Some("MESH0004"), Some("Gateway/default/gw")));
    assert_eq!((found["line"].as_u64(), found["severity"].as_str()), (Some(7), Some("warning")));
    assert!(found["file"].as_str().unwrap().ends_with("config.yaml") && found["column"].as_u64().unwrap() > 1);

    let (code, report) = check(&VALID.replace("8080", "many"));
    assert_eq!(code, Some(79), "{report}");
    assert_eq!(report["diagnostics"][0]["severity"].as_str(), Some("error"), "{report}");

    // Found by the certificates, which do not know files.
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: bad, namespace: istio-system}\nstringData: {tls.crt: x, tls.key: x}\n";
    let https = "protocol: HTTPS }\n      tls: {mode: SIMPLE, credentialName: bad";
    let (code, report) = check(&format!("{}---\n{secret}", VALID.replace("protocol: HTTP", https)));
    let found = &report["diagnostics"][0];
    assert_eq!((code, found["code"].as_str()), (Some(79), Some("MESH0301")), "{report}");
    assert!(
        found["file"].as_str().unwrap().ends_with("config.yaml") && found["line"].as_u64().unwrap() > 1,
        "{report}"
    );

    let usage = process::run_to_end(["check", "--nonsense"]).unwrap();
    assert_eq!(usage.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_does_not_exist_is_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (there, nowhere) = (folder.path().join("a.yaml"), folder.path().join("nowhere"));
    std::fs::write(&there, VALID).unwrap();
    let paths = [there.to_str().unwrap(), nowhere.to_str().unwrap()];
    let mut meshgate = Meshgate::spawn(["-f", paths[0], paths[1]]).unwrap();
    assert_eq!(meshgate.wait().unwrap().code(), Some(65));
    let said = format!("meshgate: {}: No such file or directory", paths[1]);
    eventually("it says which", || meshgate.log().contains(&said)).await.unwrap();
    assert!(!meshgate.log().contains("ready") && !meshgate.log().contains(paths[0]), "{}", meshgate.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_line_serves_a_server_without_any_file() {
    let backend = Backend::echo("a").await.unwrap();
    let listen = std::net::SocketAddr::new(ports::loopback(), 8080);
    let arguments = ["--to".to_owned(), backend.address.to_string(), "--http".to_owned(), listen.to_string()];
    let _meshgate = tokio::task::spawn_blocking(move || Meshgate::start(arguments)).await.unwrap().unwrap();
    let answer = client::get(listen, "any.example", "/x").await.unwrap();
    assert_eq!((answer.status, answer.header("x-backend")), (200, Some("a")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_first_configuration_serves_what_is_right() {
    let backend = Backend::echo("a").await.unwrap();
    let edge =
        Edge::start(&[("a.example", backend.address, "http"), ("bad: {", backend.address, "http")]).await.unwrap();
    assert_eq!(client::get(edge.http, "a.example", "/").await.unwrap().status, 200);
    assert!(edge.meshgate.log().contains("MESH0"), "{}", edge.meshgate.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_pages_answer() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    assert_eq!(client::get(edge.meshgate.status, "localhost", "/healthz/ready").await.unwrap().status, 200);
    client::get(edge.http, "a.example", "/x").await.unwrap();
    for (page, holds) in [
        ("/ready", ""),
        ("/config_dump", "a.example"),
        ("/clusters", "a-example.internal"),
        ("/explain?url=http://a.example:8080/x", "default/a-example"),
        ("/explain?url=http://a.example:8080/x", "\"endpoints\": 1"),
        ("/logging", ""),
    ] {
        let text = edge.meshgate.admin(page).await.unwrap();
        assert!(text.contains(holds), "{page}: {text}");
    }
    let dump = edge.meshgate.admin("/config_dump").await.unwrap();
    assert!(!dump.contains("PRIVATE KEY"), "a dump shows a private key");
    let end = std::time::Instant::now() + client::DEADLINE;
    loop {
        let metrics = edge.meshgate.admin("/metrics").await.unwrap();
        if metrics.lines().any(|line| line.starts_with("istio_requests_total{") && line.contains("a-example.internal"))
        {
            break;
        }
        assert!(std::time::Instant::now() < end, "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_lets_requests_end() {
    let (backend, _) = Backend::mirror().await.unwrap();
    let mut edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mut client = H1::new(client::connect(edge.http, None).await.unwrap().0);
    client
        .write(b"POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 200);
    assert_eq!(client.read_chunk().await.unwrap().unwrap(), b"first");
    edge.meshgate.terminate().unwrap();
    let address = edge.http;
    eventually("new connections are refused", || std::net::TcpStream::connect(address).is_err()).await.unwrap();
    client.write(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(client.read_chunk().await.unwrap().unwrap(), b"second");
    assert!(client.read_chunk().await.unwrap().is_err(), "the last chunk");
    let status = tokio::task::spawn_blocking(move || edge.meshgate.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_tells_http2_clients_and_lets_streams_end() {
    let (backend, _) = Backend::mirror().await.unwrap();
    let mut edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let client = H2::handshake(client::connect(edge.http, None).await.unwrap().0).await.unwrap();
    let request = Request { method: "POST".to_owned(), ..Request::get("a.example", "/") };
    let mut sender = client.sender.clone().ready().await.unwrap();
    let (answer, mut up) = sender.send_request(client.head(&request).unwrap(), false).unwrap();
    up.send_data(bytes::Bytes::from_static(b"first"), false).unwrap();
    let mut down = answer.await.unwrap().into_body();
    assert_eq!(down.data().await.unwrap().unwrap(), "first");
    edge.meshgate.terminate().unwrap();
    // GOAWAY: no new stream on this connection.
    let end = std::time::Instant::now() + client::DEADLINE;
    while let Ok(mut sender) = client.sender.clone().ready().await {
        let asked = sender.send_request(client.head(&Request::get("a.example", "/")).unwrap(), true);
        let refused = match asked {
            Ok((answer, _)) => answer.await.is_err(),
            Err(_) => true,
        };
        if refused {
            break;
        }
        assert!(std::time::Instant::now() < end, "new streams are served on and on");
    }
    up.send_data(bytes::Bytes::from_static(b"second"), true).unwrap();
    assert_eq!(down.data().await.unwrap().unwrap(), "second");
    let status = tokio::task::spawn_blocking(move || edge.meshgate.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_end_of_the_process_cuts_is_in_the_access_log() {
    let (backend, _) = Backend::mirror().await.unwrap();
    let mut edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                data: {mesh: 'accessLogFile: /dev/stdout'}\n";
    edge.write("mesh.yaml", mesh).unwrap();
    eventually("the access log is on", || {
        let _ = std::net::TcpStream::connect(edge.http).map(|mut io| {
            use std::io::{Read as _, Write as _};
            let _ = io.write_all(b"GET /probe HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
            let _ = io.read_to_end(&mut Vec::new());
        });
        edge.meshgate.log().contains("GET /probe HTTP/1.1\" 200 - via_upstream")
    })
    .await
    .unwrap();
    let mut client = H1::new(client::connect(edge.http, None).await.unwrap().0);
    let head = b"POST /long HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    client.write(head).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 200);
    assert_eq!(client.read_chunk().await.unwrap().unwrap(), b"first");
    edge.meshgate.terminate().unwrap();
    let (status, edge) = tokio::task::spawn_blocking(move || (edge.meshgate.wait(), edge)).await.unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
    let mut line = None;
    eventually("the request is in the access log", || {
        line = edge.meshgate.log().lines().find(|line| line.contains("POST /long")).map(str::to_owned);
        line.is_some()
    })
    .await
    .unwrap();
    let line = line.unwrap();
    assert!(line.contains("\"POST /long HTTP/1.1\" 200 DC downstream_local_disconnect - \"-\" 5 5 "), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_samples_are_read_without_an_error() {
    let sample = process::repository().join("deploy/samples/bookinfo");
    let mut files: Vec<_> =
        std::fs::read_dir(sample.join("scenarios")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10);
    for scenario in files {
        let folder = tempfile::tempdir().unwrap();
        for file in
            ["gateway.yaml", "destination-rules.yaml", "file-mode/services.yaml", "file-mode/internal-gateway.yaml"]
        {
            let file = sample.join(file);
            std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
        std::fs::copy(&scenario, folder.path().join("scenario.yaml")).unwrap();
        let secret = folder.path().join("secret");
        std::fs::create_dir(&secret).unwrap();
        let name = "istio-system/bookinfo-credential";
        e2e::bookinfo::certificate::write(&secret, &["localhost".to_owned()], name).unwrap();
        std::fs::rename(secret.join("secret.yaml"), folder.path().join("secret.yaml")).unwrap();
        std::fs::remove_dir_all(&secret).unwrap();
        let output = process::run_to_end(["check", "-o", "json", "-f", folder.path().to_str().unwrap()]).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = report["diagnostics"].as_array().unwrap();
        let not_info: Vec<_> = found.iter().filter(|finding| finding["severity"] != "info").collect();
        assert!(not_info.is_empty(), "{}: {report:#}", scenario.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_and_upstream_ones_shared() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[("a.example", backend.address, "http")]).await.unwrap();
    for _ in 0..5 {
        let (mut client, _) = Client::connect(edge.http, None, false).await.unwrap();
        for _ in 0..5 {
            assert_eq!(client.send(&Request::get("a.example", "/")).await.unwrap().status, 200);
        }
    }
    assert_eq!(backend.requests(), 25);
    assert_eq!(backend.connections(), 1, "one connection to the backend is enough for one request at a time");
}

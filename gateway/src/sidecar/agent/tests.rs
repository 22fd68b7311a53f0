use std::sync::{Arc, Mutex};

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// An application that answers every request like this, and tells the first head that it got.
async fn application(answer: &'static str) -> (u16, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut tell = Some(tell);
        while let Ok((mut io, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let count = io.read(&mut buffer).await.unwrap_or(0);
            if let Some(tell) = tell.take() {
                let _ = tell.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
            let _ = io.write_all(answer.as_bytes()).await;
        }
    });
    (port, told)
}

fn agent(name: &'static str, value: String) -> anyhow::Result<Agent> {
    Agent::from_env(|asked| (asked == name).then(|| value.clone()))
}

async fn status(agent: &Agent, path: &str) -> Option<StatusCode> {
    Some(agent.probe(path, &HeaderMap::new()).await?.0)
}

/// Both are legal where the kubelet asks: the sidecar starts, and what cannot be asked fails alone.
#[tokio::test]
async fn a_host_may_be_a_name_and_a_port_that_is_none_fails_its_probe_alone() {
    let (port, told) = application("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let probers = format!(
        r#"{{"/named": {{"httpGet": {{"host": "localhost", "port": {port}}}}},
            "/socket": {{"tcpSocket": {{"host": "localhost", "port": {port}}}}},
            "/nowhere": {{"tcpSocket": {{"host": "nowhere.invalid", "port": {port}}}, "timeoutSeconds": 30}},
            "/gone": {{"httpGet": {{"port": "gone"}}}}}}"#
    );
    let agent = agent(PROBERS, probers).unwrap();
    assert_eq!(status(&agent, "/named").await, Some(StatusCode::OK));
    let head = told.await.unwrap();
    assert!(head.contains(&format!("host: localhost:{port}\r\n")), "{head}");
    assert_eq!(status(&agent, "/socket").await, Some(StatusCode::OK));
    for (path, wrong) in [("/gone", "port \"gone\""), ("/nowhere", "host `nowhere.invalid`")] {
        let (status, reason) = agent.probe(path, &HeaderMap::new()).await.unwrap();
        assert!(status == StatusCode::INTERNAL_SERVER_ERROR && reason.contains(wrong), "{path}: {status} {reason}");
    }
}

#[tokio::test]
async fn probes_ask_the_application_what_they_asked_before() {
    let (port, told) = application("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n").await;
    let probers = format!(
        r#"{{"/app-health/a/livez": {{"httpGet": {{"path": "/live?x=1", "port": {port}, "httpHeaders": [{{"name": "Host", "value": "a.example"}}]}}, "timeoutSeconds": 5}},
            "/app-health/a/readyz": {{"tcpSocket": {{"port": {port}}}}}}}"#
    );
    let agent = agent(PROBERS, probers).unwrap();
    assert_eq!(status(&agent, "/app-health/a/livez").await, Some(StatusCode::IM_A_TEAPOT));
    let head = told.await.unwrap();
    assert!(head.starts_with("GET /live?x=1 HTTP/1.1\r\n") && head.contains("host: a.example\r\n"), "{head}");
    assert_eq!(status(&agent, "/app-health/a/readyz").await, Some(StatusCode::OK));
    assert_eq!(status(&agent, "/app-health/b/livez").await, None);
}

/// An application that has TLS with a certificate that nobody would believe, speaks what was agreed, and answers with this.
async fn secure_application(alpn: &[&[u8]], answer: StatusCode) -> u16 {
    use crate::tls::testing::{Ca, dns};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let leaf = Ca::new("nobody").leaf(vec![dns("other.example")], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let certificate = CertificateDer::from_pem_slice(leaf.chain[0].as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider::provider().clone());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(io).await else { continue };
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                let fits = request.uri().path() == "/well" && request.uri().query() == Some("x=1");
                let mut response = http::Response::new(http_body_util::Empty::<bytes::Bytes>::new());
                *response.status_mut() = if fits { answer } else { StatusCode::NOT_FOUND };
                Ok::<_, std::convert::Infallible>(response)
            });
            let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(async move { builder.serve_connection(stream, service).await.map_err(|_| ()) });
        }
    });
    port
}

#[tokio::test]
async fn over_tls_the_answer_counts_and_the_certificate_does_not() {
    let cases = [
        (&[&b"h2"[..]][..], StatusCode::OK),
        (&[b"http/1.1"], StatusCode::NO_CONTENT),
        (&[], StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (alpn, answer) in cases {
        let port = secure_application(alpn, answer).await;
        let get = format!(r#"{{"path": "/well?x=1", "port": {port}, "scheme": "HTTPS"}}"#);
        let agent = agent(PROBERS, format!(r#"{{"/p": {{"httpGet": {get}, "timeoutSeconds": 30}}}}"#)).unwrap();
        assert_eq!(status(&agent, "/p").await, Some(answer), "{alpn:?}");
    }
    let (port, _) = application("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let get = format!(r#"{{"port": {port}, "scheme": "HTTPS"}}"#);
    let agent = agent(PROBERS, format!(r#"{{"/p": {{"httpGet": {get}, "timeoutSeconds": 30}}}}"#)).unwrap();
    assert_eq!(status(&agent, "/p").await, Some(StatusCode::INTERNAL_SERVER_ERROR), "no TLS there");
}

#[tokio::test(start_paused = true)]
async fn a_hook_takes_the_time_it_takes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let get = format!(r#"{{"httpGet": {{"port": {}}}}}"#, listener.local_addr().unwrap().port());
    let agent =
        agent(PROBERS, format!(r#"{{"/app-lifecycle/a/prestopz": {get}, "/app-health/a/livez": {get}}}"#)).unwrap();
    assert_eq!(status(&agent, "/app-health/a/livez").await, Some(StatusCode::GATEWAY_TIMEOUT));
    let waits = tokio::time::timeout(Duration::from_secs(3600), status(&agent, "/app-lifecycle/a/prestopz"));
    assert!(waits.await.is_err());
}

#[tokio::test]
async fn an_application_that_is_not_there_is_not_well() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for kind in ["httpGet", "tcpSocket", "grpc"] {
        let agent = agent(PROBERS, format!(r#"{{"/p": {{"{kind}": {{"port": {gone}}}}}}}"#)).unwrap();
        let status = status(&agent, "/p").await;
        assert_eq!(status, Some(StatusCode::INTERNAL_SERVER_ERROR), "{kind}");
    }
}

/// What is logged, on this thread.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || log.clone()).finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_probe_says_to_the_application_is_not_logged() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let header = r#"{"name": "Authorization", "value": "Bearer hidden"}"#;
    let probers = format!(r#"{{"/p": {{"httpGet": {{"path": "/live", "port": {gone}, "httpHeaders": [{header}]}}}}}}"#);
    let agent = agent(PROBERS, probers).unwrap();
    let written = Written::default();
    let logs = written.begin();
    agent.probe("/p", &HeaderMap::new()).await;
    drop(logs);
    let log = written.text();
    assert!(log.contains("/live") && log.contains(&gone.to_string()) && !log.contains("hidden"), "{log}");
}

#[tokio::test]
async fn metrics_are_those_of_both() {
    let (port, told) = application("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\napp 1\n").await;
    let agent = agent(METRICS, format!(r#"{{"scrape": "true", "path": "", "port": "{port}"}}"#)).unwrap();
    assert_eq!(agent.metrics().await.as_deref(), Some("app 1\n"));
    assert!(told.await.unwrap().starts_with("GET /metrics HTTP/1.1\r\n"));
    let own = "# HELP a b\n# TYPE a counter\na 1\n";
    let application = "# HELP a c\n# TYPE a counter\na{x=\"1\"} 2\n# TYPE b counter\nb 3\n# EOF\n";
    assert_eq!(merge(own, application), format!("{own}a{{x=\"1\"}} 2\n# TYPE b counter\nb 3\n"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = agent(PROBERS, "{".to_owned()).unwrap_err().to_string();
    assert!(error.starts_with("ISTIO_KUBE_APP_PROBERS of the environment: "), "{error}");
    assert!(agent(ADDRESS, "here".to_owned()).is_err());
    assert!(Agent::from_env(|_| Some(String::new())).is_ok());
}

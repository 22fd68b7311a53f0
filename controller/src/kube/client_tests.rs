#![allow(clippy::unwrap_used)]
use std::net::TcpListener;

use super::*;

/// A kubeconfig with two contexts, of which `of` is the current one.
pub(crate) fn kubeconfig(folder: &Path, server: &str, cluster: &str, current: &str) -> PathBuf {
    let file = folder.join("config");
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: {current}
clusters: [{{name: c, cluster: {{server: '{server}'{cluster}}}}}]
users: [{{name: u, user: {{token: t}}}}]
contexts: [{{name: here, context: {{cluster: c, user: u}}}}, {{name: lost, context: {{cluster: gone, user: u}}}}]
"
    );
    std::fs::write(&file, text).unwrap();
    file
}

async fn refused(file: &Path, context: Option<&str>) -> String {
    match connect(Some(file), context).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_said_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let there = kubeconfig(folder.path(), "https://127.0.0.1:1", "", "here");
    let name = there.display();
    let cases = [
        (refused(&there, None).await, String::new()),
        (
            refused(&nowhere, None).await,
            format!("the kubeconfig {}: No such file or directory (os error 2)", nowhere.display()),
        ),
        (refused(&there, Some("nope")).await, "the kubeconfig has no context `nope`; it has here, lost".to_owned()),
        (
            refused(&there, Some("lost")).await,
            format!("the kubeconfig {name}: the cluster `gone` of its context does not exist"),
        ),
        (
            refused(&kubeconfig(folder.path(), "https://x", "", "other"), None).await,
            format!("the kubeconfig {name}: its context `other` does not exist"),
        ),
    ];
    for (said, expected) in cases {
        assert_eq!(said, expected);
    }
    std::fs::write(&there, "{ no yaml\n\n").unwrap();
    let said = refused(&there, None).await;
    assert!(said.starts_with(&format!("the kubeconfig {name}: ")) && said.lines().count() == 1, "{said}");
}

/// What the client says of a server that cannot be asked.
async fn unreachable(server: &str, cluster: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let client = connect(Some(&kubeconfig(folder.path(), server, cluster, "here")), None).await.unwrap();
    match client.apiserver_version().await.unwrap_err() {
        kube::Error::Service(error) => error.downcast::<Unreachable>().unwrap().to_string(),
        error => unreachable!("{error}"),
    }
}

/// Answers every connection so, once.
fn server(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            answer(stream);
        }
    });
    address.to_string()
}

/// A TLS server whose certificate is for this name, and the certificate, whose subject is this one.
fn tls_server(name: &str, subject: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, subject);
    let made = params.self_signed(&key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let config = std::sync::Arc::new(config);
    let address = server(move |mut stream| {
        let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
        let _ = connection.complete_io(&mut stream);
    });
    (address, made.pem())
}

#[tokio::test]
async fn why_the_api_server_does_not_answer_is_said_once() {
    use base64::Engine as _;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("https://{free}");
    let ca =
        |pem: &str| format!(", certificate-authority-data: {}", base64::engine::general_purpose::STANDARD.encode(pem));
    let (address, own) = tls_server("127.0.0.1", "kubernetes");
    let (_, foreign) = tls_server("127.0.0.1", "kubernetes");
    let (_, other) = tls_server("127.0.0.1", "other");
    let (elsewhere, for_other) = tls_server("other.test", "kubernetes");
    let plain = server(|mut stream| drop(std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    let gone = format!("http://{}", server(drop));
    let not_its_ca = "its certificate is not from the CA that the kubeconfig names (`certificate-authority`)";
    let cases = [
        (closed, String::new(), "connection refused: nothing listens there"),
        (format!("https://{address}"), ca(&foreign), not_its_ca),
        (format!("https://{address}"), ca(&other), not_its_ca),
        (format!("https://{elsewhere}"), ca(&for_other), "its certificate is for another name or address"),
        (format!("https://{plain}"), ca(&own), "it does not speak TLS"),
    ];
    for (server, cluster, why) in cases {
        assert_eq!(unreachable(&server, &cluster).await, format!("cannot reach the API server at {server}: {why}"));
    }
    let unresolved = unreachable("https://name.invalid:6443", "").await;
    let start = "cannot reach the API server at https://name.invalid:6443: its name cannot be resolved (";
    assert!(unresolved.starts_with(start), "{unresolved}");
    // Whatever it is that happens: it is told once.
    let cut = unreachable(&gone, "").await;
    assert!(cut.starts_with(&format!("cannot reach the API server at {gone}: ")), "{cut}");
    assert!(cut.matches("error").count() < 2, "{cut}");
}

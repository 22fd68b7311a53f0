#![allow(clippy::unwrap_used)]
use anyhow::Context as _;
use clap::Parser as _;
use kube::core::Status;

use super::super::Cli;
use super::super::exit;
use super::*;

fn api(code: u16, reason: &str, message: &str) -> kube::Error {
    kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
}

fn switch(code: u16) -> kube::Error {
    kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(StatusCode::from_u16(code).unwrap()))
}

fn io(text: &str) -> std::io::Error {
    std::io::Error::other(text)
}

#[test]
fn what_the_api_server_says_is_said_once() {
    let expired =
        "the API server does not accept the credentials of the kubeconfig (401 Unauthorized); they may have expired";
    let forbidden = r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" at the cluster scope"#;
    let cases = [
        (api(401, "Unauthorized", "Unauthorized"), expired.to_owned()),
        (api(403, "Forbidden", forbidden), format!("the API server: {forbidden}")),
        (api(422, "Invalid", "it is wrong:\n  a\n  b\n"), "the API server: it is wrong:; a; b".to_owned()),
        (
            api(502, "Failed to parse error data", "<html>\n<body>Bad Gateway</body>"),
            "what answers (502) is no API server; is the address in the kubeconfig right?".to_owned(),
        ),
        (
            api(404, "Failed to parse error data", "404 page not found\n"),
            "the API server: 404 page not found".to_owned(),
        ),
        (switch(401), expired.to_owned()),
        (switch(403), "the API server: 403 Forbidden: it takes the right `create` on `pods/portforward`".to_owned()),
        (switch(404), "the API server: 404 Not Found".to_owned()),
        (
            kube::Error::ReadEvents(io("it broke")),
            "cannot ask the API server: Error reading events stream: it broke".to_owned(),
        ),
        (kube::Error::Service(Box::new(io("it broke"))), "cannot ask the API server: it broke".to_owned()),
    ];
    for (error, expected) in cases {
        assert_eq!(in_full(&said(error)), expected);
    }
    let within = said(api(403, "Forbidden", "no")).context("Deployment/a/b");
    assert_eq!(in_full(&within), "Deployment/a/b: the API server: no");
    // Only what is said at the end is said already.
    let other = Err::<(), _>(io("gone")).context("gone.yaml cannot be opened").unwrap_err();
    assert_eq!(in_full(&other), "gone.yaml cannot be opened: gone");
    let doubled = Err::<(), _>(io("cannot open: gone")).context("x").unwrap_err().context("x");
    assert_eq!(in_full(&doubled), "x: cannot open: gone");
}

/// The client's own words for it are not ours to choose.
#[tokio::test]
async fn a_page_of_something_in_between_is_not_told_as_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let page = "<html>\n<body>Bad Gateway</body>";
            let head =
                format!("HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", page.len());
            let _ = stream.write_all((head + page).as_bytes());
        }
    });
    let file = kubeconfig(folder.path(), &format!("http://{address}"));
    let error = Cli::try_parse_from(["meshctl", "precheck", "--kubeconfig", &file]).unwrap().act().await.unwrap_err();
    assert_eq!(in_full(&error), "what answers (502) is no API server; is the address in the kubeconfig right?");
}

fn kubeconfig(folder: &std::path::Path, server: &str) -> String {
    let file = folder.join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
         users: [{{name: c, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

/// Every verb that asks a cluster: one line, and that it could not be done. None takes it for a problem that it found.
#[tokio::test]
async fn a_cluster_that_does_not_answer_is_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = kubeconfig(folder.path(), &format!("https://{free}"));
    let verbs: &[&[&str]] = &[
        &["install"],
        &["install", "--dry-run", "--force-conflicts"],
        &["uninstall", "--purge", "-y"],
        &["precheck"],
        &["proxy-status"],
        &["proxy-config", "routes", "deploy/a"],
        &["proxy-config", "routes", "a.b"],
        &["analyze"],
        &["explain", "http://a/"],
        &["explain", "http://a/", "--proxy", "a.b"],
    ];
    for verb in verbs {
        let of = |more: &[&str]| {
            let line = [&["meshctl"], *verb, &["--kubeconfig", &*file], more].concat();
            Cli::try_parse_from(line).unwrap().act()
        };
        let error = of(&[]).await.unwrap_err();
        let said = in_full(&error);
        let cause = format!("cannot reach the API server at https://{free}: connection refused: nothing listens there");
        assert!(said.ends_with(&cause) && said.lines().count() == 1, "{verb:?}: {said}");
        assert_eq!(exit::code(&error), exit::FAILURE, "{verb:?}");

        let error = of(&["--context", "d"]).await.unwrap_err();
        assert_eq!(in_full(&error), "the kubeconfig has no context `d`; it has c", "{verb:?}");
        assert_eq!(exit::code(&error), exit::USAGE, "{verb:?}");
    }
}

//! The command line of the real binary: exit codes, what it prints, signals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: PORT, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: ['*']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: ['*']
  gateways: [g]
  http:
  - directResponse: {status: 200, body: {string: ANSWER}}
";

fn meshgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshgate"));
    command.args(arguments).env_remove("MESHGATE_LOG");
    command
}

fn output(arguments: &[&str]) -> Output {
    meshgate(arguments).stdin(Stdio::null()).output().unwrap()
}

fn code(arguments: &[&str]) -> i32 {
    output(arguments).status.code().unwrap()
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running gateway; killed when dropped.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// The ready line.
    ready: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        Running::start_until(arguments, "meshgate ready: ")
    }

    fn start_until(arguments: &[&str], line: &str) -> Running {
        let mut child = meshgate(arguments)
            .args(["--admin", "127.0.0.1:0", "--status", "127.0.0.1:0", "--workers", "1"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Running { stderr: BufReader::new(child.stderr.take().unwrap()), child, ready: String::new() };
        running.ready = running.until(line);
        running
    }

    fn until(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "`{text}` never came");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn address(&self, what: &str) -> SocketAddr {
        let mut words = self.ready.split_whitespace().skip_while(|word| *word != what).skip(1);
        words.next().unwrap().trim_start_matches("http://").parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn exit_codes_of_check() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let good = write(base, "good.yaml", &GATEWAY.replace("PORT", "80").replace("ANSWER", "hi"));
    let wrong = write(base, "wrong.yaml", &GATEWAY.replace("PORT", "many").replace("ANSWER", "hi"));
    let broken = write(base, "broken.yaml", "kind: {unclosed\n");
    assert_eq!(code(&["check", "-f", &good]), 0);
    assert_eq!(code(&["check", "-f", &wrong]), 79);
    assert_eq!(code(&["check", "-f", &broken]), 65);
    assert_eq!(code(&["check", "-f", base.join("missing.yaml").to_str().unwrap()]), 65);
    assert_eq!(code(&["check"]), 64);
    assert_eq!(code(&["check", "-f", &good, "--nonsense"]), 64);
    assert_eq!(code(&["--version"]), 0);
    let text = String::from_utf8(output(&["check", "-f", &wrong]).stdout).unwrap();
    assert!(text.contains("wrong.yaml:7:21") && text.contains("MESH0003"), "{text}");
    assert!(text.ends_with("2 objects: 1 error, 0 warnings, 0 infos\n"), "{text}");
}

#[test]
fn check_prints_json() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = write(directory.path(), "wrong.yaml", &GATEWAY.replace("PORT", "many").replace("ANSWER", "hi"));
    let json: serde_json::Value =
        serde_json::from_slice(&output(&["check", "-f", &wrong, "-o", "json"]).stdout).unwrap();
    let found = json["diagnostics"].as_array().unwrap().iter().find(|found| found["code"] == "MESH0003").unwrap();
    assert_eq!((&found["severity"], &found["object"]), (&"error".into(), &"Gateway/default/g".into()));
    assert_eq!((&found["file"], &found["line"]), (&wrong.into(), &7.into()));
    let keys: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["code", "severity", "object", "field", "file", "line", "column", "message", "help"]);
}

#[test]
fn check_reads_standard_input() {
    let mut child = meshgate(&["check", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = GATEWAY.replace("PORT", "80").replace("ANSWER", "hi");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("2 objects: 0 errors"));
}

#[test]
fn files_are_served_and_followed_until_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let objects = GATEWAY.replace("PORT", &port.to_string());
    let path = write(directory.path(), "a.yaml", &objects.replace("ANSWER", "first"));
    let log = directory.path().join("access.log");
    let mut running =
        Running::start(&["run", "-f", &path, "--access-log", "json", "--access-log-file", log.to_str().unwrap()]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert!(running.ready.contains(&address.to_string()), "{}", running.ready);
    assert!(get(running.address("status"), "/healthz/ready").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/").ends_with("first"));
    fs::write(&path, objects.replace("ANSWER", "second")).unwrap();
    running.until("generation=2");
    assert!(get(address, "/").ends_with("second"));
    assert!(get(running.address("admin"), "/metrics").contains("istio_requests_total{"));

    running.signal("-TERM");
    assert_eq!(running.wait(), 0);
    let lines = fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["response_code"] == 200));
}

#[test]
fn a_bad_first_configuration_serves_what_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let objects = GATEWAY.replace("PORT", &port.to_string()).replace("ANSWER", "hi");
    let path = write(directory.path(), "a.yaml", &(objects + "---\nkind: {unclosed\n"));
    let running = Running::start(&["run", "-f", &path]);
    assert!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/").ends_with("hi"));
    assert!(get(running.address("admin"), "/diagnostics").contains("MESH0001"));
}

#[test]
fn without_any_file_everything_goes_to_one_server() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!(":{}", backend.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = backend.accept().unwrap();
        let mut head = [0; 4096];
        let length = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    });
    let listen = format!("127.0.0.1:{}", free_port());
    let mut running = Running::start(&["run", "--to", &target, "--http", &listen]);
    assert!(get(listen.parse().unwrap(), "/x").ends_with("hello"));
    assert!(server.join().unwrap().starts_with("GET /x HTTP/1.1\r\n"));
    running.signal("-INT");
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("127.0.0.1:{}", backend.local_addr().unwrap().port());
    let listen = format!("127.0.0.1:{}", free_port());
    let mut running = Running::start(&["run", "--to", &target, "--http", &listen]);
    let mut client = TcpStream::connect(&listen).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    // The request is in flight, and stays so.
    let (_held, _) = backend.accept().unwrap();
    running.signal("-TERM");
    running.until("draining");
    assert!(running.child.try_wait().unwrap().is_none());
    running.signal("-TERM");
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_port_of_the_command_line_that_is_taken_ends_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let pages = ["--admin", "127.0.0.1:0", "--status", "127.0.0.1:0"];
    let output = output(&[&["run", "--to", ":1", "--http", &listen], &pages[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("meshgate: cannot listen on {listen}: Address already in use")), "{said}");
    assert!(!said.contains("meshgate ready"), "{said}");
    let same = ["run", "--to", ":1", "--domain", "localhost", "--http", &listen, "--https", &listen];
    assert_eq!(code(&same), 64);
}

#[test]
fn who_can_listen_nowhere_is_not_ready_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let path = write(directory.path(), "a.yaml", &GATEWAY.replace("PORT", &port).replace("ANSWER", "hi"));
    let running = Running::start_until(&["run", "-f", &path], "meshgate is not ready: no listener could be opened");
    let ready = || get(running.address("status"), "/healthz/ready");
    let answer = ready();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("NOT LISTENING\n"), "{answer}");
    let said = get(running.address("admin"), "/diagnostics");
    assert!(said.contains("\"field\": \"spec.servers[0].port\"") && said.contains("\"line\": 7"), "{said}");
    drop(taken);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready().starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "{}", ready());
    }
}

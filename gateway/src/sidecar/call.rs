//! `meshgate-sidecar wait` and `drain`: hooks of the pod ask the sidecar that runs in it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::exit;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until the sidecar of this pod serves.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// Where its readiness is.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15021")]
    pub status: SocketAddr,
    /// How long.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

/// Tells the sidecar of this pod to take no more work. What it has goes on.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// Where its admin pages are.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    pub admin: SocketAddr,
}

/// Yields the exit code.
pub fn wait(args: &WaitArgs) -> anyhow::Result<u8> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let said = ask(args.status, "GET", "/healthz/ready");
        if said.as_ref().is_ok_and(|answer| answer.is_ok()) {
            return Ok(exit::OK);
        }
        if Instant::now() >= deadline {
            let said = said.map_or_else(|error| error.to_string(), |answer| answer.body.trim().to_owned());
            anyhow::bail!("the sidecar at {} is not ready after {} s: {said}", args.status, args.timeout);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Yields the exit code.
pub fn drain(args: &DrainArgs) -> anyhow::Result<u8> {
    let answer = ask(args.admin, "POST", "/drain_listeners")
        .with_context(|| format!("no sidecar answers at {}: is it running in this pod?", args.admin))?;
    ensure!(answer.is_ok(), "the sidecar at {} refuses: {}", args.admin, answer.body.trim());
    Ok(exit::OK)
}

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn is_ok(&self) -> bool {
        self.head.starts_with("HTTP/1.1 200 ")
    }
}

fn ask(address: SocketAddr, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok(Answer { head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection after the other, then no more.
    fn answering(answers: &'static [&'static str]) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let answer = |answer: &&str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&buffer[..count]).lines().next().unwrap().to_owned()
            };
            answers.iter().map(answer).collect()
        });
        (address, thread)
    }

    #[test]
    fn who_waits_asks_until_it_is_ready() {
        let (status, thread) =
            answering(&["HTTP/1.1 503 Service Unavailable\r\n\r\nINITIALIZING\n", "HTTP/1.1 200 OK\r\n\r\nLIVE\n"]);
        assert_eq!(wait(&WaitArgs { status, timeout: 20 }).unwrap(), exit::OK);
        assert_eq!(thread.join().unwrap(), ["GET /healthz/ready HTTP/1.1"; 2]);
    }

    #[test]
    fn who_waits_too_long_hears_what_is_missing() {
        let (status, thread) = answering(&["HTTP/1.1 503 Service Unavailable\r\n\r\nINITIALIZING\n"]);
        let error = wait(&WaitArgs { status, timeout: 0 }).unwrap_err().to_string();
        assert!(error.ends_with("is not ready after 0 s: INITIALIZING"), "{error}");
        thread.join().unwrap();
    }

    #[test]
    fn a_sidecar_is_told_to_drain() {
        let (admin, thread) = answering(&["HTTP/1.1 200 OK\r\n\r\nOK\n"]);
        assert_eq!(drain(&DrainArgs { admin }).unwrap(), exit::OK);
        assert_eq!(thread.join().unwrap(), ["POST /drain_listeners HTTP/1.1"]);
    }
}

//! The real `meshgate` as a child process: started with port 0 wherever it may, known by its ready line, ended by its
//! handle. When a test fails, its log is printed.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const READY_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// The binary under test: `MESHGATE_BIN`, or the one that cargo builds now (a stale one would prove nothing).
pub fn binary() -> anyhow::Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| find_binary().map_err(|error| format!("{error:#}")))
        .as_deref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// The sidecar, which is built together with it.
pub fn sidecar() -> anyhow::Result<PathBuf> {
    Ok(binary()?.with_file_name("meshgate-sidecar"))
}

fn find_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("MESHGATE_BIN") {
        return Ok(path.into());
    }
    // target/<profile>/deps/<test>
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("the test is not in a target folder")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    // The same selection as in the quickstart, so that both share what is built.
    build.args([
        "build",
        "--quiet",
        "-p",
        "gateway",
        "--bin",
        "meshgate",
        "--bin",
        "meshgate-sidecar",
        "-p",
        "e2e",
        "--bin",
        "bookinfo",
        "--no-default-features",
    ]);
    build.current_dir(repository());
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let built = build.output().context("starting cargo")?;
    ensure!(built.status.success(), "meshgate does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    Ok(folder.join("meshgate"))
}

/// Root of the repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// A running gateway, or a sidecar.
pub struct Meshgate {
    program: &'static str,
    child: Child,
    log: Arc<Log>,
    pub admin: SocketAddr,
    pub status: SocketAddr,
}

/// What it wrote to stderr and stdout so far.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Meshgate {
    /// `meshgate run` with these arguments; admin and status ports are free ones, labels and namespace the defaults.
    pub fn start<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Meshgate> {
        let mut meshgate = Meshgate::spawn(arguments)?;
        meshgate.ready()?;
        Ok(meshgate)
    }

    /// The same without waiting until it is ready; its addresses are not known before that.
    pub fn spawn<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Meshgate> {
        let mut command = Command::new(binary()?);
        command.arg("run").args(arguments).args(["--admin", "127.0.0.1:0", "--status", "127.0.0.1:0"]);
        Self::spawn_as(command, "meshgate")
    }

    /// Any command that says what `run` of this program says.
    pub fn spawn_as(mut command: Command, program: &'static str) -> anyhow::Result<Meshgate> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, log.clone());
        }
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, log.clone());
        }
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Meshgate { program, child, log, admin: unknown, status: unknown })
    }

    /// Waits for the line that says where it listens.
    pub fn ready(&mut self) -> anyhow::Result<()> {
        self.addresses_of("ready: admin")
    }

    /// Waits for the line that says where its pages are while it has nothing from its controller.
    pub fn waiting(&mut self) -> anyhow::Result<()> {
        self.addresses_of("waits for the controller: admin")
    }

    fn addresses_of(&mut self, said: &str) -> anyhow::Result<()> {
        let said = format!("{} {said}", self.program);
        let line = self.wait_for_line(|line| line.contains(&said), READY_DEADLINE)?;
        self.admin = address_after(&line, "admin")?;
        self.status = address_after(&line, "status")?;
        Ok(())
    }

    /// `meshgate run -f FOLDER`, with further flags.
    pub fn with_files(folder: &Path, flags: &[String]) -> anyhow::Result<Meshgate> {
        let folder = folder.to_string_lossy();
        let usual = ["-f", folder.as_ref(), "--drain-seconds", "2"];
        let workers = if flags.iter().any(|flag| flag == "--workers") { &[][..] } else { &["--workers", "1"] };
        Self::start(usual.into_iter().chain(workers.iter().copied()).chain(flags.iter().map(String::as_str)))
    }

    /// Waits until a line of the log fits.
    pub fn wait_for_line(&mut self, fits: impl Fn(&str) -> bool, deadline: Duration) -> anyhow::Result<String> {
        let end = Instant::now() + deadline;
        loop {
            let text = self.log.text.lock().ok().context("a log reader panicked")?;
            // Only whole lines: the last one may still grow.
            let whole = text.rfind('\n').map_or("", |at| &text[..at]);
            if let Some(line) = whole.lines().find(|line| fits(line)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("meshgate ended ({status}); its log:\n{text}");
            }
            if Instant::now() > end {
                bail!("meshgate did not say what was waited for; its log:\n{text}");
            }
            let _ = self.log.grown.wait_timeout(text, Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        self.log.text.lock().map(|text| text.clone()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A line of `/proc/<pid>/status` in KiB: `RssAnon` is what it has for itself; pages of the program come and go.
    pub fn memory_kib(&self, field: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
    }

    pub fn open_files(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// SIGTERM, as an orchestrator sends it; waiting is up to the caller.
    pub fn terminate(&self) -> anyhow::Result<()> {
        signal(self.pid(), "TERM")
    }

    /// SIGHUP: what it has from files is read again, and a new workload certificate is asked for.
    pub fn reload(&self) -> anyhow::Result<()> {
        signal(self.pid(), "HUP")
    }

    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + STOP_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "meshgate does not stop; its log:\n{}", self.log());
            std::thread::yield_now();
            let _ = self.log.text.lock().map(|text| self.log.grown.wait_timeout(text, Duration::from_millis(20)));
        }
    }

    /// Body of an admin page.
    pub async fn admin(&self, path: &str) -> anyhow::Result<String> {
        let answer = crate::client::get(self.admin, "localhost", path).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        Ok(answer.text())
    }
}

impl Drop for Meshgate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of meshgate:\n{}---", self.log());
        }
    }
}

/// `TERM`, `KILL`; `STOP` and `CONT` for a process that hangs for a while.
pub fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let done = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    ensure!(done.success(), "kill -{name} {pid}: {done}");
    Ok(())
}

fn collect(stream: impl Read + Send + 'static, log: Arc<Log>) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if let Ok(mut text) = log.text.lock() {
                text.push_str(&String::from_utf8_lossy(&line));
            }
            log.grown.notify_all();
            line.clear();
        }
    });
}

/// The first address behind a word: `admin=127.0.0.1:15000`, `admin http://127.0.0.1:15000/`.
fn address_after(line: &str, word: &str) -> anyhow::Result<SocketAddr> {
    let (_, rest) = line.split_once(word).with_context(|| format!("no `{word}` in {line:?}"))?;
    rest.split(|c: char| !(c.is_ascii_alphanumeric() || ".:[]".contains(c)))
        .map(|part| part.trim_start_matches("http:").trim_end_matches('.'))
        .find_map(|part| part.parse().ok())
        .with_context(|| format!("no address behind `{word}` in {line:?}"))
}

/// `meshgate` with other arguments, run to its end.
pub fn run_to_end<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<std::process::Output> {
    Ok(Command::new(binary()?).args(arguments).stdin(Stdio::null()).output()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_a_ready_line() {
        let line = "INFO ready: admin http://127.0.0.1:1234, status http://0.0.0.0:99/healthz/ready, listeners 3";
        assert_eq!(address_after(line, "admin").unwrap().to_string(), "127.0.0.1:1234");
        assert_eq!(address_after(line, "status").unwrap().to_string(), "0.0.0.0:99");
    }
}

//! A real CA for ACME: Pebble, with a DNS of its own that leads every name where a test says. Both are built by
//! `tests/run.sh tools`.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::client::{Client, Request, TlsOptions};
use crate::{certs, ports, say};

const READY: Duration = Duration::from_secs(20);
/// Of the profile `shortlived`, as Let's Encrypt has it: 160 hours.
pub const SHORT_LIVED: Duration = Duration::from_secs(160 * 60 * 60);

/// Where they are. None: not on this machine, which is said, and in CI is an error.
pub fn tools() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/meshgate/bin"));
    let folder = std::env::var_os("MESHGATE_TOOLS").map(PathBuf::from).or_else(home)?;
    let found = ["pebble", "pebble-challtestsrv"].iter().all(|name| folder.join(name).exists());
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "tests of ACME need pebble and pebble-challtestsrv in $MESHGATE_TOOLS"
        );
        say("skipped: no pebble in $MESHGATE_TOOLS (tests/run.sh tools builds it)");
    }
    found.then_some(folder)
}

/// How the CA is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where names lead, and where HTTP and HTTPS are served there.
    pub ip: IpAddr,
    pub http: u16,
    pub https: u16,
    /// How long certificates last, in seconds.
    pub validity: u64,
    /// Whether it has a second profile, `shortlived`. It gives any one to who asks for none.
    pub short_lived: bool,
    /// Id and HMAC key (base64) of the one external account that it knows; accounts without are refused.
    pub binding: Option<(String, String)>,
}

impl Settings {
    /// Names lead to an address of this process.
    pub fn at(ip: IpAddr) -> Settings {
        Settings { ip, http: 8080, https: 8443, validity: 7_776_000, short_lived: false, binding: None }
    }
}

/// The two processes; they are ended with it.
pub struct Pebble {
    settings: Settings,
    tools: PathBuf,
    folder: tempfile::TempDir,
    own: IpAddr,
    directory: u16,
    management: u16,
    dns: u16,
    names: Child,
    names_management: SocketAddr,
    ca: Option<Child>,
}

impl Pebble {
    /// In strict mode, refusing every tenth nonce, looking at every challenge anew.
    pub async fn start(tools: &Path, settings: Settings) -> anyhow::Result<Pebble> {
        let mut pebble = Pebble::without_ca(tools, settings).await?;
        pebble.run().await?;
        Ok(pebble)
    }

    /// Names can be looked up, but the CA is not there yet.
    pub async fn without_ca(tools: &Path, settings: Settings) -> anyhow::Result<Pebble> {
        let folder = tempfile::tempdir()?;
        let own = ports::loopback();
        let [directory, management, dns, names] = free_ports(own)?;
        let names_management = SocketAddr::new(own, names);
        let child = Command::new(tools.join("pebble-challtestsrv"))
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv6", ""])
            .args(["-defaultIPv4", &settings.ip.to_string(), "-dnsserver", &format!("{own}:{dns}")])
            .args(["-management", &names_management.to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("names.log"))?)
            .stderr(Stdio::null())
            .spawn()
            .context("starting pebble-challtestsrv")?;
        let tools = tools.to_owned();
        let pebble = Pebble {
            settings,
            tools,
            folder,
            own,
            directory,
            management,
            dns,
            names: child,
            names_management,
            ca: None,
        };
        listens(names_management).await?;
        Ok(pebble)
    }

    /// Starts the CA, which remembers nothing of the one before.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        let certificate = certs::certificate(&self.own.to_string())?;
        let (chain, key) = (self.certificate_file(), self.folder.path().join("key.pem"));
        std::fs::write(&chain, certificate.certificate_pem)?;
        std::fs::write(&key, certificate.key_pem)?;
        let keys: serde_json::Map<_, _> =
            self.settings.binding.iter().map(|(id, key)| (id.clone(), json!(key))).collect();
        let mut profiles =
            json!({ "default": { "description": "the usual", "validityPeriod": self.settings.validity } });
        if self.settings.short_lived {
            let seconds = SHORT_LIVED.as_secs();
            profiles["shortlived"] = json!({ "description": "six days", "validityPeriod": seconds });
        }
        let config = json!({ "pebble": {
            "listenAddress": format!("{}:{}", self.own, self.directory),
            "managementListenAddress": format!("{}:{}", self.own, self.management),
            "certificate": chain, "privateKey": key,
            "httpPort": self.settings.http, "tlsPort": self.settings.https,
            "externalAccountBindingRequired": self.settings.binding.is_some(), "externalAccountMACKeys": keys,
            "keyAlgorithm": "ecdsa",
            "retryAfter": { "authz": 1, "order": 1 },
            "profiles": profiles,
        }});
        let path = self.folder.path().join("config.json");
        std::fs::write(&path, config.to_string())?;
        let log = File::options().create(true).append(true).open(self.folder.path().join("ca.log"))?;
        let child = Command::new(self.tools.join("pebble"))
            .arg("-strict")
            .arg("-config")
            .arg(&path)
            .args(["-dnsserver", &format!("{}:{}", self.own, self.dns)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "10")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .context("starting pebble")?;
        self.ca = Some(child);
        listens(SocketAddr::new(self.own, self.directory)).await
    }

    /// The CA goes away.
    pub fn stop(&mut self) {
        end(self.ca.take());
    }

    /// Its directory.
    pub fn url(&self) -> String {
        format!("https://{}:{}/dir", self.own, self.directory)
    }

    /// What the directory's certificate may come from.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    /// A name leads elsewhere from now on; none: where all lead.
    pub async fn lead(&self, name: &str, to: Option<IpAddr>) -> anyhow::Result<()> {
        match to {
            Some(to) => self.names("/add-a", &json!({ "host": name, "addresses": [to.to_string()] })).await,
            None => self.names("/clear-a", &json!({ "host": name })).await,
        }
    }

    async fn names(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<()> {
        post(self.names_management, None, path, body).await
    }

    /// When it wants this certificate to be renewed (ARI), RFC 3339.
    pub async fn renew_between(&self, certificate_pem: &str, start: &str, end: &str) -> anyhow::Result<()> {
        let window = json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
        let body = json!({ "certificate": certificate_pem, "ariResponse": window });
        let tls = TlsOptions::default();
        post(SocketAddr::new(self.own, self.management), Some(&tls), "/set-renewal-info/", &body).await
    }

    /// What the CA said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("ca.log")).unwrap_or_default()
    }

    /// Certificates that it has signed.
    pub fn signed(&self) -> usize {
        self.log().matches("Issued certificate serial").count()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        end(self.ca.take());
        let _ = self.names.kill();
        let _ = self.names.wait();
        if std::thread::panicking() {
            say(&format!("--- log of pebble:\n{}---", self.log()));
        }
    }
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Different ones, as all are held until the last is found.
fn free_ports<const N: usize>(ip: IpAddr) -> anyhow::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut found = [0; N];
    for port in &mut found {
        let socket = std::net::TcpListener::bind((ip, 0))?;
        *port = socket.local_addr()?.port();
        held.push(socket);
    }
    Ok(found)
}

async fn listens(address: SocketAddr) -> anyhow::Result<()> {
    let end = Instant::now() + READY;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        ensure!(Instant::now() < end, "nobody listens on {address}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn post(
    address: SocketAddr,
    tls: Option<&TlsOptions>,
    path: &str,
    body: &serde_json::Value,
) -> anyhow::Result<()> {
    let mut request = Request::get(&address.to_string(), path)
        .header("content-type", "application/json")
        .header("user-agent", "meshgate-tests");
    request.method = "POST".to_owned();
    request.body = Some(body.to_string().into_bytes());
    let answer = Client::connect(address, tls, false).await?.0.send(&request).await?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    Ok(())
}

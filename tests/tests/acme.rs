//! Certificates that the gateway orders for itself, from a real CA in strict mode (Pebble), and from its own for private names.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use e2e::backend::Backend;
use e2e::client::{self, Client, Request, TlsOptions};
use e2e::fixture::{destination, eventually_async};
use e2e::pebble::{self, Pebble, SHORT_LIVED, Settings};
use e2e::ports;
use e2e::process::Meshgate;
use serde_json::Value;

/// Nothing that a CA is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that orders, and where it listens.
struct Gate {
    meshgate: Meshgate,
    http: SocketAddr,
    https: SocketAddr,
}

/// Flags of who orders from this CA.
fn acme(pebble: &Pebble, storage: &Path) -> Vec<String> {
    let (url, ca) = (pebble.url(), pebble.certificate_file());
    let flags = ["--acme-directory", &url, "--acme-ca", ca.to_str().unwrap()];
    let storage = ["--acme-storage", storage.to_str().unwrap(), "--workers", "1", "--drain-seconds", "1"];
    flags.iter().chain(&storage).map(|flag| (*flag).to_owned()).collect()
}

async fn start(arguments: Vec<String>) -> Meshgate {
    tokio::task::spawn_blocking(move || Meshgate::start(arguments)).await.unwrap().unwrap()
}

/// `--domain DOMAINS --to BACKEND`, as a person types it.
async fn quick(ip: std::net::IpAddr, domains: &str, to: SocketAddr, flags: Vec<String>) -> Gate {
    let (http, https) = (SocketAddr::new(ip, 8080), SocketAddr::new(ip, 8443));
    let own =
        ["--domain", domains, "--to", &to.to_string(), "--http", &http.to_string(), "--https", &https.to_string()];
    let arguments = own.iter().map(|flag| (*flag).to_owned()).chain(flags).collect();
    Gate { meshgate: start(arguments).await, http, https }
}

fn tls(name: &str) -> TlsOptions {
    TlsOptions { sni: Some(name.to_owned()), alpn: vec!["http/1.1".to_owned()], ..TlsOptions::default() }
}

/// GET over a new connection, and the names in the certificate.
async fn get(https: SocketAddr, name: &str) -> anyhow::Result<(u16, Vec<String>)> {
    let (mut client, details) = Client::connect(https, Some(&tls(name)), false).await?;
    let answer = client.send(&Request::get(name, "/x")).await?;
    Ok((answer.status, details.context("no TLS")?.names))
}

async fn until_served(https: SocketAddr, name: &str) -> anyhow::Result<()> {
    let served = async || Ok(get(https, name).await.is_ok_and(|(status, names)| status == 200 && names == [name]));
    eventually_async(&format!("HTTPS for {name}"), PATIENCE, served).await
}

/// What `/certs` says of an order.
async fn order(meshgate: &Meshgate, name: &str) -> anyhow::Result<Value> {
    let page: Value = serde_json::from_str(&meshgate.admin("/certs").await?)?;
    let orders = page["acme"]["orders"].as_array().cloned().unwrap_or_default();
    orders.into_iter().find(|order| order["name"] == name).with_context(|| format!("no order for {name}: {page}"))
}

/// Of the certificate that is served.
async fn serial(meshgate: &Meshgate, name: &str) -> anyhow::Result<String> {
    let page: Value = serde_json::from_str(&meshgate.admin("/certs").await?)?;
    let source = format!("ordered/{name}");
    let found = page["certificates"].as_array().into_iter().flatten().find(|entry| entry["source"] == source.as_str());
    Ok(found.and_then(|entry| entry["serial"].as_str()).with_context(|| format!("no certificate: {page}"))?.to_owned())
}

async fn metric(meshgate: &Meshgate, series: &str) -> anyhow::Result<f64> {
    let metrics = meshgate.admin("/metrics").await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    Ok(line.unwrap_or(0.0))
}

/// The finding about orders, once there is one.
async fn finding(meshgate: &Meshgate) -> anyhow::Result<Option<String>> {
    let page: Value = serde_json::from_str(&meshgate.admin("/diagnostics").await?)?;
    let mut all = page["diagnostics"].as_array().into_iter().flatten();
    Ok(all.find(|one| one["code"] == "MESH0320").map(ToString::to_string))
}

fn gateway(ip: std::net::IpAddr, servers: &str) -> String {
    let servers = servers.replace("IP", &ip.to_string());
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gw, annotations: {{ meshgate.io/acme: \"true\" }} }}
spec:
  selector: {{ istio: ingressgateway }}
  servers:
{servers}"
    )
}

const HTTPS: &str = "    - port: { number: 8443, name: https, protocol: HTTPS }
      bind: IP
      hosts: HOSTS
      tls: { mode: SIMPLE, credentialName: ordered }
";

/// A configuration with HTTPS alone for these hosts.
fn https_only(folder: &Path, ip: std::net::IpAddr, hosts: &str, to: SocketAddr) {
    std::fs::write(folder.join("gateway.yaml"), gateway(ip, &HTTPS.replace("HOSTS", hosts))).unwrap();
    for host in ["a.example", "b.example", "a.apps.example"] {
        std::fs::write(folder.join(format!("{host}.yaml")), destination(host, to, "http")).unwrap();
    }
}

fn files(folder: &Path, flags: Vec<String>) -> Vec<String> {
    ["-f".to_owned(), folder.to_str().unwrap().to_owned()].into_iter().chain(flags).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_command_gives_https_that_outlives_the_process() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let storage = folder.path().join("acme");
    let pebble = Pebble::start(&tools, Settings::at(ip)).await.unwrap();
    let flags = || [acme(&pebble, &storage), vec!["--email".to_owned(), "a@b.example".to_owned()]].concat();
    let gate = quick(ip, "a.example,b.example", backend.address, flags()).await;
    until_served(gate.https, "a.example").await.unwrap();
    until_served(gate.https, "b.example").await.unwrap();
    assert!(get(gate.https, "c.example").await.is_err(), "nobody else is served");

    // What comes without TLS is sent to where TLS is, and so is a challenge that nobody asked for.
    for path in ["/x", "/.well-known/acme-challenge/unknown"] {
        let answer = client::get(gate.http, "a.example", path).await.unwrap();
        assert_eq!((answer.status, answer.header("location")), (301, Some(&*format!("https://a.example:8443{path}"))));
    }
    let said = order(&gate.meshgate, "a.example").await.unwrap();
    assert_eq!((said["state"].as_str(), said["ca"].as_str()), (Some("valid"), Some("directory")), "{said}");
    assert!(said["next"].is_string() && said["challenge"] == "http-01", "{said}");
    assert!(pebble.log().contains("Attempting to validate w/ HTTP"), "{}", pebble.log());
    let ends = "meshgate_certificate_expiry_timestamp_seconds{source=\"ordered/a.example\"}";
    assert!(metric(&gate.meshgate, ends).await.unwrap() > 1e9);
    let issued = "meshgate_acme_certificates_total{ca=\"directory\"}";
    assert_eq!(metric(&gate.meshgate, issued).await.unwrap(), 2.0);
    let dump = gate.meshgate.admin("/config_dump").await.unwrap();
    assert!(!dump.contains("PRIVATE KEY") && !gate.meshgate.log().contains("PRIVATE KEY"));
    assert_private(&storage);

    // The next process has all of it, and asks nobody.
    let before = serial(&gate.meshgate, "a.example").await.unwrap();
    drop(gate);
    let gate = quick(ip, "a.example,b.example", backend.address, flags()).await;
    assert_eq!(
        get(gate.https, "a.example").await.unwrap(),
        (200, vec!["a.example".to_owned()]),
        "from the first moment"
    );
    assert_eq!(serial(&gate.meshgate, "a.example").await.unwrap(), before);
    assert_eq!((metric(&gate.meshgate, issued).await.unwrap(), pebble.signed()), (0.0, 2));
}

/// Nobody but its owner reads what is kept.
fn assert_private(folder: &Path) {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        if entry.file_type().unwrap().is_dir() {
            assert_eq!(mode, 0o700, "{:?}", entry.path());
            assert_private(&entry.path());
        } else {
            assert_eq!(mode, 0o600, "{:?}", entry.path());
            files += 1;
        }
    }
    assert!(files > 0 || std::fs::read_dir(folder).unwrap().count() > 0, "{folder:?} is empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_listener_for_http_the_handshake_shows_the_name() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let config = folder.path().join("config");
    std::fs::create_dir(&config).unwrap();
    https_only(&config, ip, "[a.example, \"*.apps.example\"]", backend.address);
    let pebble = Pebble::start(&tools, Settings::at(ip)).await.unwrap();
    let meshgate = start(files(&config, acme(&pebble, &folder.path().join("acme")))).await;
    let https = SocketAddr::new(ip, 8443);
    until_served(https, "a.example").await.unwrap();
    assert_eq!(order(&meshgate, "a.example").await.unwrap()["challenge"], "tls-alpn-01");
    assert!(!pebble.log().contains("Attempting to validate w/ HTTP"), "{}", pebble.log());
    // What a CA asks for in a handshake is nobody else's, once it has looked.
    let ca = TlsOptions { alpn: vec!["acme-tls/1".to_owned()], ..tls("a.example") };
    let ordinary = client::connect(https, Some(&ca)).await;
    assert!(ordinary.is_err() || ordinary.unwrap().1.unwrap().alpn.is_none());
    // A wildcard cannot be shown; it is told with file and line, and takes nobody else down.
    let page: Value = serde_json::from_str(&meshgate.admin("/diagnostics").await.unwrap()).unwrap();
    let found = page["diagnostics"].as_array().unwrap().iter().find(|one| one["code"] == "MESH0160").cloned().unwrap();
    assert!(
        found["file"].as_str().unwrap().ends_with("gateway.yaml") && found["line"].as_u64().unwrap() > 1,
        "{found}"
    );
    assert!(get(https, "a.apps.example").await.is_err());
}

/// Asks over TLS all the time, each time over a new connection, and over one that stays.
async fn load(https: SocketAddr, name: &'static str, stop: Arc<AtomicBool>, asked: Arc<AtomicU32>) -> Vec<String> {
    let mut failed = Vec::new();
    let mut kept = Client::connect(https, Some(&tls(name)), false).await.unwrap().0;
    while !stop.load(Ordering::Relaxed) {
        match get(https, name).await {
            Ok((200, _)) => {}
            other => failed.push(format!("a new connection: {other:?}")),
        }
        match kept.send(&Request::get(name, "/kept")).await {
            Ok(answer) if answer.status == 200 => {}
            other => failed.push(format!("the old connection: {other:?}")),
        }
        asked.fetch_add(2, Ordering::Relaxed);
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_cost_no_request() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let pebble = Pebble::start(&tools, Settings { validity: 20, ..Settings::at(ip) }).await.unwrap();
    let gate = quick(ip, "a.example", backend.address, acme(&pebble, &folder.path().join("acme"))).await;
    until_served(gate.https, "a.example").await.unwrap();
    let first = serial(&gate.meshgate, "a.example").await.unwrap();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let loading = tokio::spawn(load(gate.https, "a.example", stop.clone(), asked.clone()));
    let renewed = async || Ok(pebble.signed() >= 3 && serial(&gate.meshgate, "a.example").await? != first);
    eventually_async("two renewals", PATIENCE, renewed).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let failed = loading.await.unwrap();
    let asked = asked.load(Ordering::Relaxed);
    assert!(failed.is_empty() && asked > 100, "{} of {asked} failed: {:?}", failed.len(), failed.first());
    e2e::say(&format!("renewals: {} certificates, {asked} requests, 0 failed", pebble.signed()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_asked_for_and_one_that_the_ca_lacks_is_named() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let pebble = Pebble::start(&tools, Settings { short_lived: true, ..Settings::at(ip) }).await.unwrap();
    let flags = |profile: &str| {
        let profile = ["--acme-profile".to_owned(), profile.to_owned()];
        [acme(&pebble, &folder.path().join("acme")), profile.to_vec()].concat()
    };
    let gate = quick(ip, "a.example", backend.address, flags("long-lived")).await;
    let told = async || Ok(finding(&gate.meshgate).await?.is_some());
    eventually_async("a finding", PATIENCE, told).await.unwrap();
    let said = finding(&gate.meshgate).await.unwrap().unwrap();
    assert!(said.contains("no profile `long-lived`; it has default, shortlived"), "{said}");
    assert_eq!(pebble.signed(), 0);
    drop(gate);

    let other = folder.path().join("other");
    let flags = [acme(&pebble, &other), vec!["--acme-profile".to_owned(), "shortlived".to_owned()]].concat();
    let gate = quick(ip, "a.example", backend.address, flags).await;
    until_served(gate.https, "a.example").await.unwrap();
    let ends = metric(&gate.meshgate, "meshgate_certificate_expiry_timestamp_seconds{source=\"ordered/a.example\"}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let (left, hour) = (ends.await.unwrap() - now, 3600.0);
    assert!((left - SHORT_LIVED.as_secs_f64()).abs() < hour, "{left}");
    let next = order(&gate.meshgate, "a.example").await.unwrap()["next_in_seconds"].as_f64().unwrap();
    assert!(next > 24.0 * hour && next < 0.9 * SHORT_LIVED.as_secs_f64(), "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ca_says_when_to_renew() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let storage = folder.path().join("acme");
    let pebble = Pebble::start(&tools, Settings::at(ip)).await.unwrap();
    let gate = quick(ip, "a.example", backend.address, acme(&pebble, &storage)).await;
    until_served(gate.https, "a.example").await.unwrap();
    let by_ca = async || Ok(order(&gate.meshgate, "a.example").await?["by_ca"] == true);
    eventually_async("a window of the CA", PATIENCE, by_ca).await.unwrap();
    // It has to revoke that certificate.
    let kept = only_certificate(&storage);
    let (_, chain) = kept.split_once("-----BEGIN CERTIFICATE-----").unwrap();
    let certificate = format!("-----BEGIN CERTIFICATE-----{chain}");
    pebble.renew_between(&certificate, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z").await.unwrap();
    let before = serial(&gate.meshgate, "a.example").await.unwrap();
    gate.meshgate.reload().unwrap();
    let renewed = async || Ok(serial(&gate.meshgate, "a.example").await? != before);
    eventually_async("a renewal", PATIENCE, renewed).await.unwrap();
    assert_eq!(pebble.signed(), 2);
}

/// Text of the one certificate that is kept.
fn only_certificate(storage: &Path) -> String {
    let mut folders = std::fs::read_dir(storage).unwrap().map(|entry| entry.unwrap().path().join("certificates"));
    let certificates = folders.find(|folder| folder.is_dir()).unwrap();
    let mut files = std::fs::read_dir(certificates).unwrap().map(|entry| entry.unwrap().path());
    std::fs::read_to_string(files.find(|path| path.extension().is_some_and(|kind| kind == "pem")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_is_away_is_waited_for_and_one_that_forgot_us_is_told_again() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let config = folder.path().join("config");
    std::fs::create_dir(&config).unwrap();
    https_only(&config, ip, "[a.example]", backend.address);
    let mut pebble = Pebble::start(&tools, Settings::at(ip)).await.unwrap();
    pebble.stop();
    let meshgate = start(files(&config, acme(&pebble, &folder.path().join("acme")))).await;
    let https = SocketAddr::new(ip, 8443);
    let told = async || Ok(finding(&meshgate).await?.is_some_and(|said| said.contains("cannot be asked")));
    eventually_async("a finding", PATIENCE, told).await.unwrap();
    let said = finding(&meshgate).await.unwrap().unwrap();
    assert!(said.contains("a.example") && said.contains("tried again at") && said.contains("gateway.yaml"), "{said}");
    let failures = "meshgate_acme_failures_total{reason=\"ca_unreachable\"}";
    assert!(metric(&meshgate, failures).await.unwrap() >= 1.0);
    pebble.run().await.unwrap();
    until_served(https, "a.example").await.unwrap();
    let gone = async || Ok(finding(&meshgate).await?.is_none());
    eventually_async("the end of the finding", PATIENCE, gone).await.unwrap();

    // Another one takes its place, which knows no account; what serves goes on.
    pebble.stop();
    pebble.run().await.unwrap();
    https_only(&config, ip, "[a.example, b.example]", backend.address);
    until_served(https, "b.example").await.unwrap();
    assert_eq!(get(https, "a.example").await.unwrap().0, 200);
    assert!(meshgate.log().contains("does not know the account"), "{}", meshgate.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_elsewhere_is_told_and_does_not_make_a_loop() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let pebble = Pebble::start(&tools, Settings::at(ip)).await.unwrap();
    pebble.lead("wrong.example", Some(ports::loopback())).await.unwrap();
    let flags = || acme(&pebble, &folder.path().join("acme"));
    let gate = quick(ip, "wrong.example,right.example", backend.address, flags()).await;
    until_served(gate.https, "right.example").await.unwrap();
    let told = async || Ok(finding(&gate.meshgate).await?.is_some());
    eventually_async("a finding", PATIENCE, told).await.unwrap();
    let said = finding(&gate.meshgate).await.unwrap().unwrap();
    assert!(said.contains("the CA tried http-01 at wrong.example") && said.contains("DNS"), "{said}");
    let failed = order(&gate.meshgate, "wrong.example").await.unwrap();
    assert_eq!((failed["state"].as_str(), failed["failures"].as_u64()), (Some("failed"), Some(1)), "{failed}");
    let failures = "meshgate_acme_failures_total{reason=\"challenge_failed\"}";
    assert_eq!(metric(&gate.meshgate, failures).await.unwrap(), 1.0);
    assert!(failed["next_in_seconds"].as_u64() > Some(60), "{failed}");
    assert!(gate.meshgate.log().contains("MESH0320"), "{}", gate.meshgate.log());

    // Who begins it again may have put it right; who begins it again and again does not make it ask again and again.
    drop(gate);
    let gate = quick(ip, "wrong.example,right.example", backend.address, flags()).await;
    let again = async || Ok(order(&gate.meshgate, "wrong.example").await?["failures"] == 2);
    eventually_async("the second try", PATIENCE, again).await.unwrap();
    let asked = pebble.log().matches("://wrong.example").count();
    drop(gate);
    let gate = quick(ip, "wrong.example,right.example", backend.address, flags()).await;
    let waits = order(&gate.meshgate, "wrong.example").await.unwrap();
    assert!(waits["state"] == "failed" && waits["next_in_seconds"].as_u64() > Some(60), "{waits}");
    assert_eq!(pebble.log().matches("://wrong.example").count(), asked);

    pebble.lead("wrong.example", None).await.unwrap();
    gate.meshgate.reload().unwrap();
    until_served(gate.https, "wrong.example").await.unwrap();
    let gone = async || Ok(finding(&gate.meshgate).await?.is_none());
    eventually_async("the end of the finding", PATIENCE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_elsewhere_is_bound() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let binding = Some(("kid-1".to_owned(), key.to_owned()));
    let pebble = Pebble::start(&tools, Settings { binding, ..Settings::at(ip) }).await.unwrap();
    let flags = || acme(&pebble, &folder.path().join("acme"));
    let gate = quick(ip, "a.example", backend.address, flags()).await;
    let told = async || Ok(finding(&gate.meshgate).await?.is_some_and(|said| said.contains("externalAccountRequired")));
    eventually_async("a finding", PATIENCE, told).await.unwrap();
    assert_eq!(metric(&gate.meshgate, "meshgate_acme_failures_total{reason=\"refused\"}").await.unwrap(), 1.0);
    drop(gate);

    let file = folder.path().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let own = ["--acme-eab-kid", "kid-1", "--acme-eab-key", file.to_str().unwrap(), "--log", "trace"];
    let flags = [flags(), own.iter().map(|flag| (*flag).to_owned()).collect()].concat();
    let gate = quick(ip, "a.example", backend.address, flags).await;
    until_served(gate.https, "a.example").await.unwrap();
    assert!(!gate.meshgate.log().contains(key), "the log has the key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_what_is_kept_order_once() {
    let Some(tools) = pebble::tools() else { return };
    let backend = Backend::echo("a").await.unwrap();
    let (ip, other, folder) = (ports::loopback(), ports::loopback(), tempfile::tempdir().unwrap());
    let pebble = Pebble::start(&tools, Settings::at(ip)).await.unwrap();
    let flags = || acme(&pebble, &folder.path().join("acme"));
    let mut first = quick(ip, "a.example", backend.address, flags()).await;
    let first = tokio::task::spawn_blocking(move || {
        let begun = first.meshgate.wait_for_line(|line| line.contains("a certificate is ordered"), PATIENCE);
        begun.map(|_| first)
    });
    let first = first.await.unwrap().unwrap();
    let second = quick(other, "a.example", backend.address, flags()).await;
    until_served(first.https, "a.example").await.unwrap();
    until_served(second.https, "a.example").await.unwrap();
    assert_eq!(
        serial(&first.meshgate, "a.example").await.unwrap(),
        serial(&second.meshgate, "a.example").await.unwrap()
    );
    assert_eq!(pebble.signed(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_names_are_signed_here_and_believed_with_the_root() {
    let backend = Backend::echo("a").await.unwrap();
    let (ip, folder) = (ports::loopback(), tempfile::tempdir().unwrap());
    let storage = folder.path().join("acme");
    // Nobody is there; nobody is asked.
    let flags =
        ["--acme-directory", "https://127.0.0.1:1/dir", "--acme-storage", storage.to_str().unwrap(), "--workers", "1"];
    let flags = || flags.iter().map(|flag| (*flag).to_owned()).collect();
    let gate = quick(ip, &format!("localhost,app.localhost,{ip}"), backend.address, flags()).await;
    assert_eq!(
        get(gate.https, "localhost").await.unwrap(),
        (200, vec!["localhost".to_owned()]),
        "from the first moment"
    );
    assert_eq!(get(gate.https, "app.localhost").await.unwrap().1, ["app.localhost"]);
    let (mut client, _) = Client::connect(gate.https, Some(&TlsOptions::default()), false).await.unwrap();
    let answer = client.send(&Request::get(&gate.https.to_string(), "/x")).await.unwrap();
    assert_eq!(answer.status, 200, "who connects to an address asks for no name");
    let page: Value = serde_json::from_str(&gate.meshgate.admin("/certs").await.unwrap()).unwrap();
    let root = page["acme"]["local_root"].as_str().unwrap().to_owned();
    assert!(gate.meshgate.log().contains(&root), "its path is said: {}", gate.meshgate.log());
    verified(gate.https, "localhost", &root).await.unwrap();
    assert!(verified(gate.https, "app.localhost", &root).await.is_ok());
    assert!(verified(gate.https, &ip.to_string(), &root).await.is_ok());
    let before = serial(&gate.meshgate, "localhost").await.unwrap();
    drop(gate);
    let gate = quick(ip, "localhost,new.localhost", backend.address, flags()).await;
    assert_eq!(serial(&gate.meshgate, "localhost").await.unwrap(), before);
    assert!(verified(gate.https, "new.localhost", &root).await.is_ok(), "the root is the same");
    assert_eq!(finding(&gate.meshgate).await.unwrap(), None);
}

/// A handshake of a client that believes this root alone.
async fn verified(https: SocketAddr, name: &str, root: &str) -> anyhow::Result<()> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(root)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(https).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(rustls::pki_types::ServerName::try_from(name.to_owned())?, stream).await?;
    Ok(())
}

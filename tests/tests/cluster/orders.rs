//! Certificates that Gateways of a cluster ask for, from a real CA (Pebble): ordered by the leader, shown by every replica of the
//! gateways, kept in Secrets.

use std::time::Duration;

use e2e::client::TlsOptions;
use e2e::cluster::Controller;
use e2e::pebble::{self, Pebble, Settings};
use e2e::process::repository;
use serde_json::{Value, json};

use super::*;

/// Orders are waited for by a CA that looks, and by gateways.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both replicas listen at one address, so that the kernel shares connections out: whoever the CA meets has to answer.
fn gateways(folder: &Path, class: &str, controller: SocketAddr) -> Vec<Meshgate> {
    let labels = BTreeMap::from([("istio".to_owned(), class.to_owned())]);
    let start = |number: u32| {
        let name = format!("gw-{class}-{number}");
        let pod = Pod { namespace: SYSTEM, name: &name, labels: &labels };
        let mut gateway = pod.gateway(folder, controller, &[]).unwrap();
        gateway.ready().unwrap();
        gateway
    };
    (1..=2).map(start).collect()
}

/// `servers`: hosts, and the secret that the server names.
fn gateway(name: &str, class: &str, ip: IpAddr, http: bool, servers: &[(&str, &str)]) -> String {
    let tls = servers.iter().enumerate().map(|(number, (hosts, secret))| {
        json!({
            "port": { "number": 8443, "name": format!("https-{number}"), "protocol": "HTTPS" },
            "bind": ip.to_string(),
            "hosts": hosts.split(',').map(|host| format!("*/{host}")).collect::<Vec<_>>(),
            "tls": { "mode": "SIMPLE", "credentialName": secret },
        })
    });
    let plain = json!({
        "port": { "number": 8080, "name": "http", "protocol": "HTTP" },
        "bind": ip.to_string(),
        "hosts": ["*/*"],
    });
    let servers: Vec<Value> = http.then_some(plain).into_iter().chain(tls).collect();
    let metadata = json!({ "name": name, "namespace": SYSTEM, "annotations": { "meshgate.io/acme": "true" } });
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata,
        "spec": { "selector": { "istio": class }, "servers": servers },
    })
    .to_string()
}

fn secret(name: &str) -> Option<Value> {
    let text = kubectl(&["get", "secret", name, "-n", SYSTEM, "--ignore-not-found", "-o", "json"], "").unwrap();
    (!text.trim().is_empty()).then(|| serde_json::from_str(&text).unwrap())
}

/// Names in the certificate that a new connection is shown.
async fn names(https: SocketAddr, host: &str) -> anyhow::Result<Vec<String>> {
    let tls = TlsOptions { sni: Some(host.to_owned()), ..TlsOptions::default() };
    let (_, details) = client::connect(https, Some(&tls)).await?;
    Ok(details.map(|details| details.names).unwrap_or_default())
}

/// Until all gateways serve it.
async fn until_served(gateways: &[Meshgate], https: SocketAddr, host: &str, secret: &str) {
    let source = format!("{SYSTEM}/{secret}");
    let served = async || {
        for gateway in gateways {
            let page: Value = serde_json::from_str(&gateway.admin("/certs").await?)?;
            let mut all = page["certificates"].as_array().into_iter().flatten();
            if !all.any(|entry| entry["source"] == source.as_str() && entry["san"] == json!([host])) {
                return Ok(false);
            }
        }
        Ok(names(https, host).await.is_ok_and(|names| names == [host]))
    };
    eventually_async(&format!("HTTPS for {host}"), PATIENCE, served).await.unwrap();
}

/// Nothing of a test before this one, which may have failed.
fn clear() {
    let delete =
        |what: &[&str]| kubectl(&[&["delete", "-n", SYSTEM, "--ignore-not-found"], what].concat(), "").unwrap();
    delete(&["gateway.networking.istio.io", "acme-http", "acme-alpn", "acme-foreign"]);
    delete(&["secret", "theirs", "acme-f.example"]);
    delete(&["secret", "-l", "meshgate.io/acme=true"]);
}

struct Setup {
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
    pebble: Pebble,
    flags: Vec<String>,
}

impl Setup {
    async fn new(tools: &Path, ip: IpAddr) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        trouble::prepare();
        // To order is a right of its own.
        let rights = std::fs::read_to_string(repository().join("deploy/acme/rbac.yaml")).unwrap();
        kubectl(&["apply", "-n", SYSTEM, "-f", "-"], &rights).unwrap();
        clear();
        let kubeconfig = trouble::own_kubeconfig(folder.path());
        let pebble = Pebble::start(tools, Settings::at(ip)).await.unwrap();
        let ca = pebble.certificate_file().to_string_lossy().into_owned();
        let flags = ["--acme-email", "a@b.example", "--acme-directory", &pebble.url(), "--acme-ca", &ca];
        let flags = flags.map(str::to_owned).into();
        Setup { folder, kubeconfig, pebble, flags }
    }

    async fn controller(&self, replica: &str, discovery: Option<SocketAddr>) -> Controller {
        let more: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let launch = Launch::new(self.folder.path(), replica, SYSTEM);
        let launch = Launch { discovery, kubeconfig: Some(&self.kubeconfig), more: &more, ..launch };
        let controller = launch.start().unwrap();
        controller.until("leadership", "/debug/proxies", |page| page["leader"] == true).await.unwrap();
        controller
    }
}

async fn order(controller: &Controller, secret: &str) -> Value {
    let page = controller.page("/debug/orders").await;
    let name = format!("{SYSTEM}/{secret}");
    let found = page["orders"].as_array().into_iter().flatten().find(|order| order["name"] == name.as_str());
    found.cloned().unwrap_or_else(|| panic!("no order for {name}: {page:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_get_what_the_leader_orders_and_any_of_them_answers_the_ca() {
    let Some(_) = cluster::folder() else { return };
    let Some(tools) = pebble::tools() else { return };
    let (ip, other) = (ports::loopback(), ports::loopback());
    let setup = Setup::new(&tools, ip).await;
    setup.pebble.lead("b.example", Some(other)).await.unwrap();
    let controller = setup.controller("acme-first", None).await;
    let plain = gateways(setup.folder.path(), "acme-http", controller.discovery);
    let closed = gateways(setup.folder.path(), "acme-alpn", controller.discovery);
    let (https, other_https) = (SocketAddr::new(ip, 8443), SocketAddr::new(other, 8443));
    apply(&gateway("acme-http", "acme-http", ip, true, &[("a.example", "cert-a")])).unwrap();
    apply(&gateway("acme-alpn", "acme-alpn", other, false, &[("b.example", "cert-b")])).unwrap();
    until_served(&plain, https, "a.example", "cert-a").await;
    until_served(&closed, other_https, "b.example", "cert-b").await;

    // Both challenges, each shown by both gateways before the CA looked.
    let (a, b) = (order(&controller, "cert-a").await, order(&controller, "cert-b").await);
    assert_eq!((a["state"].as_str(), a["challenge"].as_str()), (Some("valid"), Some("http-01")), "{a}");
    assert_eq!((b["state"].as_str(), b["challenge"].as_str()), (Some("valid"), Some("tls-alpn-01")), "{b}");
    assert!(!setup.pebble.log().contains("http://b.example"), "{}", setup.pebble.log());
    let shown = controller.log().matches("all gateways show what the CA wants to see").count();
    assert_eq!((shown, controller.log().matches("gateways=2").count()), (2, 2), "{}", controller.log());
    assert_eq!(controller.metric("meshgate_acme_certificates_total{ca=\"directory\"}").await.unwrap(), 2.0);
    let ends = format!("meshgate_acme_certificate_expiry_timestamp_seconds{{secret=\"{SYSTEM}/cert-a\"}}");
    assert!(controller.metric(&ends).await.unwrap() > 1e9);
    let kept = secret("cert-a").unwrap();
    assert_eq!(
        (&kept["type"], &kept["metadata"]["labels"]),
        (&json!("kubernetes.io/tls"), &json!({ "meshgate.io/acme": "true" }))
    );
    assert_eq!(
        kept["metadata"]["annotations"],
        json!({ "meshgate.io/acme-host": "a.example" }),
        "nothing is shown any more"
    );
    for log in plain.iter().chain(&closed).map(Meshgate::log).chain([controller.log()]) {
        assert!(!log.contains("PRIVATE KEY"), "{log}");
    }

    // The next controller has all of it: account and certificates.
    let account = secret("meshgate-acme-account").unwrap();
    let discovery = controller.discovery;
    drop(controller);
    let controller = setup.controller("acme-second", Some(discovery)).await;
    controller
        .until("the certificates", "/debug/orders", |page| {
            let orders = page["orders"].as_array().map(Vec::as_slice).unwrap_or_default();
            orders.len() == 2 && orders.iter().all(|order| order["state"] == "valid")
        })
        .await
        .unwrap();
    assert_eq!((setup.pebble.signed(), &secret("cert-a").unwrap()["data"]), (2, &kept["data"]));

    // Hosts that share a server have secrets of their own, from the same account.
    let servers = [("a.example", "cert-a"), ("c.example,d.example", "several")];
    apply(&gateway("acme-http", "acme-http", ip, true, &servers)).unwrap();
    until_served(&plain, https, "c.example", "acme-c.example").await;
    until_served(&plain, https, "d.example", "acme-d.example").await;
    assert_eq!(setup.pebble.signed(), 4);
    assert_eq!(secret("meshgate-acme-account").unwrap()["data"], account["data"]);
    assert!(!setup.pebble.log().contains("There are now 2 accounts"), "{}", setup.pebble.log());

    // Whoever deletes one gets another one.
    kubectl(&["delete", "secret", "cert-a", "-n", SYSTEM], "").unwrap();
    until_served(&plain, https, "a.example", "cert-a").await;
    let again = async || Ok(setup.pebble.signed() == 5 && secret("cert-a").is_some());
    eventually_async("the certificate again", PATIENCE, again).await.unwrap();
    clear();
}

/// Somebody's, who knows nothing of us.
fn foreign(name: &str, host: &str) -> Value {
    let made = e2e::certs::certificate(host).unwrap();
    let data = json!({ "tls.crt": made.certificate_pem, "tls.key": made.key_pem });
    let metadata = json!({ "name": name, "namespace": SYSTEM });
    let object = json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data });
    apply(&object.to_string()).unwrap();
    secret(name).unwrap()
}

/// Until its status has a message with this code.
async fn until_said(gateway: &str, code: &str) -> Value {
    let mut last = Value::Null;
    let said = async || {
        let text = kubectl(&["get", "gateway.networking.istio.io", gateway, "-n", SYSTEM, "-o", "json"], "");
        last = serde_json::from_str(&text.map_err(anyhow::Error::msg)?)?;
        let messages = last["status"]["validationMessages"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(messages.iter().any(|message| message["type"]["code"] == code))
    };
    if let Err(error) = eventually_async(&format!("{code} at {gateway}"), PATIENCE, said).await {
        panic!("{error}: {last:#}");
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_not_touched_and_failures_are_told() {
    let Some(_) = cluster::folder() else { return };
    let Some(tools) = pebble::tools() else { return };
    let ip = ports::loopback();
    let setup = Setup::new(&tools, ip).await;
    let (named, derived) = (foreign("theirs", "e.example"), foreign("acme-f.example", "f.example"));
    // Nobody is there, where this leads.
    setup.pebble.lead("wrong.example", Some(ports::loopback())).await.unwrap();
    let controller = setup.controller("acme-foreign", None).await;
    let both = gateways(setup.folder.path(), "acme-foreign", controller.discovery);
    let servers = [("e.example", "theirs"), ("f.example,g.example", "several"), ("wrong.example", "cert-wrong")];
    apply(&gateway("acme-foreign", "acme-foreign", ip, true, &servers)).unwrap();
    let https = SocketAddr::new(ip, 8443);
    until_served(&both, https, "e.example", "theirs").await;
    until_served(&both, https, "g.example", "acme-g.example").await;
    until_said("acme-foreign", "MESH0162").await;
    let told = until_said("acme-foreign", "MESH0321").await;
    until_said("acme-foreign", "MESH0320").await;
    assert!(e2e::bulk::condition(&told, "Accepted").is_some());
    assert_eq!((secret("theirs").unwrap(), secret("acme-f.example").unwrap()), (named, derived));
    assert!(!setup.pebble.log().contains("f.example"), "the CA is not asked for what cannot be kept");
    assert_eq!(setup.pebble.signed(), 1);

    // How it failed is kept, so that a controller that starts anew does not ask again and again.
    let failed = order(&controller, "cert-wrong").await;
    assert_eq!((failed["state"].as_str(), failed["failures"].as_u64()), (Some("failed"), Some(1)), "{failed}");
    let failures = "meshgate_acme_failures_total{reason=\"challenge_failed\"}";
    assert_eq!(controller.metric(failures).await.unwrap(), 1.0);
    let kept = &secret("cert-wrong").unwrap()["metadata"]["annotations"];
    assert!(kept["meshgate.io/acme-failure"].is_string() && kept["meshgate.io/acme-challenge"].is_null(), "{kept}");

    // Whoever has put it right and does not want to wait deletes what is known of it.
    setup.pebble.lead("wrong.example", None).await.unwrap();
    kubectl(&["delete", "secret", "cert-wrong", "-n", SYSTEM], "").unwrap();
    until_served(&both, https, "wrong.example", "cert-wrong").await;
    clear();
}

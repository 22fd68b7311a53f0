//! The edge speaks mutual TLS to workloads of the mesh, with a certificate of the controller's CA.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use controller::ca::Authority;
use e2e::client::{self, Client, Request};
use e2e::mesh::{MeshBackend, server};

use super::*;

/// Certificates in the default run; `MESHGATE_ROTATIONS` asks for more.
const ROTATIONS: u32 = 200;
/// Of the workload.
const A: &str = "spiffe://cluster.local/ns/default/sa/a";
const EDGE: &str = "spiffe://cluster.local/ns/meshgate-system/sa/gateway";

/// A Service of one pod that says that it speaks mutual TLS.
fn workload(backend: SocketAddr, account: &str, port_name: &str) -> String {
    let (ip, port) = (backend.ip(), backend.port());
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: a, namespace: default}}
spec:
  selector: {{app: a}}
  ports: [{{name: {port_name}, port: 80, targetPort: {port}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: a, namespace: default, uid: a, labels: {{app: a, security.istio.io/tlsMode: istio}}}}
spec: {{serviceAccountName: {account}, containers: []}}
status: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: 'True'}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a, namespace: default}}
spec:
  hosts: [a.example]
  gateways: [{NAMESPACE}/edge]
  http: [{{route: [{{destination: {{host: a}}}}]}}]
"
    )
}

struct Mesh {
    control: Control,
    backend: MeshBackend,
    gateway: Meshgate,
    edge: SocketAddr,
    address: SocketAddr,
    serving: Option<e2e::controller::Serving>,
}

/// A gateway that is ready, before a workload whose pod has this account.
async fn mesh(account: &str, port_name: &str) -> Mesh {
    let control = Control::start().await.unwrap();
    let edge = edge();
    let backend = MeshBackend::start("a", server(&control.authority(), A, control.authority().root_pem()).unwrap())
        .await
        .unwrap();
    control.apply(&gateway(edge.port())).await.unwrap();
    control.apply(&workload(backend.address, account, port_name)).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    let mut gateway = control.gateway(serving.address).unwrap();
    tokio::task::block_in_place(|| gateway.ready()).unwrap();
    Mesh { address: serving.address, control, backend, gateway, edge, serving: Some(serving) }
}

impl Mesh {
    async fn certs(&self) -> serde_json::Value {
        let page: serde_json::Value = serde_json::from_str(&self.gateway.admin("/certs").await.unwrap()).unwrap();
        page["workload"].clone()
    }

    /// Asks for a certificate and waits until it is in force.
    async fn renew(&self) {
        let before = self.certs().await["renewals"].as_u64();
        self.gateway.reload().unwrap();
        let end = std::time::Instant::now() + client::DEADLINE;
        while self.certs().await["renewals"].as_u64() <= before {
            assert!(std::time::Instant::now() < end, "{}", self.gateway.log());
        }
    }

    /// The gateway's roots, and how many of them it has to know before this returns.
    async fn roots(&self, pem: &str, count: usize) {
        std::fs::write(self.control.root(), pem).unwrap();
        let end = std::time::Instant::now() + client::DEADLINE;
        while self.certs().await["roots"].as_array().map(Vec::len) != Some(count) {
            assert!(std::time::Instant::now() < end, "{}", self.certs().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_the_mesh_are_mutually_authenticated() {
    let mesh = mesh("a", "http").await;
    assert_eq!(answer(mesh.edge, "a.example").await, "a");
    assert_eq!(mesh.backend.clients(), [EDGE]);
    assert_eq!(mesh.backend.clear(), 0);
    let own = mesh.certs().await;
    assert_eq!(
        (own["certificate"]["id"].as_str(), own["trust_domains"][0].as_str()),
        (Some(EDGE), Some("cluster.local"))
    );
    assert!(own["certificate"]["seconds_left"].as_i64().unwrap() > 80_000, "{own}");
    assert!(!own.to_string().contains("PRIVATE"));
    for wanted in [
        format!("destination_principal=\"{A}\""),
        format!("source_principal=\"{EDGE}\""),
        "istio_agent_cert_expiry_seconds{resource_name=\"default\"} 86".to_owned(),
        "meshgate_certificate_renewals_total 1".to_owned(),
    ] {
        until_recorded(&mesh, &wanted).await;
    }
    // Who dials anew resumes what was agreed.
    let (first, _) = mesh.backend.handshakes();
    assert_eq!(first, 1, "one connection for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_http2_has_it_in_mutual_tls_too() {
    let mesh = mesh("a", "http2").await;
    assert_eq!(answer(mesh.edge, "a.example").await, "a");
    assert_eq!((mesh.backend.clients(), mesh.backend.clear()), (vec![EDGE.to_owned()], 0));
}

/// A request is recorded when all is done, which may be after the client has its answer.
async fn until_recorded(mesh: &Mesh, wanted: &str) {
    let mut last = String::new();
    let is_recorded = async || {
        last = mesh.gateway.admin("/metrics").await?;
        Ok(last.contains(wanted))
    };
    if let Err(error) = eventually_async(wanted, client::DEADLINE, is_recorded).await {
        panic!("{error}: {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_whom_the_pod_names_gets_no_request() {
    let mesh = mesh("b", "http").await;
    let response = client::get(mesh.edge, "a.example", "/").await.unwrap();
    assert_eq!(response.status, 503);
    assert!(response.text().contains("reset reason: remote connection failure"), "{}", response.text());
    assert_eq!((mesh.backend.requests(), mesh.backend.clear()), (0, 0));
    until_recorded(&mesh, "response_flags=\"URX,UF\"").await;
    // Who may speak in clear does, if a rule says so: here nobody understands it.
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: default}\n\
                spec: {host: a, trafficPolicy: {tls: {mode: DISABLE}}}\n";
    mesh.control.apply(rule).await.unwrap();
    eventually("a connection in clear", || {
        let edge = mesh.edge;
        tokio::spawn(async move { client::get(edge, "a.example", "/").await });
        mesh.backend.clear() > 0
    })
    .await
    .unwrap();
}

/// One client that asks again and again.
async fn ask(edge: SocketAddr, stop: Arc<AtomicBool>, answered: Arc<AtomicU32>) -> Result<(), String> {
    let (mut client, _) = Client::connect(edge, None, false).await.map_err(|error| format!("{error:#}"))?;
    while !stop.load(Ordering::Relaxed) {
        let answer = client.send(&Request::get("a.example", "/")).await.map_err(|error| format!("{error:#}"))?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.text()));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_roots_change_under_load_and_nothing_fails() {
    let rotations = std::env::var("MESHGATE_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROTATIONS);
    let mut mesh = mesh("a", "http").await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4).map(|_| tokio::spawn(ask(mesh.edge, stop.clone(), answered.clone()))).collect();
    for _ in 0..rotations {
        mesh.renew().await;
    }
    // A new root: first everybody believes both, then the new one signs, then the old one goes.
    let old = mesh.control.authority().root_pem().to_owned();
    let next = Authority::generate().unwrap();
    let new = next.root_pem().to_owned();
    let both = format!("{old}{new}");
    mesh.roots(&both, 2).await;
    mesh.backend.change(server(&mesh.control.authority(), A, &both).unwrap());
    mesh.renew().await;
    if let Some(serving) = mesh.serving.take() {
        serving.stop().await;
    }
    mesh.control.signs_from_now(next);
    mesh.serving = Some(mesh.control.serve(Some(mesh.address)).await.unwrap());
    mesh.renew().await;
    mesh.backend.change(server(&mesh.control.authority(), A, &both).unwrap());
    mesh.renew().await;
    mesh.roots(&new, 1).await;
    mesh.backend.change(server(&mesh.control.authority(), A, &new).unwrap());
    mesh.renew().await;
    let (counted, goal) = (answered.clone(), answered.load(Ordering::Relaxed) + 20);
    let went_on = eventually("requests go on", || counted.load(Ordering::Relaxed) >= goal).await;
    stop.store(true, Ordering::Relaxed);
    // What a client says of why it stopped says more.
    for client in clients {
        client.await.unwrap().unwrap_or_else(|error| panic!("{error}\n{}", mesh.gateway.log()));
    }
    went_on.unwrap();
    let (handshakes, _) = mesh.backend.handshakes();
    e2e::say(&format!(
        "{rotations} certificates and a root changed; {} requests, 0 failed, {handshakes} handshakes",
        answered.load(Ordering::Relaxed)
    ));
    assert!(handshakes >= rotations / 2, "{handshakes}");
    assert_eq!(mesh.backend.clear(), 0);
}

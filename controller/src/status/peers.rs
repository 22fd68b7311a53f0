//! What the other replicas count. Asked by the leader, at `/debug/programmed` of each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Tally;

/// Port of the admin pages, where the Service's slices do not name another.
const ADMIN: i32 = 15014;
/// How often the list of replicas is read again.
const LIST: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(2);
/// What a replica said last counts so long without an answer: its proxies need that to find another.
const KEEP: Duration = Duration::from_secs(10);
/// Longest answer.
const LONGEST: usize = 64 << 20;

/// The other replicas.
pub struct Peers {
    slices: Api<EndpointSlice>,
    service: String,
    replica: String,
    addresses: Vec<SocketAddr>,
    listed: Option<Instant>,
    heard: HashMap<SocketAddr, (Instant, Arc<Tally>)>,
}

impl Peers {
    #[must_use]
    pub fn new(client: Client, namespace: &str, service: &str, replica: &str) -> Peers {
        Peers {
            slices: Api::namespaced(client, namespace),
            service: service.to_owned(),
            replica: replica.to_owned(),
            addresses: Vec::new(),
            listed: None,
            heard: HashMap::new(),
        }
    }

    /// What they count now; what does not answer is left out after a while.
    pub async fn ask(&mut self) -> Vec<Arc<Tally>> {
        if self.listed.is_none_or(|listed| listed.elapsed() >= LIST) {
            match self.list().await {
                Ok(addresses) => {
                    self.addresses = addresses;
                    self.listed = Some(Instant::now());
                }
                Err(error) => tracing::debug!(%error, "cannot list the replicas"),
            }
        }
        self.heard.retain(|address, (heard, _)| self.addresses.contains(address) || heard.elapsed() < KEEP);
        let asked = self.addresses.iter().map(|address| {
            let version = self.heard.get(address).map(|(_, tally)| tally.version);
            async move { (*address, timeout(DEADLINE, ask(*address, version)).await) }
        });
        for (address, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(Ok(Some(tally))) => drop(self.heard.insert(address, (Instant::now(), Arc::new(tally)))),
                Ok(Ok(None)) => {
                    if let Some((heard, _)) = self.heard.get_mut(&address) {
                        *heard = Instant::now();
                    }
                }
                Ok(Err(error)) => tracing::debug!(%address, "replica: {error:#}"),
                Err(_) => tracing::debug!(%address, "replica does not answer"),
            }
        }
        self.heard.retain(|_, (heard, _)| heard.elapsed() < KEEP);
        let others = self.heard.values().map(|(_, tally)| tally).filter(|tally| tally.replica != self.replica);
        others.cloned().collect()
    }

    async fn list(&self) -> kube::Result<Vec<SocketAddr>> {
        let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={}", self.service));
        let slices = self.slices.list(&selector).await?;
        Ok(slices.items.iter().flat_map(addresses).collect())
    }
}

fn addresses(slice: &EndpointSlice) -> impl Iterator<Item = SocketAddr> {
    let ports = slice.ports.iter().flatten();
    let named = |name: &str| name == "http-monitoring" || name == "admin" || name == "http-admin";
    let port = ports.clone().find(|port| port.name.as_deref().is_some_and(named)).and_then(|port| port.port);
    let port = u16::try_from(port.unwrap_or(ADMIN)).unwrap_or_default();
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(move |address| Some(SocketAddr::new(address.parse().ok()?, port)))
}

/// None: it is still of this version.
async fn ask(address: SocketAddr, version: Option<u64>) -> anyhow::Result<Option<Tally>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get("/debug/programmed").header(header::HOST, address.to_string());
    if let Some(version) = version {
        request = request.header(header::IF_NONE_MATCH, format!("\"{version}\""));
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let tally = match response.status() {
        StatusCode::NOT_MODIFIED => None,
        StatusCode::OK => {
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
            Some(serde_json::from_slice(&body).context("it speaks another version")?)
        }
        status => bail!("it answers {status}"),
    };
    connection.abort();
    Ok(tally)
}

//! Configuration from a controller, by incremental discovery over TLS. What was had stays in force while the controller is
//! away; after a break only what changed meanwhile is sent again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use mesh_core::wire::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use mesh_core::wire::{Applied, Change, Client, ClientState, Kind, MAX_MESSAGE, METHOD};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::{Configuration, Update, log_settings};
use crate::observe::ControllerMetrics;
use crate::tls::provider;

/// How long new configuration waits for the endpoints and secrets that it names. The controller answers for each, if only that
/// there is none; while it is slow, what is in force serves better than what would answer 503.
const COMPLETE: Duration = Duration::from_secs(2);
/// Name look-up, TCP, TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Pings, so that a controller that vanished is noticed.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));
/// Pause between two attempts: doubled each time, and up to half of it more by chance.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A stream that lasted so long was a good one: the next pause is the shortest again.
const GOOD: Duration = Duration::from_secs(10);

/// Where the controller is, and who we are.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// `HOST:PORT`
    pub address: String,
    /// Name in the controller's certificate.
    pub name: String,
    /// Certificates that the controller's may come from, PEM. Read anew for each connection.
    pub ca: PathBuf,
    /// Token that says who we are. Read anew for each connection.
    pub token: PathBuf,
    pub node: Node,
}

/// How it stands with the controller.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connection {
    pub address: String,
    pub connected: bool,
    /// Streams opened so far.
    pub streams: u64,
    /// Generation of the controller that is in force here.
    pub generation: String,
    #[serde(skip)]
    pub last_response: Option<SystemTime>,
    pub last_error: Option<String>,
    /// Resources of the last response that this version does not understand.
    pub refused: Vec<String>,
}

/// Shared with the admin pages and the metrics.
#[derive(Clone)]
pub struct ConnectionCell {
    state: Arc<Mutex<Connection>>,
    metrics: ControllerMetrics,
}

impl ConnectionCell {
    #[must_use]
    pub fn new(metrics: ControllerMetrics) -> ConnectionCell {
        ConnectionCell { state: Arc::default(), metrics }
    }

    #[must_use]
    pub fn get(&self) -> Connection {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn edit(&self, edit: impl FnOnce(&mut Connection)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = state.streams;
        edit(&mut state);
        self.metrics.connected.set(i64::from(state.connected));
        self.metrics.streams.inc_by(state.streams - streams);
    }
}

/// The source. It ends with the process.
pub struct Controller {
    options: ControllerOptions,
    updates: UnboundedSender<Update>,
    connection: ConnectionCell,
    live: watch::Sender<bool>,
    generation: String,
}

impl Controller {
    /// Starts it. The receiver becomes true once something that the controller said is being served.
    pub fn start(
        options: ControllerOptions,
        updates: UnboundedSender<Update>,
        connection: ConnectionCell,
    ) -> watch::Receiver<bool> {
        let (live, receiver) = watch::channel(false);
        connection.edit(|connection| connection.address = options.address.clone());
        tokio::spawn(Controller { options, updates, connection, live, generation: String::new() }.run());
        receiver
    }

    async fn run(mut self) {
        let mut state = ClientState::default();
        let mut pause = PAUSE.0;
        loop {
            let begun = Instant::now();
            let mut client = Client::new(state);
            let error = match self.stream(&mut client).await {
                Ok(()) => anyhow!("the controller ended the stream"),
                Err(error) => error,
            };
            state = client.into_state();
            if self.updates.is_closed() {
                return;
            }
            if begun.elapsed() >= GOOD {
                pause = PAUSE.0;
            }
            let wait = pause.mul_f64(1.0 + fastrand::f64() / 2.0);
            let text = format!("{error:#}");
            tracing::warn!(address = self.options.address, retry_ms = wait.as_millis(), "controller: {text}");
            self.connection.edit(|connection| {
                connection.connected = false;
                connection.last_error = Some(text);
            });
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn stream(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let token = read(&self.options.token).await.context("cannot read the token")?;
        let channel = connect(&self.options).await?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        for request in client.start(self.options.node.clone()) {
            requests.send(request)?;
        }
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.context("not connected")?;
        let mut request = tonic::Request::new(UnboundedReceiverStream::new(outgoing));
        let value = format!("Bearer {}", token.trim()).parse().context("the token is not one line of text")?;
        request.metadata_mut().insert("authorization", value);
        let codec = tonic_prost::ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let path = http::uri::PathAndQuery::from_static(METHOD);
        let response = grpc.streaming(request, path, codec).await.map_err(|status| anyhow!(describe(&status)))?;
        let mut incoming = response.into_inner();
        tracing::info!(address = self.options.address, "controller: connected");
        self.connection.edit(|connection| {
            connection.connected = true;
            connection.streams += 1;
            connection.last_error = None;
        });
        let mut session = Session { client, requests, held: None, published: None };
        let end = self.converse(&mut session, &mut incoming).await;
        self.settle(session).await?;
        end
    }

    /// Until the stream ends.
    async fn converse(
        &mut self,
        session: &mut Session<'_>,
        incoming: &mut tonic::Streaming<DeltaDiscoveryResponse>,
    ) -> anyhow::Result<()> {
        loop {
            let patience = session.held.as_ref().map(|held| held.since + COMPLETE);
            tokio::select! {
                // What is here already is looked at before patience ends.
                biased;
                () = in_force(&mut session.published) => {
                    self.live.send_replace(true);
                    session.acknowledge()?;
                }
                response = incoming.message() => match response.map_err(|status| anyhow!(describe(&status)))? {
                    Some(response) => self.take(session, response)?,
                    None => return Ok(()),
                },
                () = until(patience) => self.publish(session)?,
            }
        }
    }

    /// The stream is over, but what it brought is here, and the next stream says so: nobody will send it again. It is
    /// served now, complete or not.
    async fn settle(&mut self, mut session: Session<'_>) -> anyhow::Result<()> {
        self.publish(&mut session)?;
        if session.published.is_some() {
            in_force(&mut session.published).await;
            self.live.send_replace(true);
        }
        Ok(())
    }

    fn take(&mut self, session: &mut Session<'_>, response: DeltaDiscoveryResponse) -> anyhow::Result<()> {
        let applied = session.client.on_response(response)?;
        self.generation.clone_from(&applied.generation);
        let refused: Vec<String> = applied.refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        for refused in &refused {
            tracing::error!("controller: refused {refused}; its last good version stays in force");
        }
        self.connection.metrics.refused.inc_by(refused.len() as u64);
        self.connection.edit(|connection| {
            connection.last_response = Some(SystemTime::now());
            connection.generation.clone_from(&applied.generation);
            if applied.kind == Kind::Config || !refused.is_empty() {
                connection.refused = refused;
            }
        });
        let Applied { kind, change, subscriptions, acknowledgement, .. } = applied;
        for request in subscriptions {
            session.requests.send(request)?;
        }
        match change {
            Change::Nothing => session.requests.send(acknowledgement)?,
            Change::Configuration => {
                let held = session.held.get_or_insert_with(|| Held { since: Instant::now(), owed: Vec::new() });
                match kind {
                    Kind::Config => held.owed.push(acknowledgement),
                    // Others may follow before the configuration is complete.
                    Kind::Endpoints | Kind::Secret => session.requests.send(acknowledgement)?,
                }
            }
            Change::Endpoints(endpoints) => {
                if session.held.is_none() {
                    self.updates.send(Update::Endpoints(endpoints))?;
                }
                session.requests.send(acknowledgement)?;
            }
        }
        if session.held.is_some() && !session.client.is_incomplete() {
            self.publish(session)?;
        }
        Ok(())
    }

    /// Hands everything over. The acknowledgement follows when it is in force.
    fn publish(&mut self, session: &mut Session<'_>) -> anyhow::Result<()> {
        let Some(held) = session.held.take() else { return Ok(()) };
        let state = session.client.state();
        let settings = state.settings().clone();
        let configuration = Configuration {
            set: state.set(),
            access_log: settings.access_log.as_ref().map(log_settings),
            trusted_proxies: settings.trusted_proxies,
            ..Configuration::default()
        };
        self.updates.send(Update::Configuration(Box::new(configuration)))?;
        let (done, in_force) = oneshot::channel();
        self.updates.send(Update::Barrier(done))?;
        let mut owed = session.published.take().map(|(_, owed)| owed).unwrap_or_default();
        owed.extend(held.owed);
        session.published = Some((in_force, owed));
        Ok(())
    }
}

/// One stream.
struct Session<'a> {
    client: &'a mut Client,
    requests: UnboundedSender<DeltaDiscoveryRequest>,
    /// Changes that are not handed over yet, for something that they name is on its way.
    held: Option<Held>,
    /// Handed over; and what is to be sent when it is in force.
    published: Option<(oneshot::Receiver<()>, Vec<DeltaDiscoveryRequest>)>,
}

struct Held {
    since: Instant,
    owed: Vec<DeltaDiscoveryRequest>,
}

impl Session<'_> {
    fn acknowledge(&mut self) -> anyhow::Result<()> {
        for request in self.published.take().map(|(_, owed)| owed).unwrap_or_default() {
            self.requests.send(request)?;
        }
        Ok(())
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Until what was handed over is served.
async fn in_force(published: &mut Option<(oneshot::Receiver<()>, Vec<DeltaDiscoveryRequest>)>) {
    if let Some((in_force, _)) = published
        && in_force.await.is_ok()
    {
        return;
    }
    // An error is a store that ends: so does the process.
    std::future::pending().await
}

async fn connect(options: &ControllerOptions) -> anyhow::Result<Channel> {
    let pem = read(&options.ca).await.context("cannot read the certificates of the controller's CA")?;
    let tls = tls_config(pem.as_bytes()).with_context(|| format!("{}", options.ca.display()))?;
    let name =
        ServerName::try_from(options.name.clone()).with_context(|| format!("`{}` is no host name", options.name))?;
    let address = options.address.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
        async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            let stream = tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    // The authority is only a name here: the connector knows where to go.
    let endpoint = Endpoint::from_shared(format!("http://{}", options.address))
        .with_context(|| format!("`{}` is not HOST:PORT", options.address))?
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(true);
    let connecting = timeout(CONNECT, endpoint.connect_with_connector(connector)).await;
    connecting.context("no connection in time")?.context("cannot connect")
}

fn tls_config(ca: &[u8]) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.context("not a certificate in PEM")?).context("not a CA's certificate")?;
    }
    anyhow::ensure!(!roots.is_empty(), "holds no certificate");
    let mut config = rustls::ClientConfig::builder_with_provider(provider::provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn read(path: &Path) -> anyhow::Result<String> {
    tokio::fs::read_to_string(path).await.with_context(|| path.display().to_string())
}

/// What the controller says, in one line.
fn describe(status: &tonic::Status) -> String {
    let code = status.code();
    if status.message().is_empty() { code.description().to_owned() } else { format!("{code:?}: {}", status.message()) }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;

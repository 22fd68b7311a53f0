//! Configuration from a controller, by incremental discovery over TLS. What was had stays in force while the controller is
//! away; after a break only what changed meanwhile is sent again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mesh_core::model::{Key, Place};
use mesh_core::wire::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use mesh_core::wire::{Applied, Change, Client, ClientState, Kind, LOCALITY, MAX_MESSAGE, METHOD, NODE};
use serde::Serialize;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic::metadata::AsciiMetadataValue;

use super::dial::connect;
use super::trouble::Trouble;
use super::{Configuration, Update, log_settings};
use crate::demand::{self, Demand};
use crate::observe::ControllerMetrics;

/// How long new configuration waits for the endpoints and secrets that it names. The controller answers for each, if only that
/// there is none; while it is slow, what is in force serves better than what would answer 503.
const COMPLETE: Duration = Duration::from_secs(2);
/// Pause between two attempts: doubled each time, and up to half of it more by chance.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A stream that lasted so long was a good one: the next pause is the shortest again.
const GOOD: Duration = Duration::from_secs(10);
/// How long the controller may take to answer that we go.
const FAREWELL: Duration = Duration::from_secs(1);
/// Why a stream ends when the process does.
const STOPS: &str = "this proxy stops";

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
    /// Where this proxy is, the controller says.
    pub asks_place: bool,
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
    /// What is in the way; none while it is connected, or when the controller ended the stream in order.
    pub last_error: Option<String>,
    /// Its label in the metrics: it tells nothing of this machine.
    #[serde(skip)]
    pub reason: Option<&'static str>,
    /// What to do about it.
    pub help: Option<&'static str>,
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
    /// What requests need.
    demand: Arc<Demand>,
    asked: UnboundedReceiver<Key>,
    stop: watch::Receiver<bool>,
}

/// A source that runs.
pub struct Following {
    live: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Following {
    /// Waits until something that the controller said is being served.
    pub async fn live(&mut self) {
        if self.live.wait_for(|live| *live).await.is_err() {
            // The process ends.
            std::future::pending::<()>().await;
        }
    }

    /// Takes leave of the controller, which then knows that nothing broke.
    pub async fn end(self) {
        self.stop.send_replace(true);
        let _ = timeout(FAREWELL, self.task).await;
    }
}

impl Controller {
    /// Starts it.
    pub fn start(
        options: ControllerOptions,
        updates: UnboundedSender<Update>,
        connection: ConnectionCell,
        demand: Arc<Demand>,
    ) -> Following {
        let (live, receiver) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        connection.edit(|connection| connection.address = options.address.clone());
        let asked = demand.take_names();
        let task = tokio::spawn(Controller { options, updates, connection, live, demand, asked, stop: stopped }.run());
        Following { live: receiver, stop, task }
    }

    async fn run(mut self) {
        let mut state = ClientState::default();
        let mut pause = PAUSE.0;
        loop {
            let begun = Instant::now();
            if let Ok(name) = self.asked.try_recv() {
                // The stream begins with it.
                drop(self.ask(&mut state, name));
            }
            let mut client = Client::new(state);
            let end = self.stream(&mut client).await;
            self.demand.set_reachable(false);
            state = client.into_state();
            if self.updates.is_closed() || *self.stop.borrow() {
                return;
            }
            if begun.elapsed() >= GOOD {
                pause = PAUSE.0;
            }
            let wait = pause.mul_f64(1.0 + fastrand::f64() / 2.0);
            self.ended(end, wait);
            tokio::select! {
                () = stopped(&mut self.stop) => return,
                () = tokio::time::sleep(wait) => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Asks for this name, and for all others that somebody waits for.
    fn ask(&mut self, state: &mut ClientState, name: Key) -> Vec<DeltaDiscoveryRequest> {
        let names = std::iter::once(name).chain(std::iter::from_fn(|| self.asked.try_recv().ok()));
        let requests: Vec<DeltaDiscoveryRequest> = names.filter_map(|name| state.ask(name)).collect();
        self.connection.metrics.asked.inc_by(requests.len() as u64);
        requests
    }

    /// Says why, and when it is tried again.
    fn ended(&self, end: Result<String, Trouble>, wait: Duration) {
        let (address, retry_ms) = (&self.options.address, wait.as_millis());
        match &end {
            Ok(why) => tracing::info!(address, retry_ms, "controller: connecting anew: {why}"),
            Err(trouble) => {
                let (reason, help) = (trouble.reason(), trouble.help().unwrap_or_default());
                tracing::warn!(address, retry_ms, reason, help, "controller: {trouble}");
                self.connection.metrics.errors.with_label_values(&[reason]).inc();
            }
        }
        self.connection.edit(|connection| {
            connection.connected = false;
            connection.last_error = end.as_ref().err().map(ToString::to_string);
            connection.reason = end.as_ref().err().map(Trouble::reason);
            connection.help = end.as_ref().err().and_then(Trouble::help);
        });
    }

    /// Until it ends. The reason, if it ended in order.
    async fn stream(&mut self, client: &mut Client) -> Result<String, Trouble> {
        let mut stop = self.stop.clone();
        let (requests, mut incoming) = tokio::select! {
            () = stopped(&mut stop) => return Ok(STOPS.to_owned()),
            opened = self.open(client) => opened?,
        };
        let mut session = Session { client, requests, held: None, published: None, question: None };
        let end = self.converse(&mut session, &mut incoming).await;
        // With the session goes the sender of requests: the controller sees that no more will come, and ends its half.
        self.settle(session).await?;
        if *stop.borrow() {
            while let Ok(Some(_)) = incoming.message().await {}
        }
        end
    }

    /// A new stream, with its first requests.
    async fn open(
        &self,
        client: &mut Client,
    ) -> Result<(UnboundedSender<DeltaDiscoveryRequest>, tonic::Streaming<DeltaDiscoveryResponse>), Trouble> {
        let authorization = authorization(&self.options.token).await?;
        let channel = connect(&self.options).await?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        for request in client.start(self.options.node.clone()) {
            let _ = requests.send(request);
        }
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|error| Trouble::Broken(error.to_string()))?;
        let mut request = tonic::Request::new(UnboundedReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", authorization);
        let codec = tonic_prost::ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let path = http::uri::PathAndQuery::from_static(METHOD);
        let response = grpc.streaming(request, path, codec).await?;
        tracing::info!(address = self.options.address, "controller: connected");
        self.connection.edit(|connection| {
            connection.connected = true;
            connection.streams += 1;
            connection.last_error = None;
            connection.reason = None;
            connection.help = None;
        });
        self.demand.set_reachable(true);
        let told = |name| response.metadata().get(name).and_then(|value| value.to_str().ok());
        if let Some(locality) = told(LOCALITY).filter(|_| self.options.asks_place) {
            let node = told(NODE).unwrap_or_default().into();
            let place = Place { locality: locality.into(), node };
            self.updates.send(Update::Place(place)).map_err(anyhow::Error::from)?;
        }
        Ok((requests, response.into_inner()))
    }

    /// Until the stream ends.
    async fn converse(
        &mut self,
        session: &mut Session<'_>,
        incoming: &mut tonic::Streaming<DeltaDiscoveryResponse>,
    ) -> Result<String, Trouble> {
        loop {
            // Nothing is served of a configuration of which only a part is here, however long it takes.
            let held = session.held.as_ref().filter(|_| !session.client.is_torn());
            let patience = held.map(|held| held.since + COMPLETE);
            tokio::select! {
                // What is here already is looked at before patience ends.
                biased;
                () = in_force(&mut session.published) => {
                    self.serving(session);
                    session.acknowledge()?;
                }
                response = incoming.message() => match response {
                    Ok(Some(response)) => self.take(session, response)?,
                    Ok(None) => return Ok("it ended the stream".to_owned()),
                    // We may come again, with what is good now.
                    Err(status) if status.code() == Code::Aborted => return Ok(status.message().to_owned()),
                    Err(status) => return Err(status.into()),
                },
                // One question at a time: what comes meanwhile is asked together.
                Some(name) = self.asked.recv(), if !session.is_asking() => {
                    session.question = Some(Instant::now());
                    let requests = self.ask(session.client.state(), name);
                    session.send(requests)?;
                }
                () = until(patience) => self.publish(session)?,
                // Who waited for the answer has given up by now.
                () = until(session.question.map(|asked| asked + demand::PATIENCE)), if session.is_asking() => {
                    session.question = None;
                }
                () = stopped(&mut self.stop) => return Ok(STOPS.to_owned()),
            }
        }
    }

    /// The stream is over, but what it brought is here, and the next stream says so: nobody will send it again. It is
    /// served now, with or without what it names. Half of a configuration waits for the other half.
    async fn settle(&mut self, mut session: Session<'_>) -> anyhow::Result<()> {
        self.publish(&mut session)?;
        if session.published.is_some() {
            in_force(&mut session.published).await;
            self.serving(&session);
        }
        Ok(())
    }

    /// What was handed over is in force.
    fn serving(&self, session: &Session<'_>) {
        self.live.send_replace(true);
        if let Some(handed) = &session.published {
            self.connection.edit(|connection| connection.generation.clone_from(&handed.generation));
        }
    }

    fn take(&mut self, session: &mut Session<'_>, response: DeltaDiscoveryResponse) -> anyhow::Result<()> {
        let applied = session.client.on_response(response);
        let refused: Vec<String> = applied.refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        for refused in &refused {
            tracing::error!("controller: refused {refused}; its last good version stays in force");
        }
        self.connection.metrics.refused.inc_by(refused.len() as u64);
        self.connection.edit(|connection| {
            connection.last_response = Some(SystemTime::now());
            if applied.kind == Some(Kind::Config) && applied.acknowledgement.is_some() || !refused.is_empty() {
                connection.refused = refused;
            }
        });
        let Applied { kind, generation, change, subscriptions, acknowledgement, .. } = applied;
        session.send(subscriptions)?;
        match change {
            Change::Nothing => self.keep_up(session, generation, acknowledgement)?,
            Change::Configuration => {
                let held = session.held.get_or_insert_with(Held::new);
                held.generation = generation;
                match kind {
                    Some(Kind::Config) => held.owed.extend(acknowledgement),
                    // Others may follow before the configuration is complete.
                    _ => session.send(acknowledgement)?,
                }
            }
            Change::Endpoints(endpoints) => {
                if session.held.is_none() {
                    self.updates.send(Update::Endpoints(endpoints))?;
                }
                self.keep_up(session, generation, acknowledgement)?;
            }
        }
        if session.held.is_some() && !session.client.is_incomplete() {
            self.publish(session)?;
        }
        Ok(())
    }

    /// Acknowledges what needs no new tables: it is in force when everything before it is.
    fn keep_up(
        &self,
        session: &mut Session<'_>,
        generation: String,
        acknowledgement: Option<DeltaDiscoveryRequest>,
    ) -> anyhow::Result<()> {
        if acknowledgement.is_some() {
            match (&mut session.held, &mut session.published) {
                (Some(held), _) => held.generation = generation,
                (None, Some(handed)) => handed.generation = generation,
                (None, None) => self.connection.edit(|connection| connection.generation = generation),
            }
        }
        session.send(acknowledgement)
    }

    /// Hands everything over. The acknowledgement follows when it is in force.
    fn publish(&mut self, session: &mut Session<'_>) -> anyhow::Result<()> {
        let Some(held) = session.held.take_if(|_| !session.client.is_torn()) else { return Ok(()) };
        let state = session.client.state();
        let settings = state.settings().clone();
        let configuration = Configuration {
            set: state.set(),
            access_log: settings.access_log.as_ref().map(log_settings),
            topology: settings.topology(),
            trust_domains: settings.trust_domains,
            ..Configuration::default()
        };
        self.updates.send(Update::Configuration(Box::new(configuration)))?;
        let (done, in_force) = oneshot::channel();
        self.updates.send(Update::Barrier(done))?;
        let mut owed = session.published.take().map(|handed| handed.owed).unwrap_or_default();
        owed.extend(held.owed);
        session.published = Some(Handed { in_force, owed, generation: held.generation });
        Ok(())
    }
}

/// One stream.
struct Session<'a> {
    client: &'a mut Client,
    requests: UnboundedSender<DeltaDiscoveryRequest>,
    /// Changes that are not handed over yet, for something that they name is on its way.
    held: Option<Held>,
    published: Option<Handed>,
    /// When something was asked for that may not be answered yet.
    question: Option<Instant>,
}

struct Held {
    since: Instant,
    owed: Vec<DeltaDiscoveryRequest>,
    generation: String,
}

impl Held {
    fn new() -> Held {
        Held { since: Instant::now(), owed: Vec::new(), generation: String::new() }
    }
}

/// Handed over.
struct Handed {
    in_force: oneshot::Receiver<()>,
    /// To be sent when it is in force.
    owed: Vec<DeltaDiscoveryRequest>,
    /// At the controller.
    generation: String,
}

impl Session<'_> {
    fn is_asking(&mut self) -> bool {
        self.question.is_some() && self.client.state().is_asking()
    }

    fn acknowledge(&mut self) -> anyhow::Result<()> {
        let owed = self.published.take().map(|handed| handed.owed).unwrap_or_default();
        self.send(owed)
    }

    fn send(&self, requests: impl IntoIterator<Item = DeltaDiscoveryRequest>) -> anyhow::Result<()> {
        for request in requests {
            self.requests.send(request)?;
        }
        Ok(())
    }
}

/// Until the process ends.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Where nobody can say so any more, nobody waits for an end in order.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Until what was handed over is served.
async fn in_force(published: &mut Option<Handed>) {
    if let Some(handed) = published
        && (&mut handed.in_force).await.is_ok()
    {
        return;
    }
    // An error is a store that ends: so does the process.
    std::future::pending().await
}

/// The token, as metadata has it.
pub(super) async fn authorization(path: &Path) -> Result<AsciiMetadataValue, Trouble> {
    let read = tokio::fs::read_to_string(path).await;
    let token = read.map_err(|error| Trouble::NoToken { path: path.to_owned(), error })?;
    let value =
        Some(token.trim()).filter(|token| !token.is_empty()).and_then(|token| format!("Bearer {token}").parse().ok());
    value.ok_or_else(|| Trouble::BadToken(path.to_owned()))
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;

//! The gRPC side: connections over TLS, one task for each stream. A proxy that reads slowly holds up nobody: its stream has
//! at most one response of each kind in memory (its bodies are everybody's), and what comes meanwhile falls together.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh_core::wire::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_core::wire::{
    CREATE_CERTIFICATE, CertificateRequest, CertificateResponse, Event, LEND, LOCALITY, MAX_MESSAGE, MAX_QUOTA_MESSAGE,
    MAX_REQUEST, METHOD, NODE, QuotaGrant, QuotaReport, ServerStream, Violation,
};
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::heard::{Heard, LastHeard};
use super::proxies::Connected;
use super::{Authenticate, Authenticated, Ending, Lender, Proxies, Unauthenticated};
use crate::ca::Certificates;
use crate::kube::{ClassState, Joined, KeeperHandle, Leaving};

/// A client must finish its handshake within this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// See [`Discovery::keep_alive`].
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Connections at a time.
const CONNECTIONS: usize = 10_000;
/// How long a stream lasts whose token does not say when it ends.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Largest request for a certificate, in bytes: its CSR has a limit of its own.
const MAX_CERTIFICATE_REQUEST: usize = 64 * 1024;
/// How long a connection may take to be told that this replica stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// Responses that are handed to the connection before it takes them.
const WAITING: usize = 4;

/// The service.
#[derive(Clone)]
pub struct Discovery {
    pub keeper: KeeperHandle,
    pub proxies: Proxies,
    pub authenticate: Arc<dyn Authenticate>,
    /// For who wants one.
    pub certificates: Certificates,
    /// Of limits that all proxies count together.
    pub lender: Lender,
    /// A proxy that was silent for so long is pinged, and gone if it does not answer for a third of that: it vanished, or its
    /// process is stopped.
    pub keep_alive: Duration,
}

/// Serves until told to stop. Each connection keeps `busy` until its proxy was told so.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    discovery: Discovery,
    mut stop: watch::Receiver<bool>,
    busy: mpsc::Sender<()>,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (tcp, address) = match accepted {
            // A socket of both families writes IPv4 addresses as IPv6 ones.
            Ok((tcp, address)) => (tcp, SocketAddr::new(address.ip().to_canonical(), address.port())),
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::warn!(%address, "too many connections");
            continue;
        };
        let (acceptor, discovery) = (acceptor.clone(), discovery.clone());
        let (mut stop, busy) = (stop.clone(), busy.clone());
        tokio::spawn(async move {
            let _kept = (permit, busy);
            let _ = tcp.set_nodelay(true);
            let (pause, patience) = (discovery.keep_alive, discovery.keep_alive / 3);
            // A ping that cannot be written for the buffers are full is not noticed otherwise: nor could the end be told then.
            let _ = SockRef::from(&tcp).set_tcp_user_timeout(Some(pause + patience));
            let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%address, %error, "handshake"),
                Err(_) => return tracing::debug!(%address, "handshake takes too long"),
            };
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(pause)
                .keep_alive_timeout(patience)
                .max_concurrent_streams(16)
                .adaptive_window(true);
            let heard = LastHeard::now();
            let service = Service { discovery, address, heard: heard.clone(), stop: stop.clone() };
            let service = TowerToHyperService::new(service);
            let connection = builder.serve_connection(TokioIo::new(Heard { stream, last: heard }), service);
            tokio::pin!(connection);
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%address, %error, "connection");
                    }
                }
                // Proxies find another replica.
                () = stopping(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(FAREWELL, connection).await;
                }
            }
        });
    }
}

#[derive(Clone)]
struct Service {
    discovery: Discovery,
    address: SocketAddr,
    heard: LastHeard,
    stop: watch::Receiver<bool>,
}

impl tower::Service<http::Request<hyper::body::Incoming>> for Service {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            match request.uri().path() {
                METHOD => {}
                CREATE_CERTIFICATE => return Ok(service.certify(request).await),
                LEND => {
                    let codec = tonic_prost::ProstCodec::<QuotaGrant, QuotaReport>::default();
                    let mut grpc = tonic::server::Grpc::new(codec)
                        .max_decoding_message_size(MAX_QUOTA_MESSAGE)
                        .max_encoding_message_size(MAX_QUOTA_MESSAGE);
                    return Ok(grpc.streaming(Lending(service), request).await);
                }
                path => return Ok(Status::unimplemented(format!("no method {path}")).into_http()),
            }
            let codec = tonic_prost::ProstCodec::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .max_decoding_message_size(MAX_REQUEST)
                .max_encoding_message_size(MAX_MESSAGE);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

impl tonic::server::StreamingService<DeltaDiscoveryRequest> for Service {
    type Response = DeltaDiscoveryResponse;
    type ResponseStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let who = service.who(request.metadata().as_ref()).await?;
            let identity = &who.identity;
            let joined = service.discovery.keeper.join(identity).await;
            let Joined { proxy, states, leaving } = joined.map_err(|error| {
                tracing::warn!(pod = identity.pod, namespace = identity.namespace, "cannot be told anything: {error}");
                Status::unavailable(error.to_string())
            })?;
            tracing::info!(proxy = proxy.id, namespace = proxy.namespace, address = %service.address, "connected");
            let place = [(LOCALITY, proxy.locality.clone()), (NODE, proxy.node.clone())];
            let connected = service.discovery.proxies.add(identity, &proxy.locality, service.address.to_string());
            let (responses, outgoing) = mpsc::channel(WAITING);
            let session = Session {
                name: proxy.id,
                keeper: service.discovery.keeper.clone(),
                here: Arc::default(),
                states,
                leaving,
                expires: Instant::now() + lifetime(&who),
                connected,
                responses,
                waiting: VecDeque::new(),
                stream: ServerStream::default(),
                is_later: false,
                heard: service.heard,
                keep_alive: service.discovery.keep_alive,
                stop: service.stop,
            };
            tokio::spawn(session.run(request.into_inner()));
            let mut response = Response::new(ReceiverStream::new(outgoing));
            for (name, value) in place {
                // What a label of a pod says may be no metadata; then nothing is known.
                if let Ok(value) = value.parse() {
                    response.metadata_mut().insert(name, value);
                }
            }
            Ok(response)
        })
    }
}

/// Shares of limits.
#[derive(Clone)]
struct Lending(Service);

impl tonic::server::StreamingService<QuotaReport> for Lending {
    type Response = QuotaGrant;
    type ResponseStream = ReceiverStream<Result<QuotaGrant, Status>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<QuotaReport>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let who = service.who(request.metadata().as_ref()).await?;
            let Discovery { keeper, lender, .. } = &service.discovery;
            lender.refuse_unless_it_lends().await?;
            let joined = keeper.join(&who.identity).await.map_err(|error| Status::unavailable(error.to_string()))?;
            let expires = Instant::now() + lifetime(&who);
            Ok(Response::new(lender.lend(&who.identity, joined, request.into_inner(), expires, service.stop)))
        })
    }
}

/// How long a stream lasts.
fn lifetime(who: &Authenticated) -> Duration {
    who.expires.map_or(LIFETIME, |at| at.duration_since(SystemTime::now()).unwrap_or_default())
}

impl Service {
    async fn certify(&self, request: http::Request<hyper::body::Incoming>) -> http::Response<tonic::body::Body> {
        let who = match self.who(request.headers()).await {
            Ok(who) => who,
            Err(status) => {
                self.discovery.certificates.refuse();
                return status.into_http();
            }
        };
        let codec = tonic_prost::ProstCodec::<CertificateResponse, CertificateRequest>::default();
        let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(MAX_CERTIFICATE_REQUEST);
        grpc.unary(self.discovery.certificates.of(who.identity), request).await
    }

    async fn who(&self, headers: &http::HeaderMap) -> Result<Authenticated, Status> {
        let authorization = headers.get(http::header::AUTHORIZATION);
        let token = authorization.and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        let result = match token {
            Some(token) => self.discovery.authenticate.authenticate(token.trim()).await,
            None => Err(Unauthenticated::NoToken),
        };
        result.map_err(|error| {
            tracing::warn!(address = %self.address, "refused: {error}");
            match error {
                Unauthenticated::Unavailable(_) => Status::unavailable(error.to_string()),
                _ => Status::unauthenticated(error.to_string()),
            }
        })
    }
}

/// Until this replica stops.
pub(super) async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Until the pod is not what it was.
pub(super) async fn departure(leaving: &mut Leaving) -> Ending {
    let departure = leaving.wait_for(Option::is_some).await.ok().and_then(|departure| *departure);
    departure.map_or(Ending::Broken, Ending::from)
}

/// Whether a request answers a response of which the proxy cannot have read the end: it was not even handed on.
fn guessed(waiting: &VecDeque<DeltaDiscoveryResponse>, request: &DeltaDiscoveryRequest) -> bool {
    !request.response_nonce.is_empty() && waiting.iter().any(|response| response.nonce == request.response_nonce)
}

/// Hands a response to the connection, as soon as that has room for it.
async fn hand_on(
    responses: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    waiting: &mut VecDeque<DeltaDiscoveryResponse>,
) -> Result<(), Ending> {
    let permit = responses.reserve().await.map_err(|_| Ending::Broken)?;
    if let Some(response) = waiting.pop_front() {
        permit.send(Ok(response));
    }
    Ok(())
}

/// One stream.
struct Session {
    name: String,
    keeper: KeeperHandle,
    /// As long as this is held, what the proxy asked for counts.
    here: Arc<()>,
    states: watch::Receiver<Arc<ClassState>>,
    leaving: Leaving,
    /// When its token does.
    expires: Instant,
    connected: Connected,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    /// Those that the connection does not take yet.
    waiting: VecDeque<DeltaDiscoveryResponse>,
    stream: ServerStream,
    /// It asked for something that this version does not have.
    is_later: bool,
    heard: LastHeard,
    keep_alive: Duration,
    stop: watch::Receiver<bool>,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        let ending = loop {
            if let Err(ending) = self.turn(&mut requests).await {
                break ending;
            }
        };
        let is_silent = self.heard.silence() >= self.keep_alive;
        let ending = match ending {
            // As the connection ends, so do its streams: like those that the proxy ends.
            Ending::Closed | Ending::Broken if is_silent => Ending::Silent,
            ending => ending,
        };
        if let Some(status) = ending.status() {
            // A proxy that does not read what it was sent is not waited for.
            let _ = self.responses.try_send(Err(status));
        }
        tracing::info!(proxy = self.name, reason = ending.as_str(), "disconnected");
        self.connected.end(ending);
    }

    /// Takes in one thing that happens, and answers; or hands on one answer.
    async fn turn(&mut self, requests: &mut Streaming<DeltaDiscoveryRequest>) -> Result<(), Ending> {
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    self.take(request)?;
                    self.ask().await?;
                }
                Ok(None) => return Err(Ending::Closed),
                Err(status) => {
                    tracing::debug!(proxy = self.name, %status, "stream");
                    return Err(Ending::Broken);
                }
            },
            changed = self.states.changed() => changed.map_err(|_| Ending::Broken)?,
            departure = departure(&mut self.leaving) => return Err(departure),
            () = sleep_until(self.expires) => return Err(Ending::TokenExpired),
            () = stopping(&mut self.stop) => return Err(Ending::Stopping),
            handed = hand_on(&self.responses, &mut self.waiting), if !self.waiting.is_empty() => handed?,
            () = self.responses.closed() => return Err(Ending::Broken),
        }
        if !self.waiting.is_empty() {
            // What comes meanwhile falls together.
            return Ok(());
        }
        let (published, class) = {
            let state = self.states.borrow_and_update();
            (state.published.clone(), state.class)
        };
        for response in self.stream.poll(&published) {
            tracing::debug!(
                proxy = self.name,
                kind = response.type_url,
                generation = response.system_version_info,
                resources = response.resources.len(),
                removed = response.removed_resources.len(),
                "pushed"
            );
            self.connected.count(&response);
            self.waiting.push_back(response);
        }
        self.connected.note(&self.stream, class);
        Ok(())
    }

    /// Hands on what the proxy asks for.
    async fn ask(&mut self) -> Result<(), Ending> {
        let Some(names) = self.stream.take_asked().cloned() else { return Ok(()) };
        tracing::debug!(proxy = self.name, names = names.len(), "asks");
        let class = self.states.borrow().class;
        self.keeper.ask(class, &self.here, names).await.map_err(|_| Ending::Broken)
    }

    fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Ending> {
        let taken = match guessed(&self.waiting, &request) {
            true => Err(Violation::UnknownNonce { given: request.response_nonce }),
            false => self.stream.on_request(request),
        };
        match taken {
            Ok(Event::Refused { kind, generation, message }) => {
                tracing::error!(proxy = self.name, ?kind, generation, "refused by the proxy: {message}");
                Ok(())
            }
            Ok(Event::Unknown(type_url)) => {
                if !std::mem::replace(&mut self.is_later, true) {
                    tracing::warn!(proxy = self.name, "asks for `{type_url:.200}`, which this version does not have");
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(violation) => {
                tracing::warn!(proxy = self.name, "{violation}");
                let _ = self.responses.try_send(Err(Status::invalid_argument(violation.to_string())));
                Err(Ending::Violation)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_handed_on_cannot_be_acknowledged() {
        let response = |nonce: &str| DeltaDiscoveryResponse { nonce: nonce.to_owned(), ..Default::default() };
        let request = |nonce: &str| DeltaDiscoveryRequest { response_nonce: nonce.to_owned(), ..Default::default() };
        let waiting = VecDeque::from([response(""), response("7")]);
        assert!(guessed(&waiting, &request("7")));
        assert!(!guessed(&waiting, &request("6")));
        assert!(!guessed(&waiting, &request("")), "no answer to anything");
    }

    #[tokio::test]
    async fn responses_are_handed_on_as_the_connection_takes_them() {
        let response = |nonce: &str| DeltaDiscoveryResponse { nonce: nonce.to_owned(), ..Default::default() };
        let (responses, mut outgoing) = mpsc::channel(1);
        let mut waiting = VecDeque::from([response("1"), response("2")]);
        assert!(hand_on(&responses, &mut waiting).await.is_ok());
        // No room: who waits for it and is called away loses nothing.
        let none = tokio::time::timeout(Duration::from_millis(1), hand_on(&responses, &mut waiting)).await;
        assert!(none.is_err() && waiting.len() == 1);
        assert!(outgoing.recv().await.is_some_and(|first| first.is_ok_and(|first| first.nonce == "1")));
        assert!(hand_on(&responses, &mut waiting).await.is_ok() && waiting.is_empty());
        drop(outgoing);
        waiting.push_back(response("3"));
        assert!(hand_on(&responses, &mut waiting).await.is_err());
    }
}

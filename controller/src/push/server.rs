//! The gRPC side: connections over TLS, one task for each stream. A proxy that reads slowly holds up nobody: its stream has
//! at most one response of each kind in memory, and what comes meanwhile falls together.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh_core::wire::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_core::wire::{Event, MAX_MESSAGE, METHOD, ServerStream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::proxies::Connected;
use super::{Authenticate, Identity, Proxies, Unauthenticated};
use crate::kube::{ClassState, KeeperHandle};

/// A client must finish its handshake within this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pings, so that a proxy that vanished is noticed.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Connections at a time.
const CONNECTIONS: usize = 10_000;
/// Responses that wait for the connection: one of each kind.
const WAITING: usize = 4;

/// The service.
#[derive(Clone)]
pub struct Discovery {
    pub keeper: KeeperHandle,
    pub proxies: Proxies,
    pub authenticate: Arc<dyn Authenticate>,
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    discovery: Discovery,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
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
        let (acceptor, discovery, mut stop) = (acceptor.clone(), discovery.clone(), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = tcp.set_nodelay(true);
            let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%address, %error, "handshake"),
                Err(_) => return tracing::debug!(%address, "handshake takes too long"),
            };
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEP_ALIVE.0)
                .keep_alive_timeout(KEEP_ALIVE.1)
                .max_concurrent_streams(16)
                .adaptive_window(true);
            let service = TowerToHyperService::new(Service { discovery, address });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%address, %error, "connection");
                    }
                }
                // Proxies find another replica.
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

#[derive(Clone)]
struct Service {
    discovery: Discovery,
    address: SocketAddr,
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
            if request.uri().path() != METHOD {
                return Ok(Status::unimplemented(format!("no method {}", request.uri().path())).into_http());
            }
            let codec = tonic_prost::ProstCodec::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .max_decoding_message_size(MAX_MESSAGE)
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
            let identity = service.identity(request.metadata().get("authorization")).await?;
            let joined = service.discovery.keeper.join(&identity).await;
            let (proxy, states) = joined.map_err(|error| Status::unavailable(error.to_string()))?;
            tracing::info!(proxy = proxy.id, namespace = proxy.namespace, address = %service.address, "connected");
            let connected = service.discovery.proxies.add(&identity, &proxy.locality, service.address.to_string());
            let (responses, outgoing) = mpsc::channel(WAITING);
            let session = Session { name: proxy.id, states, connected, responses, stream: ServerStream::default() };
            tokio::spawn(session.run(request.into_inner()));
            Ok(Response::new(ReceiverStream::new(outgoing)))
        })
    }
}

impl Service {
    async fn identity(&self, authorization: Option<&AsciiMetadataValue>) -> Result<Identity, Status> {
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

/// One stream.
struct Session {
    name: String,
    states: watch::Receiver<Arc<ClassState>>,
    connected: Connected,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    stream: ServerStream,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>) {
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(status) = self.take(request) {
                            tracing::warn!(proxy = self.name, "{}", status.message());
                            let _ = self.responses.send(Err(status)).await;
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(status) => {
                        tracing::debug!(proxy = self.name, %status, "stream");
                        break;
                    }
                },
                changed = self.states.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = self.responses.closed() => break,
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
                if self.responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
            self.connected.note(&self.stream, class);
        }
        tracing::info!(proxy = self.name, "disconnected");
    }

    fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        match self.stream.on_request(request) {
            Ok(Event::Refused { kind, generation, message }) => {
                tracing::error!(proxy = self.name, ?kind, generation, "refused by the proxy: {message}");
                self.connected.refuse(generation, message);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(violation) => Err(Status::invalid_argument(violation.to_string())),
        }
    }
}

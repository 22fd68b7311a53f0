//! Between a controller and a gateway: passes on what they say to each other, and changes what a test wants changed, as if
//! one of them were of another version.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use controller::ca::{Authority, ServerCertificate, server_names};
use mesh_core::wire::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::client::{self, H2, TlsOptions};

/// What becomes of each message: itself, another one, several, or none.
pub trait Doctor: Send + Sync + 'static {
    fn request(&self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryRequest>;
    fn response(&self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryResponse>;
}

/// Where gateways connect instead of to the controller.
pub struct Between {
    pub address: SocketAddr,
    /// Certificates that its own may come from.
    pub root: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Between {
    pub async fn start(folder: &Path, controller: SocketAddr, doctor: Arc<dyn Doctor>) -> anyhow::Result<Between> {
        let authority = Arc::new(Authority::generate()?);
        let root = folder.join("between.pem");
        std::fs::write(&root, authority.root_pem())?;
        let certificate = ServerCertificate::start(authority, server_names("between", "test"))?;
        let acceptor = TlsAcceptor::from(certificate.config(&["h2"])?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, doctor) = (acceptor.clone(), doctor.clone());
                tokio::spawn(async move {
                    if let Err(error) = connection(tcp, acceptor, controller, doctor).await {
                        crate::say(&format!("between: {error:#}"));
                    }
                });
            }
        });
        Ok(Between { address, root, task })
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    controller: SocketAddr,
    doctor: Arc<dyn Doctor>,
) -> anyhow::Result<()> {
    let stream = acceptor.accept(tcp).await.context("handshake")?;
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(asked) = connection.accept().await {
        let (request, respond) = asked?;
        let doctor = doctor.clone();
        // Where one end breaks off, the streams to both are dropped, which resets them.
        tokio::spawn(async move { stream_of(request, respond, controller, &*doctor).await });
    }
    Ok(())
}

async fn stream_of(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    controller: SocketAddr,
    doctor: &dyn Doctor,
) -> anyhow::Result<()> {
    let tls = TlsOptions { sni: Some("localhost".to_owned()), alpn: vec!["h2".to_owned()], ..TlsOptions::default() };
    let (io, _) = client::connect(controller, Some(&tls)).await?;
    let h2 = H2::handshake(io).await?;
    let (head, from_gateway) = request.into_parts();
    let mut sender = h2.sender.clone().ready().await?;
    let (response, mut to_controller) = sender.send_request(http::Request::from_parts(head, ()), false)?;
    let up = async {
        pass(from_gateway, &mut to_controller, |request| doctor.request(request)).await?;
        to_controller.send_data(Bytes::new(), true)?;
        anyhow::Ok(())
    };
    let down = async {
        let (head, from_controller) = response.await?.into_parts();
        let mut to_gateway = respond.send_response(http::Response::from_parts(head, ()), false)?;
        let trailers = pass(from_controller, &mut to_gateway, |response| doctor.response(response)).await?;
        to_gateway.send_trailers(trailers.unwrap_or_default())?;
        anyhow::Ok(())
    };
    tokio::try_join!(up, down).map(drop)
}

/// Until the end; yields the trailers.
async fn pass<M: Message + Default>(
    mut from: h2::RecvStream,
    to: &mut h2::SendStream<Bytes>,
    change: impl Fn(M) -> Vec<M>,
) -> anyhow::Result<Option<http::HeaderMap>> {
    let mut buffer = BytesMut::new();
    while let Some(data) = from.data().await {
        let data = data?;
        from.flow_control().release_capacity(data.len())?;
        buffer.extend_from_slice(&data);
        while let Some(message) = message(&mut buffer) {
            for changed in change(M::decode(message)?) {
                to.send_data(framed(&changed), false)?;
            }
        }
    }
    Ok(from.trailers().await?)
}

/// Takes the next message off, if it is there as a whole: a flag, its length in four bytes, itself.
fn message(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = buffer.get(1..5)?.try_into().map(u32::from_be_bytes).ok()? as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(buffer.split_to(length))
}

fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(5 + body.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put_slice(&body);
    frame.freeze()
}

//! Sockets of the resolver, on the control runtime: datagrams are answered as they come, or when their answer does; a connection
//! has one query at a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::upstream::{Transport, read_message, write_message};
use super::{DnsProxy, Verdict};

/// Connections at a time.
const CONNECTIONS: usize = 256;
/// How long a connection may wait for its next query, and for us to be read.
const IDLE: Duration = Duration::from_secs(10);
/// After an error that is not a client's own.
const PAUSE: Duration = Duration::from_millis(10);

/// What queries arrive at.
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    /// UDP and TCP. Queries to resolvers with IPv6 arrive at the loopback of that family, where there is one.
    pub fn bind(listen: SocketAddr) -> io::Result<Sockets> {
        let mut sockets = Sockets { udp: Vec::new(), tcp: Vec::new() };
        sockets.add(listen)?;
        if listen.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let port = sockets.address()?.port();
            if let Err(error) = sockets.add(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)) {
                tracing::debug!(%error, "names are not answered over IPv6");
            }
        }
        Ok(sockets)
    }

    fn add(&mut self, listen: SocketAddr) -> io::Result<()> {
        let tcp = crate::listen::bind_one(listen)?;
        let udp = std::net::UdpSocket::bind(tcp.local_addr()?)?;
        udp.set_nonblocking(true)?;
        self.udp.push(UdpSocket::from_std(udp)?);
        self.tcp.push(tcp);
        Ok(())
    }

    /// Where the first of them are.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.first().ok_or(io::ErrorKind::NotFound)?.local_addr()
    }

    pub(super) fn serve(self, proxy: &Arc<DnsProxy>) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        for socket in self.udp {
            tokio::spawn(datagrams(Arc::clone(proxy), Arc::new(socket)));
        }
        for socket in self.tcp {
            tokio::spawn(accept(Arc::clone(proxy), socket, Arc::clone(&connections)));
        }
    }
}

async fn datagrams(proxy: Arc<DnsProxy>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receiving queries");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match proxy.decide(buffer.get(..length).unwrap_or_default(), Transport::Udp) {
            Verdict::Ignore => {}
            Verdict::Answer(answer) => send(&socket, &answer, client).await,
            Verdict::Forward(forward) => {
                let (proxy, socket) = (Arc::clone(&proxy), Arc::clone(&socket));
                tokio::spawn(async move {
                    let answer = proxy.ask(forward, Transport::Udp).await;
                    send(&socket, &answer, client).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!(%client, %error, "sending an answer");
    }
}

async fn accept(proxy: Arc<DnsProxy>, socket: TcpListener, connections: Arc<Semaphore>) {
    loop {
        match socket.accept().await {
            Ok((stream, client)) => {
                // One too many is closed.
                let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
                let proxy = Arc::clone(&proxy);
                tokio::spawn(async move {
                    if let Err(error) = converse(&proxy, stream).await {
                        tracing::debug!(%client, %error, "connection with queries");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting queries");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Until the client ends it, is silent for too long, or says what is no query.
async fn converse(proxy: &DnsProxy, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let query = match timeout(IDLE, read_message(&mut stream)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(query) => query?,
            Err(_) => return Ok(()),
        };
        let Some(answer) = proxy.respond(&query, Transport::Tcp).await else { return Ok(()) };
        timeout(IDLE, write_message(&mut stream, &answer)).await??;
    }
}

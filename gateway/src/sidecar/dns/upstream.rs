//! The pod's own resolvers: they are asked just what the client asked, byte for byte, and their answers are handed on as they
//! are. One that is silent for a moment, or fails, is not the only one that is asked.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::message::{self, Received};

/// How long a resolver may be silent before the next one is asked, too.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Clients ask again after 5 seconds, as a rule.
pub const TIMEOUT: Duration = Duration::from_millis(4900);
/// Room for answers to who does not say how much he takes, or little.
const ROOM: usize = 4096;

/// How a query came, and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("there is no resolver to ask")]
    NoResolver,
    #[error("no resolver answered in time")]
    TimedOut,
    #[error("{resolver}: {error}")]
    Io { resolver: SocketAddr, error: io::Error },
}

/// In the order of resolv.conf.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub resolvers: Vec<SocketAddr>,
    /// How long all of them together may take.
    pub timeout: Duration,
}

impl Upstream {
    /// The first answer that says something of the name; else the last that says something at all.
    pub async fn ask(&self, query: &Arc<[u8]>, transport: Transport) -> Result<Vec<u8>, Failure> {
        let end = Instant::now() + self.timeout;
        let mut next = self.resolvers.iter().copied();
        let mut asked: JoinSet<Result<Vec<u8>, Failure>> = JoinSet::new();
        let mut last = Err(Failure::NoResolver);
        loop {
            let until = match next.next() {
                Some(resolver) => {
                    let query = Arc::clone(query);
                    asked.spawn(async move {
                        let answer = match transport {
                            Transport::Udp => by_udp(resolver, &query).await,
                            Transport::Tcp => by_tcp(resolver, &query).await,
                        };
                        answer.map_err(|error| Failure::Io { resolver, error })
                    });
                    end.min(Instant::now() + PATIENCE)
                }
                None => end,
            };
            match timeout_at(until, asked.join_next()).await {
                Ok(Some(Ok(Ok(answer)))) if message::is_final(&answer) => return Ok(answer),
                Ok(Some(Ok(answer))) => last = if answer.is_ok() || last.is_err() { answer } else { last },
                Ok(Some(Err(_))) => {}
                Ok(None) => return last,
                Err(_) if Instant::now() >= end => return last.or(Err(Failure::TimedOut)),
                Err(_) => {}
            }
        }
    }
}

/// From a port that nobody can guess, and only answers to this query count.
async fn by_udp(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let Received::Query(asked) = message::read(query) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let own = if resolver.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(own, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut answer = vec![0; asked.limit().max(ROOM)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer.get(..length).is_some_and(|answer| asked.is_answered_by(answer)) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_tcp(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let Received::Query(asked) = message::read(query) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut stream = TcpStream::connect(resolver).await?;
    write_message(&mut stream, query).await?;
    let answer = read_message(&mut stream).await?;
    if asked.is_answered_by(&answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// A message with its length before it.
pub async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// See [`read_message`]; in one piece, for those who expect that.
pub async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

//! Listening sockets: one per worker on the same address, between which the kernel spreads the connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use mesh_core::model::ListenAddress;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use super::unix::{self, SocketFile};

/// A client that is gone without a word (no FIN, no RST) is noticed after about six minutes: tunnels and quiet streams
/// would else stay for ever.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// And after as long one that has no room for what was sent to it, or does not acknowledge it: what it asked for would else
/// wait here. Less would make the first probe that is lost the last one, tcp(7).
const USER_TIMEOUT: Duration = Duration::from_secs(300 + 4 * 15);
/// Connections to [`bind_one`] that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Who comes by a Unix socket comes from nowhere.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Waiting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// One that a runtime watches.
#[derive(Debug)]
pub(super) enum Watched {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Sockets of a listener.
#[derive(Debug)]
pub(super) struct Bound {
    /// The one really bound.
    pub local: ListenAddress,
    pub sockets: Vec<Waiting>,
    pub file: Option<SocketFile>,
}

impl Bound {
    /// Binds `count` sockets. With port 0 the kernel chooses one port for all of them.
    pub fn new(address: &ListenAddress, count: usize, backlog: u32) -> io::Result<Bound> {
        match address {
            ListenAddress::Socket(address) => {
                let (local, sockets) = bind_all(*address, count, backlog)?;
                let sockets = sockets.into_iter().map(Waiting::Tcp).collect();
                Ok(Bound { local: local.into(), sockets, file: None })
            }
            ListenAddress::Unix(path) => {
                let (sockets, file) = unix::bind_all(path, count, backlog)?;
                Ok(Bound { local: address.clone(), sockets: sockets.into_iter().map(Waiting::Unix).collect(), file })
            }
        }
    }
}

impl Watched {
    pub fn new(socket: Waiting) -> io::Result<Watched> {
        match socket {
            Waiting::Tcp(socket) => tokio::net::TcpListener::from_std(socket).map(Watched::Tcp),
            Waiting::Unix(socket) => tokio::net::UnixListener::from_std(socket).map(Watched::Unix),
        }
    }

    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Watched::Tcp(socket) => socket.accept().await,
            Watched::Unix(socket) => Ok((unix::as_stream(socket.accept().await?.0)?, NOWHERE)),
        }
    }

    /// What waits in the queue, asked of the socket itself: the runtime may not have heard of the newest ones.
    pub fn take_waiting(self) -> Vec<(TcpStream, SocketAddr)> {
        match self {
            Watched::Tcp(socket) => {
                let Ok(socket) = socket.into_std() else { return Vec::new() };
                let taken = std::iter::from_fn(|| socket.accept().ok());
                let watch = |io: std::net::TcpStream| io.set_nonblocking(true).and_then(|()| TcpStream::from_std(io));
                taken.filter_map(|(io, peer)| Some((watch(io).ok()?, peer))).collect()
            }
            Watched::Unix(socket) => {
                let Ok(socket) = socket.into_std() else { return Vec::new() };
                let taken = std::iter::from_fn(|| socket.accept().ok());
                let watch =
                    |io: std::os::unix::net::UnixStream| io.set_nonblocking(true).and_then(|()| unix::from_std(io));
                taken.filter_map(|(io, _)| Some((watch(io).ok()?, NOWHERE))).collect()
            }
        }
    }
}

/// Binds `count` sockets. With port 0 the kernel chooses one port for all of them. The address is the one really bound.
fn bind_all(address: SocketAddr, count: usize, backlog: u32) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = of_both_families(address, |address| bind(address, backlog))?;
    let local = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind(local, backlog)?);
    }
    Ok((local, sockets))
}

/// One socket, which nobody shares: of a process that was forgotten we want to know.
pub fn bind_one(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = of_both_families(address, |address| {
        let socket = new(address)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    })?;
    tokio::net::TcpListener::from_std(socket.into())
}

/// `[::]` is both families. On a machine without IPv6 these are IPv4; that somebody else is there is another matter.
fn of_both_families<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && (error.kind() == io::ErrorKind::AddrNotAvailable || !has_ipv6()) =>
        {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    }
}

fn new(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = new(address)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit all of it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[tokio::test]
    async fn any_address_is_both_families_and_is_not_left_for_another_one() {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let port = bind_one(any(0)).unwrap().local_addr().unwrap().port();
        let first = bind_one(any(port)).unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(bind_one(any(port)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        // Somebody has the IPv6 half of it, so that the other one were free.
        if let Ok(holder) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            let port = holder.local_addr().unwrap().port();
            assert_eq!(bind_one(any(port)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let (address, sockets) = bind_all(([127, 0, 0, 1], 0).into(), 1, 1).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = sockets[0].accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        assert!(USER_TIMEOUT >= KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_PROBES);
    }
}

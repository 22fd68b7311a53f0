//! Listening sockets: one per worker on the same address, between which the kernel spreads the connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// A client that is gone without a word (no FIN, no RST) is noticed after about six minutes: tunnels and quiet streams
/// would else stay for ever.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Connections to [`bind_one`] that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds `count` sockets. With port 0 the kernel chooses one port for all of them. The address is the one really bound.
pub(super) fn bind_all(address: SocketAddr, count: usize, backlog: u32) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
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
    // Accepted sockets inherit both.
    socket.set_tcp_nodelay(true)?;
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
    }
}

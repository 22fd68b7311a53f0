//! Listening sockets: one per worker on the same address, between which the kernel spreads the connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds `count` sockets. With port 0 the kernel chooses one port for all of them. The address is the one really bound.
pub(super) fn bind_all(address: SocketAddr, count: usize, backlog: u32) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = match bind(address, backlog) {
        // A machine without IPv6: both families are IPv4.
        Err(_) if address.ip().is_unspecified() && address.is_ipv6() && !has_ipv6() => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into(), backlog)?
        }
        other => other?,
    };
    let local = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind(local, backlog)?);
    }
    Ok((local, sockets))
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

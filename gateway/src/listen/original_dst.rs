//! Where a redirected connection was going: the kernel's connection tracking remembers it.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The address that the client asked for, IPv4 as such. That of the listener itself if nothing led the connection here.
pub fn of(io: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(io);
    let local = io.local_addr()?;
    // A socket for both families has its IPv4 clients tracked as IPv4.
    let original =
        if local.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    match original {
        Ok(original) => Ok(original.as_socket().map_or(local, canonical)),
        // Nothing is tracked: there are no rules.
        Err(error) if is_untracked(&error) => Ok(canonical(local)),
        Err(error) => Err(error),
    }
}

/// ENOENT: no entry. ENOPROTOOPT, EOPNOTSUPP: the kernel tracks nothing.
fn is_untracked(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let number = error.raw_os_error();
    [Errno::NOENT, Errno::NOPROTOOPT, Errno::OPNOTSUPP].iter().any(|errno| number == Some(errno.raw_os_error()))
}

/// Dual-stack sockets show IPv4 clients as `::ffff:192.0.2.1`.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn who_came_by_itself_was_going_here() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let local = listener.local_addr().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(local), listener.accept());
            assert_eq!(of(&accepted.unwrap().0).unwrap(), local);
            drop(client);
        }
    }
}

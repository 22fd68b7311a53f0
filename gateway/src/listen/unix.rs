//! Listening on Unix sockets, where a workload finds its sidecar by a path. One queue, from which all workers accept.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

/// Who may connect is a question of who sees the directory: the workload has another user than its sidecar, and at a loopback
/// address anybody in the pod could connect, too.
const MODE: u32 = 0o666;

/// The file of a socket of ours. It goes with this, if it is still that one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number.
    identity: (u64, u64),
}

/// Binds one socket for `count` workers. `path` begins with `@` if it is a name without a file.
pub(super) fn bind_all(path: &str, count: usize, backlog: u32) -> io::Result<(Vec<UnixListener>, Option<SocketFile>)> {
    let socket = new()?;
    let file = match path.strip_prefix('@') {
        Some(name) => {
            socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
            None
        }
        None => {
            let address = SockAddr::unix(path)?;
            make_room(path, &address)?;
            socket.bind(&address)?;
            Some(SocketFile::of(path)?)
        }
    };
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    if file.is_some() {
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
    }
    let first = UnixListener::from(OwnedFd::from(socket));
    let mut sockets = Vec::with_capacity(count);
    for _ in 1..count {
        sockets.push(first.try_clone()?);
    }
    sockets.push(first);
    Ok((sockets, file))
}

/// The same stream to the runtime, as it is one like another: only its addresses differ, which nobody asks it for.
pub(super) fn as_stream(io: UnixStream) -> io::Result<TcpStream> {
    from_std(io.into_std()?)
}

/// See [`as_stream`]; it does not block.
pub(super) fn from_std(io: std::os::unix::net::UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(io)))
}

fn new() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Takes a socket away that a process left behind. What is no socket, and one on which somebody listens, stays.
fn make_room(path: &str, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match new()?.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // EAGAIN: whoever listens is busy.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

impl SocketFile {
    fn of(path: &str) -> io::Result<SocketFile> {
        let found = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.into(), identity: (found.dev(), found.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |found: fs::Metadata| (found.dev(), found.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the file of a socket stays");
        }
    }
}

#[cfg(test)]
#[path = "unix_tests.rs"]
mod tests;

//! What the sockets of a proxy are like, asked of the system: options that nobody sees on the wire.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use mesh_core::testing::Probes;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use super::Outcome;

/// Of every connection of the process to this address. There must be one.
pub fn check_probes(
    at: &str,
    (name, expected): (&str, &Probes),
    process: u32,
    to: SocketAddr,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let sockets = connections(process, to)?;
    outcome.check(!sockets.is_empty(), || format!("{at}: the proxy has no connection to `{name}`"));
    for socket in &sockets {
        let socket = SockRef::from(socket);
        outcome.check(socket.keepalive()?, || format!("{at}: connections to `{name}` are not probed"));
        let mut compare = |what: &str, expected: Option<u64>, is: u64| {
            if let Some(expected) = expected {
                outcome.check(is == expected, || format!("{at}: {what} of probes to `{name}` is {is}, not {expected}"));
            }
        };
        compare("time", expected.time, socket.tcp_keepalive_time()?.as_secs());
        compare("interval", expected.interval, socket.tcp_keepalive_interval()?.as_secs());
        compare("count", expected.count.map(u64::from), socket.tcp_keepalive_retries()?.into());
    }
    Ok(())
}

/// Copies of the process's own descriptors.
fn connections(process: u32, to: SocketAddr) -> anyhow::Result<Vec<OwnedFd>> {
    let pid = Pid::from_raw(process.try_into()?).context("a process has a number")?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fd"))? {
        let entry = entry?;
        // What was closed meanwhile is gone.
        let is_socket = std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|_| is_socket) else {
            continue;
        };
        let Ok(socket) = pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()) else { continue };
        let peer = SockRef::from(&socket).peer_addr().ok().and_then(|peer| peer.as_socket());
        if peer == Some(to) {
            found.push(socket);
        }
    }
    Ok(found)
}

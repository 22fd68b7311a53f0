//! Addresses that nobody else uses: each taker gets a loopback address of its own, at which any port is free. So the ports
//! of a configuration can stay as they are written, and tests can run side by side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// 127.64.0.0/10: away from addresses that people pick by hand.
const BASE: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const MASK: u32 = (1 << 22) - 1;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address of this process alone. Processes start at places that a multiplicative hash of their id spreads.
pub fn loopback() -> IpAddr {
    let offset = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed) * 2);
    // Odd last bit: never .0 and never .255 of a /24 that somebody broadcasts to.
    IpAddr::V4(Ipv4Addr::from(BASE | (offset & MASK & !1) | 1))
}

/// 10.92.0.0/16: nobody's, in a cluster of the tests.
const ROUTABLE: u32 = u32::from_be_bytes([10, 92, 0, 0]);

/// An address of this process alone that is no loopback address: Kubernetes has no endpoints there. Only in a network
/// namespace of a cluster, where it makes the whole range addresses of the machine.
pub fn routable() -> std::io::Result<IpAddr> {
    static MADE: OnceLock<Result<(), String>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let make = || {
        let arguments = ["route", "replace", "local", "10.92.0.0/16", "dev", "lo"];
        match std::process::Command::new("ip").args(arguments).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("ip route: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(format!("ip: {error}")),
        }
    };
    MADE.get_or_init(make).clone().map_err(std::io::Error::other)?;
    let offset = NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff;
    Ok(IpAddr::V4(Ipv4Addr::from(ROUTABLE | offset)))
}

/// The first three numbers of 256 addresses of this process alone, `127.130.7.`; from 127.128.0.0/10.
pub fn loopback_prefix() -> String {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let spread = std::process::id().wrapping_mul(2_654_435_761) >> 18;
    let [_, _, high, low] = spread.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
    format!("127.{}.{low}.", 128 + (high & 63))
}

/// A port that is free at this moment; only for servers that cannot say which one they took.
pub fn free_port(ip: IpAddr) -> std::io::Result<u16> {
    Ok(TcpListener::bind((ip, 0))?.local_addr()?.port())
}

/// An address where connections are refused.
pub fn refused() -> std::io::Result<SocketAddr> {
    let ip = loopback();
    Ok(SocketAddr::new(ip, free_port(ip)?))
}

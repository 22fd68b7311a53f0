//! What the end-to-end tests are made of, and the demo application that they and the quickstart share.
//!
//! `process` starts the real gateway, `ports` finds it an address of its own, `backend` stands behind it, `client` in front
//! of it, `certs` makes certificates, `cluster` and `bulk` have what tests on a real Kubernetes share, `between` stands between
//! controller and gateway, `netns` makes pods of network namespaces, `pebble` is a CA for ACME, `proxy_header` reads what proxies say before the first byte, `sidecar` puts sidecars into them, `case` runs case files.

pub mod backend;
#[cfg(feature = "controller")]
pub mod between;
pub mod bookinfo;
#[cfg(feature = "controller")]
pub mod bulk;
pub mod case;
pub mod certs;
pub mod client;
#[cfg(feature = "controller")]
pub mod cluster;
#[cfg(feature = "controller")]
pub mod controller;
pub mod fixture;
#[cfg(feature = "controller")]
pub mod mesh;
pub mod netns;
pub mod pebble;
pub mod ports;
pub mod process;
pub mod proxy_header;
#[cfg(feature = "controller")]
pub mod sidecar;
pub mod third_party;

/// A line that is seen also when a test passes (the test harness captures `println!` only).
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

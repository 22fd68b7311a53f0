//! No bytes in front of a client's own make the reader of PROXY headers panic, or read further than the longest header; and addresses
//! that it finds are found again in the header of version 1 that says the same.
#![no_main]

use gateway::listen::proxy_protocol::{read, version_1};

/// 16 bytes and 4,096.
const LONGEST: usize = 4112;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    let mut rest = input;
    let found = runtime.block_on(read(&mut rest));
    assert!(input.len() - rest.len() <= LONGEST);
    if let Ok(Some(ends)) = found {
        let family = if ends.client.is_ipv4() { "TCP4" } else { "TCP6" };
        let (client, server) = (ends.client, ends.server);
        if client.is_ipv4() == server.is_ipv4() {
            let (from, to) = (client.port(), server.port());
            let line = format!("PROXY {family} {} {} {from} {to}\r\n", client.ip(), server.ip());
            assert_eq!(version_1(line.as_bytes()), Ok(Some(ends)));
        }
    }
});

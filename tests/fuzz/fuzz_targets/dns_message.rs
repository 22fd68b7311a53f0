//! No datagram panics the reader of DNS queries, and every query is answered by its answers and by nothing shorter than a header.
#![no_main]

use gateway::sidecar::dns::message::{Received, read};

libfuzzer_sys::fuzz_target!(|input: &[u8]| match read(input) {
    Received::Nothing => {}
    Received::Refused(answer) => assert!(answer.len() >= 12),
    Received::Query(query) => {
        assert!(query.is_answered_by(&query.failure()), "a failure is an answer");
        let _ = query.is_answered_by(input);
        assert!(query.limit() >= 512);
        if let Some(name) = &query.name {
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
        }
    }
});

//! No bytes of a request panic what reads its target, its authority and its timeout; and what is read once reads the same again.
#![no_main]

use gateway::http::{authority, grpc_status};
use http::uri::PathAndQuery;
use mesh_core::model::PathNormalization;
use mesh_core::snapshot::path;

const MODES: [PathNormalization; 4] = [
    PathNormalization::None,
    PathNormalization::Base,
    PathNormalization::MergeSlashes,
    PathNormalization::DecodeAndMergeSlashes,
];

/// The library that judges what a URI may be takes none longer.
const LONGEST: usize = 20_000;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(found) = authority::parse(input) {
        let mut again = found.host.to_owned();
        let port = &found.text[found.host.len()..];
        again.push_str(port);
        assert_eq!(authority::parse(again.as_bytes()), Ok(authority::Authority { text: &again, ..found }));
    }
    if let Some(timeout) = grpc_status::parse_timeout(input) {
        let written = grpc_status::format_timeout(timeout);
        assert!(grpc_status::parse_timeout(written.as_bytes()).is_some_and(|again| !again.is_zero()), "{written}");
    }
    if let Ok(target) = str::from_utf8(input).map(str::trim_start) {
        MODES.into_iter().for_each(|mode| canonical(target, mode));
    }
});

/// What policies and routes see has no way left to say the same path in other words.
fn canonical(target: &str, mode: PathNormalization) {
    let Ok(once) = path::normalize(target, mode) else { return };
    assert_eq!(path::normalize(&once, mode).as_deref(), Ok(&*once), "{mode:?} once more");
    let (path, _) = path::split_query(&once);
    if mode != PathNormalization::None {
        assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path}");
        assert!(!path.contains('\\'), "{path}");
    }
    if matches!(mode, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes) {
        assert!(!path.contains("//"), "{path}");
    }
    let encoded = path::encode_for_uri(&once);
    if encoded.len() < LONGEST {
        assert!(PathAndQuery::try_from(encoded.as_str()).is_ok(), "{encoded}");
    }
}

//! No bytes of a peer panic the reader of its metadata, and how they are split does not change what they mean, nor loses any
//! that are the application's.
#![no_main]

use gateway::peer_metadata::preamble::{Heard, Preamble, TooLong};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let whole = hear(bytes, bytes.len());
    assert_eq!(whole, hear(bytes, usize::from(*size) + 1));
    if let Ok(Some(heard)) = whole {
        assert!(bytes.ends_with(&heard.rest));
    }
});

/// All that was heard, with what comes behind it.
fn hear(bytes: &[u8], size: usize) -> Result<Option<Heard>, TooLong> {
    let mut preamble = Preamble::default();
    let mut pieces = bytes.chunks(size.max(1));
    while let Some(piece) = pieces.next() {
        if let Some(mut heard) = preamble.add(piece, None)? {
            heard.rest.extend(pieces.flatten());
            return Ok(Some(heard));
        }
    }
    Ok(None)
}

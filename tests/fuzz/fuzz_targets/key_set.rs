//! No key set of an issuer panics its reader, and no signature panics a key that was read.
#![no_main]

use gateway::upstream::{Algorithm, Keys};

const ALGORITHMS: [Algorithm; 5] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps512, Algorithm::Es256, Algorithm::EdDsa];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(keys) = Keys::read(input) else { return };
    let signature = str::from_utf8(&input[..input.len().min(96)]).unwrap_or("c2lnbmF0dXJl");
    for algorithm in ALGORITHMS {
        let _ = keys.verify(None, algorithm, b"header.payload", signature);
        let _ = keys.verify(Some("kid"), algorithm, b"header.payload", "c2lnbmF0dXJl");
    }
});

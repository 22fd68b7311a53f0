//! No bytes of an upstream panic the client codec, and how they are split does not change what they mean.
#![no_main]

use http::Method;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((size, closes, bytes)) = meshgate_fuzz::choices(input) else { return };
    for method in [Method::GET, Method::HEAD] {
        let whole = meshgate_fuzz::ask(bytes, bytes.len(), closes, method.clone());
        assert_eq!(whole, meshgate_fuzz::ask(bytes, size, closes, method));
    }
});

//! No bytes of a client panic the server codec, and how they are split does not change what they mean.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((size, closes, bytes)) = meshgate_fuzz::choices(input) else { return };
    let whole = meshgate_fuzz::serve(bytes, bytes.len(), closes);
    assert_eq!(whole, meshgate_fuzz::serve(bytes, size, closes));
});

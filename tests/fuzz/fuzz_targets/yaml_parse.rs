//! No text panics the parser of API objects.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(text) = str::from_utf8(input) {
        let _ = mesh_core::api::parse("fuzz.yaml", text, "default");
    }
});

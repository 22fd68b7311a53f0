//! No certificate of a client panics what reads names out of it, and no name makes an identity that says something else than it.
#![no_main]

use std::sync::LazyLock;

use gateway::tls::peer_verify::Identity;
use mesh_core::identity::SpiffeId;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::CertificateDer;

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().expect("a key"));

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 3 {
        0 => drop(Identity::of(&CertificateDer::from(bytes))),
        1 => damaged(bytes),
        _ => named(bytes),
    }
});

/// A good certificate with some bytes changed: each three of the input are a place and a byte.
fn damaged(edits: &[u8]) {
    static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| certificate("spiffe://cluster.local/ns/default/sa/reviews").expect("good"));
    let mut certificate = GOOD.clone();
    for edit in edits.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % certificate.len();
        certificate[place] = edit[2];
    }
    if let Ok(found) = Identity::of(&CertificateDer::from(certificate)) {
        check(&found);
    }
}

fn named(bytes: &[u8]) {
    let Some(certificate) = str::from_utf8(bytes).ok().and_then(certificate) else { return };
    if let Ok(found) = Identity::of(&CertificateDer::from(certificate)) {
        check(&found);
    }
}

fn certificate(uri: &str) -> Option<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().ok()?)];
    Some(params.self_signed(&*KEY).ok()?.der().to_vec())
}

/// Who is believed to have an id has this one, written in one way.
fn check(found: &Identity) {
    let Some(principal) = found.principal() else { return };
    let id: SpiffeId = format!("spiffe://{principal}").parse().expect("a principal is an id without its scheme");
    assert_eq!(found.uri(), Some(&*id.to_string()));
    assert!([id.trust_domain(), id.namespace(), id.service_account()].iter().all(|part| !part.is_empty() && !part.contains('/')));
}

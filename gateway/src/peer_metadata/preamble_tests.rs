use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::tests::{identity, own};
use super::*;
use crate::tls::testing::{EDGE, REVIEWS};

/// Feeds it in pieces of this size.
fn hear(bytes: &[u8], size: usize, peer: Option<&Identity>) -> Result<Option<Heard>, TooLong> {
    let mut preamble = Preamble::default();
    let mut pieces = bytes.chunks(size);
    while let Some(piece) = pieces.next() {
        if let Some(mut heard) = preamble.add(piece, peer)? {
            heard.rest.extend(pieces.flatten());
            return Ok(Some(heard));
        }
    }
    Ok(None)
}

#[test]
fn what_one_side_says_the_other_hears_however_it_is_cut() {
    let (own, peer) = (own("default"), identity(REVIEWS));
    let sent = [bytes(Some(&own)), b"SELECT 1"].concat();
    for size in 1..sent.len() {
        let heard = hear(&sent, size, Some(&peer)).unwrap().unwrap();
        assert_eq!(heard.workload.as_ref().map(|said| &*said.name), Some("reviews-v1"), "{size}");
        assert_eq!(heard.rest, b"SELECT 1", "{size}");
    }
    let length = bytes(Some(&own)).len();
    assert_eq!(hear(&sent[..length - 1], 7, Some(&peer)), Ok(None), "more is to come");
}

#[test]
fn nobody_speaks_for_others_and_who_says_nothing_is_nobody() {
    let own = own("default");
    for (said, peer) in [(Some(&own), Some(identity(EDGE))), (Some(&own), None), (None, Some(identity(REVIEWS)))] {
        let heard = hear(&[bytes(said), b"x"].concat(), 1, peer.as_ref()).unwrap();
        assert_eq!(heard, Some(Heard { workload: None, rest: b"x".to_vec() }));
    }
}

#[test]
fn what_is_none_is_data_and_what_is_too_long_is_an_error() {
    for data in [&b"hello"[..], &MAGIC[1..], &[MAGIC[0], MAGIC[1], 0]] {
        assert_eq!(hear(data, 1, None), Ok(Some(Heard { workload: None, rest: data.to_vec() })));
    }
    let length = |length: u32| [&MAGIC[..], &length.to_be_bytes()].concat();
    assert_eq!(hear(&length(16 * 1024 + 1), 3, None), Err(TooLong));
    assert_eq!(hear(&length(16 * 1024), 3, None), Ok(None));
    // Framed well, but no message.
    let broken = [length(2), vec![0xff, 0xff, b'x']].concat();
    assert_eq!(hear(&broken, 64, None), Ok(Some(Heard { workload: None, rest: b"x".to_vec() })));
}

/// Bytes of a proxy of Istio, whose struct has more in it: numbers, lists, null.
#[test]
fn a_proxy_of_istio_is_understood() {
    let (name, id) = (&b"x-envoy-peer-metadata"[..], &b"x-envoy-peer-metadata-id"[..]);
    let field = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()][..], bytes].concat();
    let entry = |key: &[u8], value: Vec<u8>| field(0x0a, &[field(0x0a, key), field(0x12, &value)].concat());
    let text = |text: &[u8]| field(0x1a, text);
    let metadata = [
        entry(b"WORKLOAD_NAME", text(b"reviews-v9")),
        entry(b"NAMESPACE", text(b"default")),
        // number_value, null_value and an empty list_value
        entry(b"A", [&[0x11][..], &1.0_f64.to_le_bytes()].concat()),
        entry(b"B", vec![0x08, 0x00]),
        entry(b"C", field(0x32, b"")),
    ]
    .concat();
    let said = [entry(name, field(0x2a, &metadata)), entry(id, text(b"sidecar~1~2~3"))].concat();
    let length = [0x12, u8::try_from(said.len() & 0x7f).unwrap() | 0x80, u8::try_from(said.len() >> 7).unwrap()];
    let any = [&field(0x0a, TYPE.as_bytes())[..], &length, &said].concat();
    let framed = [&[0x3d, 0x23, 0x04, 0x67][..], &u32::try_from(any.len()).unwrap().to_be_bytes(), &any].concat();
    let heard = hear(&framed, 5, Some(&identity(REVIEWS))).unwrap().unwrap();
    let workload = heard.workload.unwrap();
    assert_eq!((&*workload.name, &*workload.canonical_service), ("reviews-v9", "reviews-v9"));
}

#[tokio::test]
async fn both_sides_send_theirs_at_once() {
    let (mut client, mut server) = tokio::io::duplex(64 * 1024);
    let (ours, peer) = (own("default"), identity(REVIEWS));
    client.write_all(bytes(Some(&ours))).await.unwrap();
    client.write_all(b"more").await.unwrap();
    let heard = exchange(&mut server, Some(&ours), Some(&peer)).await.unwrap();
    assert_eq!((heard.workload.is_some(), &*heard.rest), (true, &b"more"[..]));
    let mut sent = vec![0; bytes(Some(&ours)).len()];
    client.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent, bytes(Some(&ours)));

    let (client, mut server) = tokio::io::duplex(64);
    drop(client);
    assert!(exchange(&mut server, None, None).await.is_err(), "a client that leaves");
}

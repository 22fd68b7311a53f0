use pingora_core::protocols::Ssl;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::testing::soon;
use super::*;

async fn pair() -> (TcpStream, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let (io, _) = listener.accept().await.unwrap();
    (client, Connection::plain(io))
}

/// Sends the pieces one by one while they are looked at; what was found, and what is read afterwards.
async fn found(pieces: &[&[u8]]) -> (bool, Vec<u8>) {
    let (mut client, mut connection) = pair().await;
    let (_keep, mut drain) = watch::channel(false);
    let send = async {
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        client.shutdown().await.unwrap();
    };
    let (kept, ()) = tokio::join!(sniff(&mut connection, Duration::from_secs(10), &mut drain), send);
    assert!(kept.unwrap());
    let h2 = connection.selected_alpn_proto() == Some(ALPN::H2);
    let mut read = Vec::new();
    soon(connection.read_to_end(&mut read)).await.unwrap();
    (h2, read)
}

#[tokio::test]
async fn the_preface_is_known_wherever_it_is_cut() {
    let all = [PREFACE, b"more"].concat();
    for at in 1..all.len() {
        let (first, second) = all.split_at(at);
        assert_eq!(found(&[first, second]).await, (true, all.clone()), "cut at {at}");
    }
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    assert_eq!(found(&bytes).await, (true, all.clone()));
}

#[tokio::test]
async fn everything_else_is_http1_and_loses_nothing() {
    let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 5000], b"\r\n\r\n"].concat();
    for text in
        [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"P", b"PUT / HTTP/1.1\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\n", &long]
    {
        assert_eq!(found(&[text]).await, (false, text.to_vec()));
        assert_eq!(found(&[&text[..1], &text[1..]]).await, (false, text.to_vec()));
    }
    // Differs in the last byte of the preface.
    let nearly = [&PREFACE[..23], b"x"].concat();
    assert_eq!(found(&[&nearly[..20], &nearly[20..]]).await, (false, nearly));
}

#[tokio::test]
async fn who_stops_within_the_preface_is_handed_on_after_the_limit() {
    let (mut client, mut connection) = pair().await;
    let (_keep, mut drain) = watch::channel(false);
    client.write_all(b"PRI * HT").await.unwrap();
    assert!(soon(sniff(&mut connection, Duration::from_millis(30), &mut drain)).await.unwrap());
    assert_eq!(connection.selected_alpn_proto(), None);
    client.shutdown().await.unwrap();
    let mut read = Vec::new();
    connection.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"PRI * HT");
}

#[tokio::test]
async fn who_says_nothing_is_not_handed_on() {
    let (_client, mut connection) = pair().await;
    let (_keep, mut drain) = watch::channel(false);
    assert!(!soon(sniff(&mut connection, Duration::from_millis(30), &mut drain)).await.unwrap());
}

#[tokio::test]
async fn the_end_of_the_listener_leaves_time_for_a_first_request() {
    let (mut client, mut connection) = pair().await;
    let (end, mut drain) = watch::channel(false);
    end.send_replace(true);
    let late = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        client.write_all(PREFACE).await.unwrap();
    };
    let (kept, ()) = tokio::join!(sniff(&mut connection, Duration::from_secs(60), &mut drain), late);
    assert!(kept.unwrap());
    assert_eq!(connection.selected_alpn_proto(), Some(ALPN::H2));

    let (_silent, mut connection) = pair().await;
    tokio::time::pause();
    assert!(!sniff(&mut connection, Duration::from_secs(60), &mut drain).await.unwrap());
}

#[tokio::test]
async fn who_leaves_without_a_word_is_not_handed_on() {
    let (client, mut connection) = pair().await;
    let (_keep, mut drain) = watch::channel(false);
    drop(client);
    assert!(!soon(sniff(&mut connection, Duration::from_secs(60), &mut drain)).await.unwrap());
}

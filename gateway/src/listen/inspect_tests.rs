use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const ALL: Look = Look { http: true, tls: true, patience: Duration::from_millis(50) };

async fn pair() -> (TcpStream, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), Connection::plain(far.unwrap().0))
}

/// What a client speaks that says this and waits; and that all of it can be read again.
async fn speech(said: &[u8], look: Look) -> Speech {
    let (mut client, mut connection) = pair().await;
    client.write_all(said).await.unwrap();
    let speech = inspect(&mut connection, look).await.unwrap();
    let mut again = vec![0; said.len()];
    connection.read_exact(&mut again).await.unwrap();
    assert_eq!(again, said);
    speech
}

#[tokio::test]
async fn http_is_known_by_its_first_line() {
    assert_eq!(speech(b"GET / HTTP/1.1\r\n", ALL).await, Speech::Http1);
    assert_eq!(speech(b"M-SEARCH * HTTP/1.1\r\nHost: x\r\n\r\n", ALL).await, Speech::Http1);
    assert_eq!(speech(PREFACE, ALL).await, Speech::Http2);
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    assert_eq!(speech(long.as_bytes(), ALL).await, Speech::Http1);
    for other in [
        &b"GET / HTTP/1.0\r\n"[..],
        b"PING\r\n",
        b"EHLO there\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b" GET / HTTP/1.1\r\n",
        b"GET /\0 HTTP/1.1\r\n",
        b"AVERYLONGWORDTHATCANNOTBETHENAMEOFAMETHOD",
    ] {
        assert_eq!(speech(other, ALL).await, Speech::Other, "{other:?}");
    }
    let blind = Look { http: false, ..ALL };
    assert_eq!(speech(b"GET / HTTP/1.1\r\n", blind).await, Speech::Other);
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_said() {
    // Half a line, and nothing at all.
    assert_eq!(speech(b"GET /", ALL).await, Speech::Other);
    let (client, mut connection) = pair().await;
    assert_eq!(inspect(&mut connection, ALL).await.unwrap(), Speech::Other);
    drop(client);
    assert_eq!(inspect(&mut connection, ALL).await.unwrap(), Speech::Nothing);
}

#[tokio::test]
async fn a_client_hello_tells_its_name() {
    let config = crate::listen::testing::client(&[], &["h2"]);
    let name = rustls::pki_types::ServerName::try_from("A.example").unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    assert_eq!(speech(&hello, ALL).await, Speech::Tls(Some("a.example".into())));
    assert_eq!(speech(&hello, Look { tls: false, ..ALL }).await, Speech::Other);
    assert_eq!(speech(&hello[..40], ALL).await, Speech::Other, "the rest does not come");
    assert_eq!(speech(b"\x16not TLS at all", ALL).await, Speech::Other);
}

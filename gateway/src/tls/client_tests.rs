use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::testing::{Ca, EDGE, REVIEWS, cell};

/// Each connection gets a byte, and its protocol and name are told.
async fn visit(client: &MeshClient, server: &Arc<rustls::ServerConfig>, inside: Inside) -> (String, String, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (io, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(io).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        let tls = stream.get_ref().1;
        let alpn = String::from_utf8(tls.alpn_protocol().unwrap_or_default().to_vec()).unwrap();
        let resumed = tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        (alpn, tls.server_name().unwrap_or_default().to_owned(), resumed)
    };
    let connect = async {
        let io = TcpStream::connect(address).await.unwrap();
        let (mut stream, peer) = client.connect(io, inside).await.unwrap();
        assert_eq!(peer.uri(), Some(REVIEWS));
        // Tickets come before the first byte.
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    };
    tokio::join!(accept, connect).0
}

#[tokio::test]
async fn names_protocols_and_sessions() {
    let ca = Ca::new("root");
    let (edge, reviews) = (cell(&ca.workload(EDGE), &[&ca]), cell(&ca.workload(REVIEWS), &[&ca]));
    let name = sni(9080, Some("v1"), "reviews.default.svc.cluster.local");
    assert_eq!(name, "outbound_.9080_.v1_.reviews.default.svc.cluster.local");
    let client = MeshClient::new(&edge.load(), &REVIEWS.into(), &name).unwrap();
    let server = reviews.load().server_config().unwrap().clone();
    let first = visit(&client, &server, Inside::Http1).await;
    assert_eq!(first, ("istio-http/1.1".to_owned(), name.clone(), false));
    // The session is resumed whatever is spoken inside, and the identity is still known.
    let second = visit(&client, &server, Inside::Http2).await;
    assert_eq!(second, ("istio-h2".to_owned(), name, true));
    assert_eq!(visit(&client, &server, Inside::Tcp).await.0, "istio-peer-exchange");
    // Who expects somebody else does not resume what was agreed with another expectation.
    let other = MeshClient::new(&edge.load(), &"".into(), "*.example").unwrap();
    assert_eq!(visit(&other, &server, Inside::Http1).await, ("istio-http/1.1".to_owned(), String::new(), false));
}

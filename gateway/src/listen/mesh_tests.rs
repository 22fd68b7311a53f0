use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::tls::client::{Inside, MeshClient};
use crate::tls::testing::{Ca, EDGE, REVIEWS, cell};

const LIMITS: AcceptLimits =
    AcceptLimits { handshake: Duration::from_secs(10), silence: Some(Duration::from_millis(50)) };
const HTTP: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

async fn accept(mode: MtlsMode, io: TcpStream) -> Result<Accepted, Refusal> {
    let ca = Ca::new("root");
    accept_mesh(io, mode, &cell(&ca.workload(REVIEWS), &[&ca]), LIMITS).await
}

async fn all_of(inbound: Result<Accepted, Refusal>, count: usize) -> Vec<u8> {
    let Ok(Accepted::Other(mut connection)) = inbound else { panic!("{inbound:?}") };
    let mut bytes = vec![0; count];
    connection.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn mutual_tls_ends_here_in_both_modes() {
    let ca = Ca::new("root");
    let (edge, reviews) = (cell(&ca.workload(EDGE), &[&ca]), cell(&ca.workload(REVIEWS), &[&ca]));
    for mode in [MtlsMode::Permissive, MtlsMode::Strict] {
        for (inside, alpn) in [(Inside::Http1, "http/1.1"), (Inside::Http2, "h2"), (Inside::Tcp, "istio-peer-exchange")]
        {
            let (client, server) = pair().await;
            let connector = MeshClient::new(&edge.load(), &REVIEWS.into(), "outbound_.80_._.Reviews").unwrap();
            let (connected, accepted) =
                tokio::join!(connector.connect(client, inside), accept_mesh(server, mode, &reviews, LIMITS));
            let (mut stream, _) = connected.unwrap();
            let Ok(Accepted::Mesh(mut connection, info)) = accepted else { panic!("{accepted:?}") };
            assert_eq!(info.peer.unwrap().uri(), Some(EDGE));
            assert_eq!((info.alpn, info.sni.as_deref()), (Some(alpn), Some("outbound_.80_._.reviews")));
            stream.write_all(b"hi").await.unwrap();
            stream.flush().await.unwrap();
            let mut bytes = [0; 2];
            connection.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"hi");
        }
    }
}

#[tokio::test]
async fn clear_text_passes_where_it_may_and_is_refused_where_not() {
    for mode in [MtlsMode::Permissive, MtlsMode::Disable] {
        let (mut client, server) = pair().await;
        client.write_all(HTTP).await.unwrap();
        assert_eq!(all_of(accept(mode, server).await, HTTP.len()).await, HTTP);
    }
    let (mut client, server) = pair().await;
    client.write_all(HTTP).await.unwrap();
    assert_eq!(accept(MtlsMode::Strict, server).await.unwrap_err(), Refusal::NotTls);
    let (client, server) = pair().await;
    drop(client);
    assert_eq!(accept(MtlsMode::Strict, server).await.unwrap_err(), Refusal::Left);
}

#[tokio::test]
async fn who_waits_for_the_server_is_not_waited_for() {
    let (_client, server) = pair().await;
    assert!(matches!(accept(MtlsMode::Permissive, server).await, Ok(Accepted::Other(_))));
}

/// A ClientHello of somebody who has nothing to do with the mesh, byte by byte.
#[tokio::test]
async fn tls_of_the_application_is_passed_on_whole() {
    let roots = rustls::RootCertStore::empty();
    let mut config = rustls::ClientConfig::builder_with_provider(crate::tls::provider::provider().clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut hello = Vec::new();
    let name = rustls::pki_types::ServerName::try_from("app.example").unwrap();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();

    let (mut client, server) = pair().await;
    let sent = hello.clone();
    let slowly = async move {
        for piece in sent.chunks(100) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client
    };
    let (accepted, _client) = tokio::join!(accept(MtlsMode::Permissive, server), slowly);
    assert_eq!(all_of(accepted, hello.len()).await, hello);
    // A strict port takes it for a client of the mesh, which has no certificate.
    let (mut client, server) = pair().await;
    client.write_all(&hello).await.unwrap();
    let (accepted, ()) = tokio::join!(accept(MtlsMode::Strict, server), async move {
        let mut answer = Vec::new();
        let _ = client.read_buf(&mut answer).await;
    });
    assert_eq!(accepted.unwrap_err(), Refusal::Failed);
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in() {
    let ca = Ca::new("root");
    let (edge, nobody) = (cell(&ca.workload(EDGE), &[&ca]), WorkloadCell::awaited());
    let (client, server) = pair().await;
    let connector = MeshClient::new(&edge.load(), &"".into(), "a").unwrap();
    let (connected, accepted) = tokio::join!(
        connector.connect(client, Inside::Http1),
        accept_mesh(server, MtlsMode::Permissive, &nobody, LIMITS)
    );
    assert_eq!(accepted.unwrap_err(), Refusal::NoCertificate);
    assert!(connected.is_err());
}

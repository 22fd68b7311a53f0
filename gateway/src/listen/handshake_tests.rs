use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::{TlsServer, TlsVersion};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::ListenOptions;
use super::super::testing::*;

async fn gate(servers: Vec<TlsServer>, secrets: &[(&str, &Issued)]) -> (Gate, SocketAddr) {
    Gate::tls(ListenOptions::default(), servers, secrets).await
}

fn shown(stream: &ClientTls) -> &[u8] {
    stream.get_ref().1.peer_certificates().unwrap()[0].as_ref()
}

/// The alert that ended the handshake.
async fn alert(address: SocketAddr, config: &Arc<rustls::ClientConfig>, name: &str) -> AlertDescription {
    let error = connect_tls(address, config, name).await.unwrap_err();
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert but {error:?}"),
    }
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let (a, b) = (issue("a.example"), issue("*.b.example"));
    let servers = vec![server(&["a.example"], &["a"]), server(&["*.b.example"], &["b"])];
    let (_gate, address) = gate(servers, &[("a", &a), ("b", &b)]).await;
    let client = Arc::new(client(&[&a, &b], &["h2", "http/1.1"]));
    for (name, issued, sni) in [("a.example", &a, "a.example"), ("x.b.example", &b, "x.b.example")] {
        let mut stream = connect_tls(address, &client, name).await.unwrap();
        assert_eq!(shown(&stream), issued.der.as_ref());
        let words = words(&read_word(&mut stream).await);
        assert_eq!((&*words["sni"], &*words["alpn"], &*words["protocol"]), (sni, "h2", "h2"));
        assert_eq!(words["version"], "TLSv1.3");
        assert_eq!(say(&mut stream, "echo").await, "echo");
        stream.shutdown().await.unwrap();
        assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap(), 0, "close_notify is answered with close_notify");
    }
    let mut stream = connect_tls(address, &client, "A.Example").await.unwrap();
    assert_eq!(words(&read_word(&mut stream).await)["sni"], "a.example");
}

#[tokio::test]
async fn an_unknown_name_or_none_gets_the_alert_of_that_name() {
    let a = issue("a.example");
    let (gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let mut config = client(&[&a], &["h2"]);
    let known = Arc::new(config.clone());
    assert_eq!(alert(address, &known, "other.example").await, AlertDescription::UnrecognisedName);
    config.enable_sni = false;
    assert_eq!(alert(address, &Arc::new(config), "a.example").await, AlertDescription::UnrecognisedName);
    until(|| gate.counts("tls").unknown_names == 2).await;
    connect_tls(address, &known, "a.example").await.unwrap();
}

#[tokio::test]
async fn without_a_name_the_server_for_all_names_answers() {
    let (a, any) = (issue("a.example"), issue("any.example"));
    let servers = vec![server(&["a.example"], &["a"]), server(&["*"], &["any"])];
    let (_gate, address) = gate(servers, &[("a", &a), ("any", &any)]).await;
    let mut config = client(&[&any], &["http/1.1"]);
    config.enable_sni = false;
    let mut stream = connect_tls(address, &Arc::new(config), "any.example").await.unwrap();
    let words = words(&read_word(&mut stream).await);
    assert_eq!((&*words["sni"], &*words["alpn"], &*words["protocol"]), ("-", "http/1.1", "h1"));
}

#[tokio::test]
async fn a_new_certificate_is_shown_at_once_and_to_resumed_sessions_too() {
    let (old, new) = (issue("a.example"), issue("a.example"));
    let (mut gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &old)]).await;
    let client = Arc::new(client(&[&old, &new], &["h2"]));
    let mut before = connect_tls(address, &client, "a.example").await.unwrap();
    assert_eq!(shown(&before), old.der.as_ref());
    read_word(&mut before).await;

    gate.secret("a", &new);
    gate.certificates().await;
    // The ticket was made under the old certificate, and by another configuration.
    let mut resumed = connect_tls(address, &client, "a.example").await.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    read_word(&mut resumed).await;
    gate.apply().await;
    let resumed = connect_tls(address, &client, "a.example").await.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed), "also after a new snapshot");

    let fresh = Arc::new(super::super::testing::client(&[&new], &["h2"]));
    let after = connect_tls(address, &fresh, "a.example").await.unwrap();
    assert_eq!(shown(&after), new.der.as_ref());
    assert_eq!(say(&mut before, "still").await, "still");
}

#[tokio::test]
async fn a_server_without_certificate_does_not_touch_the_others() {
    let a = issue("a.example");
    let servers = vec![server(&["a.example"], &["a"]), server(&["b.example"], &["missing"])];
    let (mut gate, address) = gate(servers, &[("a", &a)]).await;
    let client = Arc::new(client(&[&a], &["h2"]));
    assert_eq!(alert(address, &client, "b.example").await, AlertDescription::InternalError);
    until(|| gate.counts("tls").no_certificate == 1).await;
    connect_tls(address, &client, "a.example").await.unwrap();

    let b = issue("b.example");
    gate.secret("missing", &b);
    gate.certificates().await;
    let trusting = Arc::new(super::super::testing::client(&[&b], &["h2"]));
    connect_tls(address, &trusting, "b.example").await.unwrap();
}

#[tokio::test]
async fn the_client_decides_between_ecdsa_and_rsa() {
    let (rsa, ecdsa) = (issue_with("a.example", &rcgen::PKCS_RSA_SHA256), issue("a.example"));
    let (_gate, address) =
        gate(vec![server(&["a.example"], &["rsa", "ecdsa"])], &[("rsa", &rsa), ("ecdsa", &ecdsa)]).await;
    let trusted = [&rsa, &ecdsa];
    for versions in [[&TLS13].as_slice(), &[&TLS12]] {
        let both = Arc::new(client_of(&trusted, &["h2"], versions));
        let stream = connect_tls(address, &both, "a.example").await.unwrap();
        assert_eq!(shown(&stream), ecdsa.der.as_ref(), "ECDSA is cheaper");
    }
    // A client of TLS 1.2 whose suites need an RSA certificate, though it could verify ECDSA.
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rsa.der.clone()).unwrap();
    let old = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = connect_tls(address, &Arc::new(old), "a.example").await.unwrap();
    assert_eq!(shown(&stream), rsa.der.as_ref());
}

#[tokio::test]
async fn versions_are_those_of_the_server() {
    let a = issue("a.example");
    let mut only12 = server(&["a.example"], &["a"]);
    only12.tls.max_version = TlsVersion::V1_2;
    let mut only13 = server(&["b.example"], &["a"]);
    only13.tls.min_version = TlsVersion::V1_3;
    let (gate, address) = gate(vec![only12, only13], &[("a", &a)]).await;
    let any = Arc::new(client(&[&a], &["h2"]));
    let mut stream = connect_tls(address, &any, "a.example").await.unwrap();
    assert_eq!(words(&read_word(&mut stream).await)["version"], "TLSv1.2");
    let old = Arc::new(client_of(&[&a], &["h2"], &[&TLS12]));
    assert_eq!(alert(address, &old, "b.example").await, AlertDescription::ProtocolVersion);
    until(|| gate.counts("tls").handshake_failures == 1).await;
}

#[tokio::test]
async fn the_post_quantum_hybrid_is_preferred() {
    let a = issue("a.example");
    let (_gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let stream = connect_tls(address, &Arc::new(client(&[&a], &["h2"])), "a.example").await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn aes_128_is_taken_unless_the_client_has_no_aes() {
    use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider};
    let a = issue("a.example");
    let (_gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let (aes, aes256, chacha) =
        (suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256);
    for (order, expected) in [([aes256, aes, chacha], aes), ([chacha, aes256, aes], chacha)] {
        let provider = rustls::crypto::CryptoProvider { cipher_suites: order.to_vec(), ..default_provider() };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(a.der.clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = connect_tls(address, &Arc::new(config), "a.example").await.unwrap();
        assert_eq!(stream.get_ref().1.negotiated_cipher_suite(), Some(expected));
    }
}

#[tokio::test]
async fn a_client_that_is_too_old_is_told_so() {
    let a = issue("a.example");
    let (gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let mut io = TcpStream::connect(address).await.unwrap();
    // TLS 1.1
    io.write_all(&[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2]).await.unwrap();
    let mut read = Vec::new();
    soon(io.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, [21, 3, 3, 0, 2, 2, 70]);
    drop(io);
    until(|| gate.counts("tls").handshake_failures == 1).await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let a = issue("a.example");
    let (_gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let stream = connect_tls(address, &Arc::new(client(&[&a], &["h2"])), "a.example").await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    read_word(&mut read).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut received = vec![0; sent.len()];
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.flush().await.unwrap();
    };
    soon(async { tokio::join!(send, read.read_exact(&mut received)).1.unwrap() }).await;
    assert!(received == sent);
}

#[tokio::test]
async fn protocols_that_we_do_not_know_are_no_reason_to_refuse() {
    let a = issue("a.example");
    let (_gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    for offered in [[].as_slice(), &["foo", "http/1.0"]] {
        let config = Arc::new(client(&[&a], offered));
        let mut stream = connect_tls(address, &config, "a.example").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), None);
        let words = words(&say(&mut stream, "GET").await);
        assert_eq!((&*words["alpn"], &*words["protocol"]), ("-", "h1"));
        assert_eq!(read_word(&mut stream).await, "GET");

        let mut stream = connect_tls(address, &config, "a.example").await.unwrap();
        let words = super::super::testing::words(&say(&mut stream, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await);
        assert_eq!((&*words["alpn"], &*words["protocol"]), ("-", "h2"));
        assert_eq!(read_word(&mut stream).await, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    }
    // The order is ours.
    let config = Arc::new(client(&[&a], &["http/1.1", "foo", "h2"]));
    let stream = connect_tls(address, &config, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
}

#[tokio::test]
async fn a_client_may_close_without_close_notify() {
    let a = issue("a.example");
    let (gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let config = Arc::new(client(&[&a], &["h2"]));
    let mut stream = connect_tls(address, &config, "a.example").await.unwrap();
    read_word(&mut stream).await;
    assert_eq!(say(&mut stream, "x").await, "x");
    let (io, _) = stream.get_mut();
    io.shutdown().await.unwrap();
    // Seen as a close, not as an error: the handler says good-bye in order.
    let mut record = [0; 64];
    assert_ne!(soon(io.read(&mut record)).await.unwrap(), 0, "close_notify");
    assert_eq!(record[..3], [23, 3, 3]);
    soon(gate.manager.idle()).await;
}

#[tokio::test]
async fn clear_text_on_a_tls_port_is_closed_and_counted() {
    let a = issue("a.example");
    let (gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let mut io = TcpStream::connect(address).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    soon(io.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"", "an alert would be garbage to it");
    until(|| gate.counts("tls").not_tls == 1).await;
    soon(gate.manager.idle()).await;
}

#[tokio::test]
async fn a_handshake_has_a_time_limit() {
    let a = issue("a.example");
    let options = ListenOptions { handshake_timeout: Duration::from_millis(50), ..ListenOptions::default() };
    let (gate, address) = Gate::tls(options, vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    // Nothing at all; the beginning of a ClientHello; bytes after it that never come.
    for start in [b"".as_slice(), &[22], &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]] {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(start).await.unwrap();
        let closed = soon(io.read(&mut [0; 64])).await;
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    until(|| gate.counts("tls").handshake_timeouts == 3).await;
    soon(gate.manager.idle()).await;
}

#[tokio::test]
async fn what_is_not_a_client_hello_gets_an_alert() {
    let a = issue("a.example");
    let (gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let mut io = TcpStream::connect(address).await.unwrap();
    // A handshake record that holds a ServerHello.
    io.write_all(&[22, 3, 1, 0, 5, 2, 0, 0, 1, 0]).await.unwrap();
    let mut read = Vec::new();
    soon(io.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read[..5], [21, 3, 3, 0, 2]);
    drop(io);
    until(|| gate.counts("tls").handshake_failures == 1).await;
}

#[tokio::test]
async fn a_listener_that_closes_still_knows_its_servers() {
    let a = issue("a.example");
    let (mut gate, address) = gate(vec![server(&["a.example"], &["a"])], &[("a", &a)]).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    until(|| gate.counts("tls").accepted == 1).await;
    gate.set.listeners.clear();
    gate.apply().await;
    // Its handshake began before, and ends after, the listener was removed.
    let config = Arc::new(client(&[&a], &["http/1.1"]));
    let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
    let stream = soon(tokio_rustls::TlsConnector::from(config).connect(name, &mut slow)).await;
    assert_eq!(words(&read_word(&mut stream.unwrap()).await)["sni"], "a.example");
}

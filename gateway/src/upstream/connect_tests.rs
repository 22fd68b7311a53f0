use tokio::net::TcpListener;

use super::*;

fn tunnel() -> Tunnel {
    Tunnel { method: TunnelMethod::Connect, host: "x.example".into(), port: 443 }
}

/// What comes of a proxy that says these pieces one after the other, and what it was asked.
async fn with_proxy(pieces: &'static [&'static [u8]]) -> (Result<Stream, ConnectError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(END) {
            asked.push(stream.read_u8().await.unwrap());
        }
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        String::from_utf8(asked).unwrap()
    });
    let stream = Stream::Plain(TcpStream::connect(address).await.unwrap());
    let come_of = through(stream, &tunnel()).await;
    (come_of, proxy.await.unwrap())
}

#[tokio::test]
async fn behind_the_consent_are_the_targets_bytes() {
    for pieces in [
        &[b"HTTP/1.1 200 OK\r\n\r\nhello" as &[u8]] as &[&[u8]],
        &[b"HTTP/1.0 200\r\nx: y\r\n\r", b"\nhel", b"lo"],
        &[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\ncontent-length: 7\r\n\r\nhello"],
    ] {
        let (stream, asked) = with_proxy(pieces).await;
        assert_eq!(asked, "CONNECT x.example:443 HTTP/1.1\r\nhost: x.example:443\r\n\r\n");
        let mut said = String::new();
        stream.ok().unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello", "{pieces:?}");
    }
}

#[tokio::test]
async fn whatever_else_it_says_is_no_way() {
    for (pieces, wanted) in [
        (&[b"HTTP/1.1 403 Forbidden\r\n\r\n" as &[u8]] as &[&[u8]], "answered CONNECT x.example:443 with 403"),
        (&[b"HTTP/1.1 101 Switching\r\n\r\n"], "with 101"),
        (&[b"SSH-2.0-OpenSSH\r\n\r\n"], "is not HTTP/1.1"),
        (&[b"HTTP/1.1 2000 OK\r\n\r\n"], "is not HTTP/1.1"),
        (&[b"HTTP/1.1 200 OK\r\n"], "closed the connection before"),
        (&[], "closed the connection before"),
        (&[&[b'x'; 20_000]], "too long"),
    ] {
        let (stream, _) = with_proxy(pieces).await;
        let error = stream.err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_target_is_written_as_an_authority() {
    assert_eq!(tunnel().to_string(), "x.example:443");
    let tunnel = Tunnel { method: TunnelMethod::Connect, host: "2001:db8::1".into(), port: 1 };
    assert_eq!(tunnel.to_string(), "[2001:db8::1]:1");
}

#[tokio::test]
async fn by_post_bytes_are_bodies() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(END) {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n").await.unwrap();
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"2\r\nlo\r\n0\r\n\r\n").await.unwrap();
        (String::from_utf8(asked).unwrap(), String::from_utf8(body).unwrap())
    });
    let stream = Stream::Plain(TcpStream::connect(address).await.unwrap());
    let posted = Tunnel { method: TunnelMethod::Post, ..tunnel() };
    let mut stream = through(stream, &posted).await.ok().unwrap();
    stream.write_all(b"what").await.unwrap();
    stream.flush().await.unwrap();
    let mut three = [0; 3];
    stream.read_exact(&mut three).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!((&three, rest.as_str()), (b"hel", "lo"));
    let (asked, body) = proxy.await.unwrap();
    assert!(asked.starts_with("POST / HTTP/1.1\r\n") && asked.contains("host: x.example:443\r\n"), "{asked}");
    assert_eq!(body, "4\r\nwhat\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_proxy_may_refuse_a_post() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream
    });
    let stream = Stream::Plain(TcpStream::connect(address).await.unwrap());
    let posted = Tunnel { method: TunnelMethod::Post, ..tunnel() };
    let error = through(stream, &posted).await.err().unwrap().to_string();
    assert!(error.contains("answered POST x.example:443 with 405"), "{error}");
    drop(proxy.await.unwrap());
}

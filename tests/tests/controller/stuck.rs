//! A proxy whose process is stopped: what it does not read costs nobody anything for long.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::{BufMut as _, Bytes, BytesMut};
use controller::push::{Ending, ProxyStatus};
use e2e::client::{self, TlsOptions};
use mesh_core::wire::METHOD;
use mesh_core::wire::proto::DeltaDiscoveryRequest;
use prost::Message as _;
use tokio::net::TcpSocket;

use super::*;

/// Connections to this port that stand, by the kernel's list: the server's side of them.
fn standing(port: u16) -> usize {
    let list = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let fields = list.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // 01: established.
    fields.filter(|fields| fields[1].ends_with(&local) && fields[3] == "01").count()
}

/// Asks for everything, and takes any amount of it.
fn subscription() -> Bytes {
    let request = DeltaDiscoveryRequest { type_url: Kind::Config.type_url().to_owned(), ..Default::default() };
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(request.encoded_len()).unwrap());
    frame.put_slice(&request.encode_to_vec());
    frame.freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_reads_ends() {
    let mut control = Control::start().await.unwrap();
    control.keep_alive = Duration::from_secs(2);
    let edge = edge();
    control.apply(&super::gateway(edge.port())).await.unwrap();
    // More than the buffers of a connection hold.
    for number in 0..12 {
        let name = format!("- name: {}\n    directResponse", "x".repeat(512 * 1024));
        let rule = route(&format!("h{number}.example"), "x").replace("- directResponse", &name);
        control.apply(&rule).await.unwrap();
    }
    control.apply(&route("last.example", "last")).await.unwrap();
    let serving = control.serve(None).await.unwrap();
    // One that reads: now all is translated and encoded.
    let mut gateway = control.gateway(serving.address).unwrap();
    gateway.ready().unwrap();
    until_answer(edge, "last.example", "last").await.unwrap();

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let tcp = socket.connect(serving.address).await.unwrap();
    let tls =
        TlsOptions { sni: Some("controller.test".to_owned()), alpn: vec!["h2".to_owned()], ..TlsOptions::default() };
    let (io, _) = client::handshake(tcp, &tls).await.unwrap();
    let window = (1 << 31) - 1;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(window);
    let (mut sender, connection) = builder.handshake::<_, Bytes>(io).await.unwrap();
    let head = http::Request::post(format!("https://controller.test{METHOD}"))
        .header("content-type", "application/grpc")
        .header("authorization", "Bearer pod-gw")
        .body(())
        .unwrap();
    let (_response, mut requests) = sender.send_request(head, false).unwrap();
    requests.send_data(subscription(), false).unwrap();
    // What it has to say is said; then it does nothing any more.
    let mut connection = pin!(connection);
    poll_fn(|context| {
        let _ = connection.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;

    let answered = |proxy: &ProxyStatus| proxy.kinds.get(&Kind::Config).is_some_and(|status| status.responses == 1);
    let streams = || control.proxies.all().iter().filter(|proxy| answered(proxy)).count();
    eventually("a response to each", || streams() == 2).await.unwrap();
    assert_eq!(standing(serving.address.port()), 2);
    eventually("the end of its stream", || control.proxies.all().len() == 1).await.unwrap();
    let silent = control.proxies.endings().all().find(|(ending, _)| *ending == Ending::Silent).unwrap().1;
    assert_eq!(silent, 1);
    eventually("the end of its connection", || standing(serving.address.port()) == 1).await.unwrap();
    // Nobody else noticed.
    control.apply(&route("last.example", "still")).await.unwrap();
    until_answer(edge, "last.example", "still").await.unwrap();
    assert_eq!(state(&gateway).await["streams"], 1);
}

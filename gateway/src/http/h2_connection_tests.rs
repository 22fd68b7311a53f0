use std::net::SocketAddr;

use bytes::Bytes;
use mesh_core::model::UpstreamProtocol;
use tokio::net::TcpListener;

use super::*;
use crate::http::testing::*;

#[tokio::test]
async fn http2_streams_and_trailers_pass() {
    let rig = Rig::new(&[echo_backend().await], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::post("http://x.example/grpc").header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(&[0, 0, 0, 0, 1, 9]), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    body.send_trailers(trailers).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), Bytes::from_static(&[0, 0, 0, 0, 1, 9]));
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
}

/// Answers one HTTP/2 stream with 200 and these headers, and leaves the rest to the test.
async fn one_stream(headers: &'static [(&'static str, &'static str)]) -> (SocketAddr, Streams) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (give, streams) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut response = http::Response::builder();
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            let _ = give.send(respond.send_response(response.body(()).unwrap(), false).unwrap());
        }
    });
    (address, streams)
}

type Streams = tokio::sync::mpsc::UnboundedReceiver<h2::SendStream<Bytes>>;

#[tokio::test]
async fn a_cancelled_stream_is_cancelled_upstream_although_the_answer_is_quiet() {
    let (address, mut streams) = one_stream(&[]).await;
    let rig = Rig::new(&[address], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::get("http://x.example/watch").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    let mut upstream = streams.recv().await.unwrap();
    drop(response);
    let reset = tokio::time::timeout(PATIENCE, std::future::poll_fn(|cx| upstream.poll_reset(cx))).await;
    assert_eq!(reset.unwrap().unwrap(), h2::Reason::CANCEL);
}

#[tokio::test]
async fn an_answer_of_length_zero_may_end_after_its_head() {
    let (address, mut streams) = one_stream(&[("content-length", "0")]).await;
    let rig = Rig::new(&[address], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::get("http://x.example/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.headers()["content-length"], "0");
    streams.recv().await.unwrap().send_data(Bytes::new(), true).unwrap();
    let mut body = response.into_body();
    while let Some(data) = tokio::time::timeout(PATIENCE, body.data()).await.unwrap() {
        assert!(data.unwrap().is_empty());
    }
    assert!(body.trailers().await.unwrap().is_none());
}

#[tokio::test]
async fn an_http2_client_gets_what_came_before_the_cut() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    let rig = Rig::new(&[raw_backend(answer).await], UpstreamProtocol::Http1);
    let mut client = h2_client(&rig).await;
    let (response, _) = client.send_request(Request::get("http://x.example/").body(()).unwrap(), true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), Bytes::from_static(b"ok"));
    assert!(body.data().await.unwrap().unwrap_err().is_reset());
}

#[tokio::test]
async fn grpc_clients_get_grpc_statuses() {
    let rig = Rig::new(&[], UpstreamProtocol::Http2);
    let mut client = h2_client(&rig).await;
    let request = Request::post("http://x.example/uh").header("content-type", "application/grpc").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("grpc-status").unwrap(), "14");
    assert_eq!(response.headers().get("grpc-message").unwrap(), "no healthy upstream");
}

#[test]
fn values_with_outer_blanks_are_malformed() {
    for (value, good) in [("a b", true), ("", true), (" a", false), ("a ", false), ("\ta", false), (" ", false)] {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(value).unwrap())]);
        assert_eq!(no_outer_blanks(&headers).is_ok(), good, "{value:?}");
    }
}

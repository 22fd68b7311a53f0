use std::future::poll_fn;

use bytes::Bytes;
use mesh_core::model::UpstreamProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::testing::{PATIENCE, Rig, echo_backend, get, read_head};
use super::*;

fn pair() -> (Tap, Shadow) {
    let (sender, pieces) = mpsc::unbounded_channel();
    let state = Arc::new(State {
        waiting: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        all: Arc::new(Copies::default()),
    });
    (Tap { pieces: sender, state: Arc::clone(&state) }, Shadow { pieces, state, ended: false })
}

async fn next(shadow: &mut Shadow) -> Option<Result<Frame, DownstreamError>> {
    poll_fn(|cx| shadow.poll_frame(cx)).await
}

fn data(size: usize) -> Frame {
    Frame::Data(Bytes::from(vec![7; size]))
}

#[tokio::test]
async fn a_body_comes_piece_by_piece_and_ends() {
    let (tap, mut shadow) = pair();
    tap.pass(Some(&data(3)), false);
    tap.pass(Some(&data(5)), true);
    assert!(matches!(next(&mut shadow).await, Some(Ok(Frame::Data(data))) if data.len() == 3));
    assert!(!shadow.is_done());
    assert!(matches!(next(&mut shadow).await, Some(Ok(Frame::Data(data))) if data.len() == 5));
    assert!(shadow.is_done() && next(&mut shadow).await.is_none());
    // The end may come without a piece of its own.
    let (tap, mut shadow) = pair();
    tap.pass(None, true);
    assert!(next(&mut shadow).await.is_none() && shadow.is_done());
}

#[tokio::test]
async fn a_cut_request_cuts_its_copy() {
    let (tap, mut shadow) = pair();
    tap.pass(Some(&data(3)), false);
    drop(tap);
    assert!(matches!(next(&mut shadow).await, Some(Ok(_))));
    assert!(matches!(next(&mut shadow).await, Some(Err(DownstreamError::Gone))));
}

#[tokio::test]
async fn a_copy_that_does_not_keep_up_is_given_up() {
    let (tap, mut shadow) = pair();
    for _ in 0..15 {
        tap.pass(Some(&data(MOST_WAITING / 16)), false);
    }
    // Nearly full, and read in time.
    assert!(matches!(next(&mut shadow).await, Some(Ok(_))));
    tap.pass(Some(&data(MOST_WAITING / 16)), false);
    assert!(matches!(next(&mut shadow).await, Some(Ok(_))));
    // One too many at once.
    tap.pass(Some(&data(MOST_WAITING / 8)), false);
    tap.pass(Some(&data(1)), true);
    assert!(matches!(next(&mut shadow).await, Some(Err(DownstreamError::Gone))));
}

#[test]
fn only_so_many_copies_are_in_flight() {
    let count = Arc::<Copies>::default();
    let entered: Vec<InFlight> = (0..MOST_COPIES).map_while(|_| InFlight::enter(&count)).collect();
    assert_eq!(entered.len(), MOST_COPIES);
    assert!(InFlight::enter(&count).is_none());
    drop(entered);
    assert!(InFlight::enter(&count).is_some());
    assert_eq!(count.in_flight.load(Ordering::Relaxed), 0);
}

/// The mirror takes the connection and reads nothing.
#[tokio::test]
async fn a_stuck_mirror_holds_up_nobody() {
    let stuck = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::with_mirror(&[echo_backend().await], UpstreamProtocol::Http1, &[stuck.local_addr().unwrap()]);
    let mut client = rig.connect(false).await;
    const SIZE: usize = 8 << 20;
    let (mut reader, mut writer) = client.split();
    let send = async {
        let head = format!("POST /copied HTTP/1.1\r\nHost: x.example\r\nContent-Length: {SIZE}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..SIZE / 65536 {
            writer.write_all(&[7; 65536]).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let receive = reader.read_to_end(&mut answer);
    let ((), read) = timeout(PATIENCE, async { tokio::join!(send, receive) }).await.unwrap();
    read.unwrap();
    assert_eq!(answer.iter().filter(|byte| **byte == 7).count(), SIZE);
}

#[tokio::test]
async fn a_copy_is_the_request_with_one_proxy_more() {
    let mirror = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::with_mirror(&[echo_backend().await], UpstreamProtocol::Http1, &[mirror.local_addr().unwrap()]);
    assert!(rig.ask(&get("/copied?q")).await.starts_with("HTTP/1.1 200 "));
    let (mut io, _) = timeout(PATIENCE, mirror.accept()).await.unwrap().unwrap();
    let head = timeout(PATIENCE, read_head(&mut io)).await.unwrap().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /copied?q http/1.1\r\n"), "{head}");
    for line in ["host: x.example", "x-envoy-internal: true", "x-forwarded-for: 127.0.0.1,127.0.0.1"] {
        assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
    }
}

#[tokio::test]
async fn pieces_of_one_byte_are_counted_for_what_they_take() {
    let (tap, mut shadow) = pair();
    let all = Arc::clone(&tap.state.all);
    for _ in 0..MOST_WAITING / 32 {
        tap.pass(Some(&data(1)), false);
    }
    assert!(matches!(next(&mut shadow).await, Some(Err(DownstreamError::Gone))));
    drop((tap, shadow));
    assert_eq!(all.waiting.load(Ordering::Relaxed), 0);
}

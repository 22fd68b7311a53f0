use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::testing::soon;
use super::*;

async fn pair() -> (TcpStream, BufferedTcp) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (io, _) = listener.accept().await.unwrap();
    (other, BufferedTcp::new(io))
}

fn nothing_came(other: &TcpStream) -> bool {
    matches!(other.try_read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn small_writes_wait_for_the_flush() {
    let (mut other, mut io) = pair().await;
    io.write_all(b"head ").await.unwrap();
    io.write_all(b"body").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(nothing_came(&other));
    io.flush().await.unwrap();
    let mut read = [0; 9];
    soon(other.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"head body");
}

#[tokio::test]
async fn a_flush_that_is_put_off_is_owed_and_sends_nothing() {
    let (mut other, mut io) = pair().await;
    let flush = |io: &mut BufferedTcp| {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        put_off_flushes(|| Pin::new(io).poll_flush(&mut cx).is_ready())
    };
    assert_eq!(flush(&mut io), (true, false), "nothing waits");
    io.write_all(b"first ").await.unwrap();
    assert_eq!(flush(&mut io), (true, true));
    io.write_all(b"second").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(nothing_came(&other));
    io.flush().await.unwrap();
    let mut read = [0; 12];
    soon(other.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"first second");
}

#[tokio::test]
async fn nothing_is_held_while_nothing_waits() {
    let (_other, mut io) = pair().await;
    assert_eq!(io.gathered.capacity(), 0);
    io.write_all(b"x").await.unwrap();
    assert_eq!(io.gathered.capacity(), CAPACITY);
    io.flush().await.unwrap();
    assert_eq!(io.gathered.capacity(), 0);
    assert!(SPARE.with(|spare| !spare.borrow().is_empty()), "kept for the next connection");
}

#[tokio::test]
async fn a_large_write_leaves_with_what_waited_before_it() {
    let (mut other, mut io) = pair().await;
    io.write_all(b"head").await.unwrap();
    let taken = io.write(&[b'b'; CAPACITY]).await.unwrap();
    assert_eq!(taken, CAPACITY, "the kernel took all at once");
    assert_eq!(io.gathered.capacity(), 0);
    let mut read = vec![0; 4 + CAPACITY];
    soon(other.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read[..5], b"headb");
}

#[tokio::test]
async fn order_is_kept_against_a_slow_reader() {
    let (mut other, mut io) = pair().await;
    let expected: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = expected.clone();
    let send = async {
        let mut rest = sent.as_slice();
        for turn in 0_usize.. {
            if rest.is_empty() {
                break;
            }
            // Small, just fitting and large pieces, now and then in two slices, now and then flushed.
            let size = [1, 300, 5000, CAPACITY - 1, CAPACITY, 3 * CAPACITY, 100_000][turn % 7].min(rest.len());
            let (one, two) = rest[..size].split_at(size / 3);
            let taken = io.write_vectored(&[IoSlice::new(one), IoSlice::new(two)]).await.unwrap();
            rest = &rest[taken..];
            if turn % 5 == 0 {
                io.flush().await.unwrap();
            }
        }
        io.shutdown().await.unwrap();
    };
    let receive = async {
        let mut read = Vec::new();
        let mut buffer = vec![0; 30_000];
        loop {
            tokio::task::yield_now().await;
            match other.read(&mut buffer).await.unwrap() {
                0 => break read,
                count => read.extend_from_slice(&buffer[..count]),
            }
        }
    };
    let ((), read) = soon(async { tokio::join!(send, receive) }).await;
    assert!(read == expected);
}

#[tokio::test]
async fn unread_bytes_come_first() {
    let (mut other, mut io) = pair().await;
    other.write_all(b"later").await.unwrap();
    io.unread(b"second ");
    io.unread(b"first ");
    let mut read = Vec::new();
    while read.len() < 18 {
        let mut piece = [0; 3];
        let count = soon(io.read(&mut piece)).await.unwrap();
        read.extend_from_slice(&piece[..count]);
    }
    assert_eq!(read, b"first second later");
}

#[tokio::test]
async fn a_closed_peer_is_an_error_not_a_hang() {
    let (other, mut io) = pair().await;
    drop(other);
    let result = soon(async {
        loop {
            io.write_all(&[0; 8192]).await?;
            io.flush().await?;
        }
    })
    .await;
    let result: io::Result<()> = result;
    assert!(result.is_err());
}

//! Clients that mean harm: floods of frames, answers that nobody takes, bodies that do not come, more connections and requests
//! than there may be. Each is ended or costs nothing that grows, and everybody else is served meanwhile.

use std::time::Duration;

use e2e::backend::{Backend, text};
use e2e::client::frames::{self, CONTINUATION, DATA, END_HEADERS, Frames, GOAWAY, HEADERS, RST_STREAM, frame, request};
use e2e::client::{self, Client, H1, Request};
use e2e::fixture::{Edge, eventually, eventually_async};
use http::Response;

const HOST: &str = "a.example";
/// What a flood may leave behind in memory: windows and queues of one connection, not what was sent.
const ROOM_KIB: u64 = 24 * 1024;

/// Bytes, again and again, on a connection whose SETTINGS are these.
struct Flood {
    name: &'static str,
    settings: Vec<u8>,
    first: Vec<u8>,
    /// The `n`th of them.
    next: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    times: u32,
    /// The connection must have been ended.
    ends: bool,
}

impl Flood {
    fn new(name: &'static str, times: u32, next: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Flood {
        Flood { name, settings: Vec::new(), first: Vec::new(), next: Box::new(next), times, ends: false }
    }

    fn after(mut self, first: Vec<u8>) -> Flood {
        self.first = first;
        self
    }

    fn ends(mut self) -> Flood {
        self.ends = true;
        self
    }
}

/// Streams of clients have odd numbers.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

fn floods() -> Vec<Flood> {
    let get = request("GET", HOST, "/");
    let post = request("POST", HOST, "/");
    let (opened, reset) = (get.clone(), 8_u32.to_be_bytes());
    let open = move |n| frame(HEADERS, END_HEADERS | frames::END_STREAM, stream(n), &opened);
    let unending = open.clone();
    let begun = frame(HEADERS, frames::END_STREAM, 1, &get);
    // An entry of the dynamic table, and then that entry (62, the newest) ten thousand times.
    let mut bomb = request("GET", HOST, "/");
    bomb.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend("y".repeat(4_000).into_bytes());
    bomb.extend(std::iter::repeat_n(0xbe, 10_000));
    vec![
        Flood::new("streams that are opened and reset", 10_000, move |n| {
            [open(n), frame(RST_STREAM, 0, stream(n), &reset)].concat()
        })
        .ends(),
        Flood::new("streams beyond the limit", 5_000, unending),
        Flood::new("a head that does not end", 20_000, |_| {
            frame(CONTINUATION, 0, 1, &frames::field("x", &"y".repeat(100)))
        })
        .after(begun.clone())
        .ends(),
        Flood::new("a head of empty pieces", 100_000, |_| frame(CONTINUATION, 0, 1, &[])).after(begun).ends(),
        Flood::new("a small head that unfolds to 40 MB", 1, move |_| {
            frame(HEADERS, END_HEADERS | frames::END_STREAM, 1, &bomb)
        }),
        Flood::new("pings whose answers nobody reads", 300_000, |n| {
            frame(frames::PING, 0, 0, &u64::from(n).to_be_bytes())
        }),
        Flood::new("settings whose acknowledgements nobody reads", 300_000, |_| frame(frames::SETTINGS, 0, 0, &[])),
        Flood::new("priorities of streams that are not there", 100_000, |n| {
            frame(frames::PRIORITY, 0, stream(n % 1_000_000), &[0, 0, 0, 0, 1])
        }),
        Flood::new("windows that grow by one byte", 100_000, |_| {
            frame(frames::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
        }),
        Flood::new("a body of empty pieces", 100_000, |_| frame(DATA, 0, 1, &[])).after(frame(
            HEADERS,
            END_HEADERS,
            1,
            &post,
        )),
        Flood::new("frames of no known type", 100_000, |_| frame(0xfa, 0, 0, &[0; 16])),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_or_cost_nothing_that_grows() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[(HOST, backend.address, "http")]).await.unwrap();
    assert_eq!(client::get(edge.http, HOST, "/").await.unwrap().status, 200);
    let mut wrong = Vec::new();
    for flood in floods() {
        let before = edge.meshgate.memory_kib("RssAnon").unwrap();
        let (io, _) = client::connect(edge.http, None).await.unwrap();
        let mut flooder = Frames::open(io, &flood.settings).await.unwrap();
        let mut taken = flooder.write(&flood.first).await;
        let mut sent = 0;
        while taken && sent < flood.times {
            let some: Vec<u8> = (sent..flood.times.min(sent + 500)).flat_map(|n| (flood.next)(n)).collect();
            taken = flooder.write(&some).await;
            sent += 500;
        }
        // While it is at its most.
        let served = client::get(edge.http, HOST, "/").await.map(|answer| answer.status);
        let grown = edge.meshgate.memory_kib("RssAnon").unwrap().saturating_sub(before);
        let heard = match flood.ends {
            true => flooder.read_until(|_| false).await,
            false => frames::Heard::default(),
        };
        let end = match (flood.ends && heard.closed, taken) {
            (true, _) => format!("ended (GOAWAY {:?})", heard.goaway()),
            (false, false) => "not read any more".to_owned(),
            (false, true) => "borne".to_owned(),
        };
        e2e::say(&format!("{}: {end}, {grown} KiB", flood.name));
        if !served.as_ref().is_ok_and(|status| *status == 200) {
            wrong.push(format!("{}: others get {served:?}", flood.name));
        }
        if grown > ROOM_KIB {
            wrong.push(format!("{}: {grown} KiB", flood.name));
        }
        if flood.ends && !heard.closed {
            wrong.push(format!("{}: the connection stays, {} frames came", flood.name, heard.frames.len()));
        }
    }
    // Of 10,000 streams that were reset at once hardly any was worth a request.
    assert!(backend.requests() < 2_500, "{} requests", backend.requests());
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), edge.meshgate.log());
}

/// A server of large answers.
async fn large(bytes: usize) -> Backend {
    Backend::start(move |_| async move { Response::new(text(vec![b'x'; bytes], &Default::default())) }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_given_up_and_hold_little() {
    let backend = large(60_000).await;
    let flags = ["--stall-seconds", "3", "--access-log", "text"];
    let edge = Edge::with(&[(HOST, backend.address, "http")], &flags).await.unwrap();
    assert_eq!(client::get(edge.http, HOST, "/").await.unwrap().status, 200);
    let before = edge.meshgate.memory_kib("RssAnon").unwrap();
    let (io, _) = client::connect(edge.http, None).await.unwrap();
    // Each stream has room for one byte.
    let mut idler = Frames::open(io, &frames::setting(frames::INITIAL_WINDOW, 1)).await.unwrap();
    let get = request("GET", HOST, "/");
    for n in 0..500 {
        assert!(idler.write(&frame(HEADERS, END_HEADERS | frames::END_STREAM, stream(n), &get)).await);
    }
    let heard = idler.read_until(|heard| heard.count(RST_STREAM) == 500 || heard.count(GOAWAY) > 0).await;
    assert_eq!(heard.count(RST_STREAM), 500, "{} frames", heard.frames.len());
    let noted = || edge.meshgate.log().matches(" 200 SI stream_idle_timeout ").count() == 500;
    eventually("each has its line in the access log", noted).await.unwrap();
    let grown = edge.meshgate.memory_kib("RssAnon").unwrap().saturating_sub(before);
    e2e::say(&format!("500 answers of 60 KB that nobody takes: {grown} KiB"));
    assert_eq!(client::get(edge.http, HOST, "/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_taker_gets_its_answer_and_one_that_stopped_does_not() {
    let backend = large(32 << 20).await;
    let flags = ["--stall-seconds", "2", "--access-log", "text"];
    let edge = Edge::with(&[(HOST, backend.address, "http")], &flags).await.unwrap();
    let mut stopped = H1::new(client::connect(edge.http, None).await.unwrap().0);
    stopped.write(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let gone = || edge.meshgate.log().contains(" 200 SI stream_idle_timeout ");
    eventually("the answer is given up", gone).await.unwrap();
    // Others are served as fast as they read.
    let mut client = Client::connect(edge.http, None, true).await.unwrap().0;
    let answer = client.send(&Request::get(HOST, "/")).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 32 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_waited_for_a_while() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::with(&[(HOST, backend.address, "http")], &["--stall-seconds", "2"]).await.unwrap();
    let head = |kind: &str| {
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {kind}\r\ncontent-length: 10\r\n\r\n").into_bytes()
    };
    let mut silent = H1::new(client::connect(edge.http, None).await.unwrap().0);
    silent.write(&[head("text/plain"), b"12345".to_vec()].concat()).await.unwrap();
    let mut slow = H1::new(client::connect(edge.http, None).await.unwrap().0);
    slow.write(&head("text/plain")).await.unwrap();
    let mut call = H1::new(client::connect(edge.http, None).await.unwrap().0);
    call.write(&head("application/grpc")).await.unwrap();
    // A byte a second: ten seconds, and never two without one.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow.write(b"x").await.unwrap();
    }
    let answer = tokio::time::timeout(client::DEADLINE, slow.read_response("POST")).await.unwrap().unwrap();
    assert_eq!(answer.status, 200);
    let answer = tokio::time::timeout(client::DEADLINE, silent.read_response("POST")).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (408, "stream timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    // A call of gRPC may be silent.
    call.write(b"0123456789").await.unwrap();
    let answer = tokio::time::timeout(client::DEADLINE, call.read_response("POST")).await.unwrap().unwrap();
    assert_eq!(answer.status, 200);
}

/// Of the metrics on the status port: the value of a line that begins so.
async fn metric(edge: &Edge, line: &str) -> u64 {
    let text = edge.meshgate.admin("/stats/prometheus").await.unwrap();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {line} in\n{text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_no_more_connections_than_it_may() {
    let backend = Backend::echo("a").await.unwrap();
    let flags = ["--max-connections-per-client", "3"];
    let edge = Edge::with(&[(HOST, backend.address, "http")], &flags).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = H1::new(client::connect(edge.http, None).await.unwrap().0);
        let answer = client.send(&Request::get(HOST, "/")).await.unwrap();
        assert_eq!(answer.status, 200);
        open.push(client);
    }
    let mut fourth = H1::new(client::connect(edge.http, None).await.unwrap().0);
    assert!(fourth.send(&Request::get(HOST, "/")).await.is_err());
    // Another client.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.99:0".parse().unwrap()).unwrap();
    let mut other = H1::new(Box::new(socket.connect(edge.http).await.unwrap()));
    assert_eq!(other.send(&Request::get(HOST, "/")).await.unwrap().status, 200);
    let refused = "meshgate_downstream_refused_total{listener=\"0.0.0.0:8080\",reason=\"too_many_of_client\"}";
    let refused = refused.replace("0.0.0.0", &edge.ip().to_string());
    assert_eq!(metric(&edge, &refused).await, 1);
    // Who leaves makes room.
    open.pop();
    eventually_async("there is room again", client::DEADLINE, async || {
        Ok(client::get(edge.http, HOST, "/").await.is_ok_and(|answer| answer.status == 200))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_what_there_is_room_for_are_refused_at_once() {
    let (release, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::start(move |_| {
        let mut wait = wait.clone();
        async move {
            let _ = wait.wait_for(|released| *released).await;
            Response::new(text("late", &Default::default()))
        }
    })
    .await
    .unwrap();
    let edge = Edge::with(&[(HOST, backend.address, "http")], &["--max-requests", "4"]).await.unwrap();
    let address = edge.http;
    let waiting: Vec<_> = (0..4).map(|_| tokio::spawn(client::get(address, HOST, "/"))).collect();
    eventually("four are there", || backend.requests() == 4).await.unwrap();
    for h2 in [false, true] {
        let mut client = Client::connect(edge.http, None, h2).await.unwrap().0;
        let answer = client.send(&Request::get(HOST, "/")).await.unwrap();
        assert_eq!((answer.status, answer.header("x-envoy-overloaded")), (503, Some("true")));
    }
    assert_eq!(metric(&edge, "meshgate_downstream_requests").await, 4);
    assert_eq!(metric(&edge, "meshgate_downstream_requests_shed_total").await, 2);
    release.send_replace(true);
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().text(), "late");
    }
    assert_eq!(client::get(edge.http, HOST, "/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_it_waits_and_serves_again() {
    let backend = Backend::echo("a").await.unwrap();
    let edge = Edge::start(&[(HOST, backend.address, "http")]).await.unwrap();
    assert_eq!(client::get(edge.http, HOST, "/").await.unwrap().status, 200);
    // So many more than it has now.
    let most = edge.meshgate.open_files().unwrap() as u64 + 20;
    let pid = rustix::process::Pid::from_raw(i32::try_from(edge.meshgate.pid()).unwrap());
    let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(client::connect(edge.http, None).await.unwrap().0);
    }
    eventually("it runs out of them", || edge.meshgate.log().contains("accept failed; pausing")).await.unwrap();
    // It does not spin: each pause is longer than the one before, up to a second.
    let before = cpu_ticks(edge.meshgate.pid());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = cpu_ticks(edge.meshgate.pid()) - before;
    assert!(used < 40, "{used} of 200 ticks");
    drop(open);
    eventually_async("it serves again", client::DEADLINE, async || {
        Ok(client::get(edge.http, HOST, "/").await.is_ok_and(|answer| answer.status == 200))
    })
    .await
    .unwrap();
}

/// Processor time so far, in hundredths of a second (proc(5), fields 14 and 15 of `stat`).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use domain::base::iana::Rtype;
use mesh_core::model::{DnsName, ResourceSet};
use mesh_core::object::ObjectRef;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::message::tests::{query, show};
use super::upstream::{read_message, write_message};
use super::*;
use crate::live::Live;

const SEARCH: &str = "default.svc.cluster.local";

/// A resolver: says what it heard, and answers with the bytes that it heard but for the second flags, which are its word.
struct Resolver {
    address: SocketAddr,
    heard: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl Resolver {
    /// `word`: RA and the rcode; none: it is silent.
    async fn start(word: Option<u8>) -> Resolver {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let resolver = Resolver { address: tcp.local_addr().unwrap(), heard: Arc::default() };
        let heard = resolver.heard.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                let query = buffer[..length].to_vec();
                heard.lock().unwrap().push_back(query.clone());
                if let Some(word) = word {
                    udp.send_to(&said(query, word), client).await.unwrap();
                }
            }
        });
        let heard = resolver.heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let query = read_message(&mut stream).await.unwrap();
                heard.lock().unwrap().push_back(query.clone());
                if let Some(word) = word {
                    write_message(&mut stream, &said(query, word)).await.unwrap();
                }
            }
        });
        resolver
    }

    fn heard(&self) -> Option<Vec<u8>> {
        self.heard.lock().unwrap().pop_front()
    }
}

fn said(mut query: Vec<u8>, word: u8) -> Vec<u8> {
    query[2] |= 0x80;
    query[3] = word;
    query
}

/// RA, and no error.
const GOOD: u8 = 0x80;
const NXDOMAIN: u8 = 0x83;
const REFUSED: u8 = 0x85;

fn cells(names: &[(&str, &str)]) -> Arc<Cells> {
    let name = |(name, address): &(&str, &str)| DnsName {
        key: (*name).into(),
        addresses: vec![address.parse().unwrap()],
        origin: ObjectRef::new("ServiceEntry", "default", "a"),
    };
    let dns = names.iter().map(name).map(|name| (name.key.clone(), Arc::new(name))).collect();
    let set = ResourceSet { dns, ..ResourceSet::default() };
    let snapshot = Arc::new(mesh_core::compile::compile(&set, None, 1).snapshot);
    let cells = Cells::default();
    cells.live.store(Arc::new(Live { snapshot, ..Live::default() }));
    Arc::new(cells)
}

fn proxy(upstream: &[&Resolver], cells: Arc<Cells>) -> Arc<DnsProxy> {
    let upstream = upstream.iter().map(|resolver| resolver.address).collect();
    let options = DnsOptions { listen: ([127, 0, 0, 1], 0).into(), upstream };
    let pod = ResolvConf { servers: Vec::new(), search: vec![SEARCH.to_owned(), "svc.cluster.local".to_owned()] };
    DnsProxy::new(&options, pod, cells, DnsMetrics::new().unwrap())
}

/// A proxy that listens, and where.
fn listening(proxy: Arc<DnsProxy>) -> SocketAddr {
    let sockets = loop {
        // Somebody may have just this port of UDP.
        if let Ok(sockets) = Sockets::bind(([127, 0, 0, 1], 0).into()) {
            break sockets;
        }
    };
    let address = sockets.address().unwrap();
    proxy.serve(sockets);
    address
}

async fn by_udp(to: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket.send(query).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await.unwrap().unwrap();
    answer.truncate(length);
    answer
}

#[tokio::test]
async fn known_names_are_answered_and_others_asked_for_as_they_came() {
    let resolver = Resolver::start(Some(NXDOMAIN)).await;
    let proxy = proxy(&[&resolver], cells(&[("db.example", "240.240.0.1"), ("*.wild.example", "10.9.0.1")]));
    let metrics = proxy.metrics.clone();
    let at = listening(proxy);
    let answer = by_udp(at, &query(7, "DB.example", Rtype::A, None)).await;
    assert_eq!(show(&answer), "7 NOERROR qr aa rd ra DB.example/30/240.240.0.1");
    let answer = by_udp(at, &query(8, "x.wild.example", Rtype::A, None)).await;
    assert_eq!(show(&answer), "8 NOERROR qr aa rd ra x.wild.example/30/10.9.0.1");
    let long = format!("db.example.{SEARCH}");
    let answer = by_udp(at, &query(9, &long, Rtype::A, None)).await;
    assert_eq!(show(&answer), format!("9 NOERROR qr aa rd ra {long}/30/db.example. db.example/30/240.240.0.1"));
    assert_eq!(show(&by_udp(at, &query(9, &long, Rtype::AAAA, None)).await), "9 NOERROR qr aa rd ra");
    assert_eq!(resolver.heard(), None);
    let asked = query(10, "kubernetes.default.SVC.cluster.local", Rtype::A, Some(1432));
    let answer = by_udp(at, &asked).await;
    assert_eq!(resolver.heard(), Some(asked.clone()));
    assert_eq!(answer, said(asked, NXDOMAIN));
    // A name that is known has nothing of other types.
    let asked = query(11, "db.example", Rtype::MX, None);
    assert_eq!(by_udp(at, &asked).await, said(asked.clone(), GOOD));
    assert_eq!(resolver.heard(), Some(asked));
    assert_eq!((metrics.requests.get(), metrics.upstream_requests.get(), metrics.upstream_failures.get()), (6, 2, 0));
    assert_eq!(metrics.upstream_seconds.get_sample_count(), 2);
}

#[tokio::test]
async fn a_connection_has_one_query_after_another() {
    let resolver = Resolver::start(Some(GOOD)).await;
    let at = listening(proxy(&[&resolver], cells(&[("db.example", "240.240.0.1")])));
    let mut stream = TcpStream::connect(at).await.unwrap();
    for id in [1, 2] {
        write_message(&mut stream, &query(id, "db.example", Rtype::A, None)).await.unwrap();
        let answer = read_message(&mut stream).await.unwrap();
        assert_eq!(show(&answer), format!("{id} NOERROR qr aa rd ra db.example/30/240.240.0.1"));
        let asked = query(id, "other.example", Rtype::A, None);
        write_message(&mut stream, &asked).await.unwrap();
        assert_eq!(read_message(&mut stream).await.unwrap(), said(asked.clone(), GOOD));
        assert_eq!(resolver.heard(), Some(asked));
    }
    // What is no query ends it.
    write_message(&mut stream, &said(query(3, "db.example", Rtype::A, None), GOOD)).await.unwrap();
    assert!(read_message(&mut stream).await.is_err());
}

#[tokio::test]
async fn resolvers_stand_in_for_each_other() {
    let asked: Arc<[u8]> = query(7, "other.example", Rtype::A, None).into();
    let [silent, bad, good] = [None, Some(REFUSED), Some(GOOD)].map(Resolver::start);
    let (silent, bad, good) = (silent.await, bad.await, good.await);
    let upstream = |of: &[&Resolver]| Upstream {
        resolvers: of.iter().map(|resolver| resolver.address).collect(),
        timeout: Duration::from_secs(60),
    };
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = upstream(&[&bad, &good]).ask(&asked, transport).await.unwrap();
        assert_eq!(answer, said(asked.to_vec(), GOOD), "{transport:?}");
        // Nobody says better.
        let answer = upstream(&[&bad]).ask(&asked, transport).await.unwrap();
        assert_eq!(answer, said(asked.to_vec(), REFUSED), "{transport:?}");
    }
    let answer = upstream(&[&silent, &good]).ask(&asked, Transport::Udp).await.unwrap();
    assert_eq!(answer, said(asked.to_vec(), GOOD));
    assert_eq!((silent.heard(), good.heard().is_some()), (Some(asked.to_vec()), true));
    assert!(matches!(upstream(&[]).ask(&asked, Transport::Udp).await, Err(upstream::Failure::NoResolver)));
}

#[tokio::test]
async fn who_is_never_answered_is_told() {
    let silent = Resolver::start(None).await;
    let mut proxy = proxy(&[&silent], cells(&[]));
    Arc::get_mut(&mut proxy).unwrap().upstream.timeout = Duration::from_millis(50);
    let asked = query(7, "other.example", Rtype::A, None);
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = proxy.respond(&asked, transport).await.unwrap();
        assert_eq!(show(&answer), "7 SERVFAIL qr rd ra", "{transport:?}");
    }
    assert_eq!(proxy.metrics.upstream_failures.get(), 2);
}

#[tokio::test]
async fn too_many_and_too_early_are_told_at_once() {
    let silent = Resolver::start(None).await;
    let proxy = proxy(&[&silent], cells(&[]));
    let asked = query(7, "other.example", Rtype::A, None);
    let waiting: Vec<Verdict> = (0..WAITING).map(|_| proxy.decide(&asked, Transport::Udp)).collect();
    assert!(waiting.iter().all(|verdict| matches!(verdict, Verdict::Forward(_))));
    let Verdict::Answer(answer) = proxy.decide(&asked, Transport::Udp) else { panic!("one too many") };
    assert_eq!(show(&answer), "7 SERVFAIL qr rd ra");
    drop(waiting);
    assert!(matches!(proxy.decide(&asked, Transport::Udp), Verdict::Forward(_)));
    let early = self::proxy(&[&silent], Arc::default());
    let Verdict::Answer(answer) = early.decide(&asked, Transport::Udp) else { panic!("nothing is known yet") };
    assert_eq!(show(&answer), "7 SERVFAIL qr rd ra");
}

#[tokio::test]
async fn strange_messages_are_refused_or_ignored() {
    let proxy = proxy(&[], cells(&[]));
    assert!(proxy.respond(b"too short", Transport::Udp).await.is_none());
    let mut two = query(7, "a.example", Rtype::A, None);
    two[5] = 2;
    assert_eq!(show(&proxy.respond(&two, Transport::Udp).await.unwrap()), "7 FORMERR qr rd ra");
    let nobody = proxy.respond(&query(8, "a.example", Rtype::A, None), Transport::Udp).await.unwrap();
    assert_eq!(show(&nobody), "8 SERVFAIL qr rd ra");
}

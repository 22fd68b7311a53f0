use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::model::Listener;
use tokio::io::AsyncReadExt as _;

use super::super::testing::*;
use super::super::{ListenOptions, ListenerState};
use super::*;

async fn gate(path: &str) -> Gate {
    let mut gate = Gate::new(2, ListenOptions::default());
    gate.listen("web", &format!("unix://{path}"), http());
    assert!(gate.apply().await.is_empty());
    gate
}

async fn hello(path: &str) -> (TcpStream, String) {
    let mut io = as_stream(soon(UnixStream::connect(path)).await.unwrap()).unwrap();
    let first = say(&mut io, "x").await;
    assert_eq!(read_word(&mut io).await, "x");
    (io, words(&first)["listener"].clone())
}

#[tokio::test]
async fn a_socket_comes_and_goes_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let path = path.to_str().unwrap();
    let mut gate = gate(path).await;
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, MODE);
    assert_eq!(gate.manager.status()[0].address.to_string(), format!("unix://{path}"));
    let (mut before, listener) = hello(path).await;
    assert_eq!(listener, "web");
    let listener: Arc<Listener> = gate.set.listeners.remove("web").unwrap();
    gate.apply().await;
    assert!(!fs::exists(path).unwrap());
    assert_eq!(read_word(&mut before).await, "drain");
    assert_eq!(gate.manager.status()[0].state, ListenerState::Draining);
    gate.set.listeners.insert("web".into(), listener);
    assert!(gate.apply().await.is_empty());
    hello(path).await;
    assert_eq!(say(&mut before, "last").await, "last");
    assert_eq!(soon(before.read(&mut [0; 8])).await.unwrap(), 0);
    gate.manager.close();
    assert!(!fs::exists(path).unwrap());
    gate.manager.stop();
}

#[tokio::test]
async fn only_what_nobody_listens_on_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let path = path.to_str().unwrap();
    // Left behind: closed, and not removed.
    drop(UnixListener::bind(path).unwrap());
    let first = gate(path).await;
    hello(path).await;
    let mut second = Gate::new(1, ListenOptions::default());
    second.listen("web", &format!("unix://{path}"), http());
    let errors = second.apply().await;
    assert_eq!(errors[0].error.kind(), io::ErrorKind::AddrInUse);
    assert!(errors[0].diagnostic().message.contains(path));
    hello(path).await;
    // Somebody else's, meanwhile: it is not ours to remove.
    fs::remove_file(path).unwrap();
    fs::write(path, "").unwrap();
    first.manager.close();
    assert_eq!(fs::read(path).unwrap(), b"");
    assert_eq!(second.apply().await[0].error.kind(), io::ErrorKind::AlreadyExists);
    let mut nowhere = Gate::new(1, ListenOptions::default());
    nowhere.listen("web", "unix:///nowhere/at/all.sock", http());
    assert_eq!(nowhere.apply().await[0].error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_name_needs_no_file_and_who_waits_is_served() {
    let name = format!("@meshgate-{}", std::process::id());
    let mut gate = gate(&name).await;
    let plain = format!("\0{}", &name[1..]);
    hello(&plain).await;
    let waiting = StdStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(&name[1..]).unwrap());
    let waiting = waiting.unwrap();
    gate.set.listeners.remove("web");
    gate.apply().await;
    waiting.set_nonblocking(true).unwrap();
    let mut waiting = from_std(waiting).unwrap();
    assert_eq!(words(&say(&mut waiting, "x").await)["listener"], "web");
    drop(waiting);
    tokio::time::timeout(Duration::from_secs(10), gate.manager.idle()).await.unwrap();
}

//! Network namespaces as pods: each has an interface of its own on a bridge that all of them share, and nothing of it is seen
//! from the machine. Needs root, `ip` and iptables.
//!
//! Code that is to see a pod's network runs on the pod's own thread ([`Pod::run`]); processes are started from there.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Whether namespaces can be made here. If not, it says so; in CI that is an error.
pub fn available() -> bool {
    let missing = match rustix::process::geteuid().is_root() {
        false => "root",
        true if Command::new("iptables").arg("--version").output().is_err() => "iptables",
        true => return true,
    };
    assert!(std::env::var_os("CI").is_none(), "network namespaces need {missing}");
    crate::say(&format!("skipped: network namespaces need {missing}"));
    false
}

/// A bridge, and room for pods on it. Their addresses are 10.77.0.0/16 and fd77::/64.
pub struct Network {
    namespace: Namespace,
    pods: AtomicU32,
}

/// A network namespace; gone when it is dropped.
struct Namespace {
    name: String,
}

/// One pod. Dropping it ends its thread and takes its network away.
pub struct Pod {
    pub ip: Ipv4Addr,
    pub ip6: Ipv6Addr,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    namespace: Namespace,
}

impl Namespace {
    fn new() -> anyhow::Result<Namespace> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mg{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        Ok(Namespace { name })
    }

    /// `ip` inside of it.
    fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        let arguments: Vec<&str> = ["-n", &self.name].into_iter().chain(arguments.split_whitespace()).collect();
        ip(&arguments)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

impl Network {
    pub fn new() -> anyhow::Result<Network> {
        let namespace = Namespace::new()?;
        namespace.ip("link set lo up")?;
        namespace.ip("link add br0 type bridge")?;
        namespace.ip("addr add 10.77.255.254/16 dev br0")?;
        namespace.ip("addr add fd77::ffff/64 dev br0 nodad")?;
        namespace.ip("link set br0 up")?;
        Ok(Network { namespace, pods: AtomicU32::new(1) })
    }

    pub fn pod(&self) -> anyhow::Result<Pod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let low = u16::try_from(number).context("too many pods")?;
        let ip = Ipv4Addr::from((10 << 24) | (77 << 16) | u32::from(low));
        let ip6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, low);
        let pod = Namespace::new()?;
        let inner = &self.namespace;
        inner.ip(&format!("link add veth{number} type veth peer name eth0 netns {}", pod.name))?;
        inner.ip(&format!("link set veth{number} master br0"))?;
        inner.ip(&format!("link set veth{number} up"))?;
        pod.ip("link set lo up")?;
        pod.ip(&format!("addr add {ip}/16 dev eth0"))?;
        pod.ip(&format!("addr add {ip6}/64 dev eth0 nodad"))?;
        pod.ip("link set eth0 up")?;
        pod.ip("route add default via 10.77.255.254")?;
        pod.ip("-6 route add default via fd77::ffff")?;
        Pod::start(pod, ip, ip6)
    }
}

impl Pod {
    fn start(namespace: Namespace, ip: Ipv4Addr, ip6: Ipv6Addr) -> anyhow::Result<Pod> {
        let path = format!("/run/netns/{}", namespace.name);
        let file = File::open(&path).with_context(|| path.clone())?;
        let (send, receive) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(namespace.name.clone()).spawn(move || {
            let started = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(anyhow::Error::from)
                .and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
            match started {
                Ok(runtime) => {
                    let _ = send.send(Ok(runtime.handle().clone()));
                    let _ = runtime.block_on(stopped);
                    runtime.shutdown_background();
                }
                Err(error) => drop(send.send(Err(error))),
            }
        })?;
        let runtime = receive.recv().context("the pod's thread ended")?.context(path)?;
        Ok(Pod { ip, ip6, runtime, stop: Some(stop), thread: Some(thread), namespace })
    }

    /// Runs something on the pod's thread.
    pub async fn run<F, T>(&self, future: F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.runtime.spawn(future).await.context("a task of a pod panicked")?
    }

    /// Runs a program to its end.
    pub async fn output(&self, mut command: Command) -> anyhow::Result<Output> {
        self.run(async move { command.output().with_context(|| format!("{command:?}")) }).await
    }

    pub fn ip(&self) -> IpAddr {
        self.ip.into()
    }

    /// Changes the pod's network: arguments of `ip`.
    pub fn configure(&self, arguments: &str) -> anyhow::Result<()> {
        self.namespace.ip(arguments)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("running ip")?;
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

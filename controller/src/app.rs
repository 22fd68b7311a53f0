//! The process: wires the rooms, starts them in order, ends them in order. Nobody imports it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::api::Api;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::acme::{Board, Leader};
use crate::admin::{self, Admin, Metrics};
use crate::admit::{self, Bundle, CurrentSelection, Injector, Judge, Webhooks};
use crate::ca::{Authority, Certificates, Counters, Current, Follower, ServerCertificate, server_names};
use crate::inject::{self, Injections, Settings};
use crate::kube::{
    Keeper, LEASE, Leadership, Lease, Reviews, STOPPING, connect, publish_roots, sources, watch as watch_kinds,
};
use crate::options::Options;
use crate::push::{self, Discovery, Lender, Proxies, Replicas, SecretReviewer, TokenReviewer};
use crate::status::{self, Writer, Writes};

/// Events between the watches and the keeper. More would only be memory: watches wait.
const FEED: usize = 256;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How nice the thread of statuses is (nice(1)): it gets a third of what another one gets where both want the processor.
const NICE: i32 = 5;
/// Pause between attempts to reach the API server at the start.
const RETRY: Duration = Duration::from_secs(1);

/// Until a signal ends it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&options.log).context("--log")?;
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = watch::Sender::new(false);
    let (busy, mut left) = mpsc::channel(1);
    tokio::select! {
        result = serve(&options, stop.subscribe(), busy) => result?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
    // Nothing is sent: it ends when nobody is busy any more.
    let _ = tokio::time::timeout(STOPPING, left.recv()).await;
    tracing::info!("stopped");
    Ok(())
}

/// Whoever has something to leave in order keeps `busy` until it did.
async fn serve(options: &Options, stop: watch::Receiver<bool>, busy: mpsc::Sender<()>) -> anyhow::Result<()> {
    let discovery_socket = bind(options.discovery)?;
    let admin_socket = bind(options.admin)?;
    let webhook_socket = bind(options.webhook)?;
    let client = connect(options.kubeconfig.as_deref(), None).await?;

    let (feed, fed) = mpsc::channel(FEED);
    let sources = sources(&options.namespace, &options.gateway_namespaces.0);
    watch_kinds(&client, &sources, &feed);
    let reviews = Reviews::new()?;
    let (keeper, handle) = Keeper::new(sources, fed);
    let keeper = keeper.asking(Arc::new(SecretReviewer::new(client.clone())), reviews.clone());
    let proxies = Proxies::default();
    let leadership = Lease::start(
        Api::namespaced(client.clone(), &options.namespace),
        LEASE,
        &options.replica,
        stop.clone(),
        busy.clone(),
    );
    let replicas = Replicas::new(client.clone(), &options.namespace, &options.service, options.discovery.port());
    let lender = Lender::start(leadership.clone(), Some(replicas));
    let board = Board::new()?;
    let beside = beside().context("a thread for statuses")?;
    let tally = {
        let _entered = beside.enter();
        status::keep_tally(handle.clone(), proxies.clone(), options.replica.clone(), &board)
    };
    let counters = Counters::new()?;
    let writes = Writes::new()?;
    let injections = Injections::new()?;
    let admin = Admin {
        keeper: handle.clone(),
        proxies: proxies.clone(),
        leadership: leadership.clone(),
        tally: tally.clone(),
        replica: options.replica.clone(),
        metrics: Metrics::new(&counters, &writes, &injections, &board, &reviews)?,
        board: board.clone(),
        lender: lender.clone(),
    };
    let admin = Arc::new(admin);
    tokio::spawn(admin::serve(admin_socket, admin));
    tokio::spawn(keeper.run());

    let (authority, certificate) = certify(options, &client, &leadership, &counters).await?;
    let settings = settings(options, patiently(|| has_native_sidecars(&client)).await);
    let webhooks = Arc::new(Webhooks {
        judge: Judge::new(handle.clone(), &options.namespace),
        injector: Injector {
            keeper: handle.clone(),
            settings,
            selection: CurrentSelection::follow(&client, &options.namespace),
            counters: injections,
        },
    });
    tokio::spawn(admit::serve(webhook_socket, certificate.config(&["h2", "http/1.1"])?, webhooks));

    // Proxies come when there is something to tell: an empty answer would take away what they have.
    let mut generation = handle.generation();
    generation.wait_for(|generation| *generation > 0).await?;
    eprintln!("meshgate-controller ready: discovery {} admin {}", discovery_socket.local_addr()?, options.admin);
    tokio::spawn(orders(options, &client, &leadership, &tally, board).run(stop.clone(), busy.clone()));
    let writer = Writer {
        client: client.clone(),
        leadership,
        tally,
        namespace: options.namespace.clone(),
        service: options.service.clone(),
        replica: options.replica.clone(),
        writes,
    };
    beside.spawn(writer.run());
    let authenticate = Arc::new(TokenReviewer::new(client));
    let certificates = Certificates::new(authority, handle.clone(), counters);
    let keep_alive = Duration::from_secs(options.keep_alive_seconds);
    let discovery = Discovery { keeper: handle, proxies, authenticate, certificates, lender, keep_alive };
    push::serve(discovery_socket, certificate.config(&["h2"])?, discovery, stop, busy).await;
    Ok(())
}

/// A runtime of one thread, which the others go before: what is said of thousands of objects is work, and less urgent than what they do.
fn beside() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("status".to_owned()).spawn(move || {
        // Of this thread alone, as Linux has it (setpriority(2), "C library/kernel differences").
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "statuses are as urgent as all else");
        }
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}

/// Who has certificates ordered, while this replica leads; or says that nobody does, where nobody has asked for that.
fn orders(
    options: &Options,
    client: &Client,
    leadership: &Leadership,
    tally: &watch::Receiver<Arc<status::Tally>>,
    board: Board,
) -> Leader {
    Leader {
        client: client.clone(),
        leadership: leadership.clone(),
        tally: tally.clone(),
        namespace: options.namespace.clone(),
        service: options.service.clone(),
        replica: options.replica.clone(),
        options: options.acme.options(),
        board,
    }
}

/// The CA, its roots where others look for them, and what this process shows to who connects.
async fn certify(
    options: &Options,
    client: &Client,
    leadership: &Leadership,
    counters: &Counters,
) -> anyhow::Result<(Current, Arc<ServerCertificate>)> {
    let authority = patiently(|| Authority::load(client, &options.namespace)).await;
    let follower = Follower {
        client: client.clone(),
        namespace: options.namespace.clone(),
        leadership: leadership.clone(),
        overlap: Duration::from_secs(options.root_overlap_seconds),
        counters: counters.clone(),
    };
    let authority = follower.start(authority);
    let mut names = server_names(&options.service, &options.namespace);
    names.extend(options.san.iter().cloned());
    let certificate = ServerCertificate::start(authority.clone(), names)?;
    tokio::spawn(publish_roots(client.clone(), authority.roots(), leadership.clone()));
    let bundle =
        Bundle { service: options.service.clone(), namespace: options.namespace.clone(), roots: authority.roots() };
    bundle.publish(client, leadership);
    Ok((authority, certificate))
}

/// What is the same for all sidecars.
fn settings(options: &Options, native: bool) -> Settings {
    Settings {
        image: options.sidecar_image.clone(),
        pull_policy: options.sidecar_pull_policy.clone(),
        native,
        ..Settings::default()
    }
}

async fn has_native_sidecars(client: &kube::Client) -> anyhow::Result<bool> {
    let version = client.apiserver_version().await.context("cannot read the API server's version")?;
    Ok(inject::has_native_sidecars(&version.major, &version.minor))
}

/// `[::]` is both families, whatever the machine's default is. Without IPv6 it is the other one; that somebody else is there is
/// another matter.
fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let has_ipv6 = || Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok();
    let socket = match bind_one(address) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && (error.kind() == io::ErrorKind::AddrNotAvailable || !has_ipv6()) =>
        {
            bind_one((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        socket => socket,
    };
    socket.with_context(|| format!("cannot listen on {address}"))
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Until it succeeds: the API server may be away, or our rights not be there yet.
async fn patiently<T, F: Future<Output = anyhow::Result<T>>>(mut attempt: impl FnMut() -> F) -> T {
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!("{error:#}; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_address_is_both_families_and_is_not_left_for_another_one() {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let first = bind(any(0)).unwrap();
        let port = first.local_addr().unwrap().port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(bind(any(port)).is_err());
        // Somebody has the IPv6 half of it, so that the other one were free.
        if let Ok(holder) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            assert!(bind(any(holder.local_addr().unwrap().port())).is_err());
        }
    }
}

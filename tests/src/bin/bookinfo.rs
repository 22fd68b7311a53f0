//! `bookinfo`: the demo application. One process with all services (`bookinfo all`), or one service per process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use e2e::bookinfo::outgoing::Upstream;
use e2e::bookinfo::productpage::Productpage;
use e2e::bookinfo::ratings::Ratings;
use e2e::bookinfo::reviews::{Reviews, Version};
use e2e::bookinfo::{Service, certificate, server};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A small bookstore of four services, to try a gateway on.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All services in one process, each at an address of its own.
    All(All),
    /// The page that a browser sees.
    Productpage {
        #[command(flatten)]
        listen: Listen,
        #[arg(long, default_value = "http://details:9080")]
        details: String,
        #[arg(long, default_value = "http://reviews:9080")]
        reviews: String,
        #[arg(long, default_value = "http://ratings:9080")]
        ratings: String,
        #[command(flatten)]
        via: Via,
    },
    /// Facts about the book.
    Details(Listen),
    /// Reviews: v1 without stars, v2 with black ones, v3 with red ones.
    Reviews {
        #[command(flatten)]
        listen: Listen,
        #[arg(long, value_enum, default_value = "v1")]
        release: Version,
        #[arg(long, default_value = "http://ratings:9080")]
        ratings: String,
        #[command(flatten)]
        via: Via,
    },
    /// Stars.
    Ratings(Listen),
    /// Writes a self-signed certificate (tls.crt, tls.key, secret.yaml) into a folder.
    Certificate {
        #[arg(long)]
        out: PathBuf,
        /// DNS name or IP address to put in; may be repeated.
        #[arg(long = "name", default_values = ["localhost", "127.0.0.1"])]
        names: Vec<String>,
        /// NAMESPACE/NAME of the Secret.
        #[arg(long, default_value = "istio-system/bookinfo-credential")]
        secret: String,
    },
}

#[derive(Args)]
struct Listen {
    #[arg(long, default_value = "0.0.0.0:9080")]
    listen: SocketAddr,
    /// Seconds that it serves on when it is told to stop: who sends requests here may need a moment to hear of it.
    #[arg(long, default_value_t = 5)]
    linger: u64,
}

/// Longest that the last answers take.
const LAST: Duration = Duration::from_secs(5);

#[derive(Args)]
struct Via {
    /// Send calls to other services here (HOST:PORT of a gateway); only the Host header names the service.
    #[arg(long)]
    via: Option<String>,
}

/// In the order of the addresses: productpage, details, ratings, reviews v1, v2, v3.
#[derive(Args)]
struct All {
    /// First of six consecutive loopback addresses.
    #[arg(long, default_value = "127.0.20.1", conflicts_with = "base_port")]
    loopback: Ipv4Addr,
    /// Port at each of these addresses.
    #[arg(long, default_value_t = 9080, conflicts_with = "base_port")]
    port: u16,
    /// Use 127.0.0.1 with six consecutive ports from this one on instead (0: any free ones).
    #[arg(long)]
    base_port: Option<u16>,
    /// Domain of the services in Host headers when calls go through a gateway.
    #[arg(long, default_value = "default.svc.cluster.local")]
    domain: String,
    #[command(flatten)]
    via: Via,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Command::Certificate { out, names, secret } = &cli.command {
        return certificate::write(out, names, secret);
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(cli.command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let single = match command {
        Command::All(all) => {
            start_all(all).await?;
            None
        }
        Command::Productpage { listen, details, reviews, ratings, via } => {
            let call = |url: String| Upstream::new(&[url], via.via.as_deref());
            let page = Productpage { details: call(details)?, reviews: call(reviews)?, ratings: call(ratings)? };
            Some(start_one(&listen, "productpage", Service::Productpage(page)).await?)
        }
        Command::Details(listen) => Some(start_one(&listen, "details", Service::Details).await?),
        Command::Reviews { listen, release, ratings, via } => {
            let ratings = Upstream::new(&[ratings], via.via.as_deref())?;
            Some(start_one(&listen, "reviews", Service::Reviews(Reviews::new(release, Some(ratings)))).await?)
        }
        Command::Ratings(listen) => Some(start_one(&listen, "ratings", Service::Ratings(Ratings::default())).await?),
        Command::Certificate { .. } => return Ok(()),
    };
    tokio::select! {
        _ = stop.recv() => {}
        result = tokio::signal::ctrl_c() => return Ok(result?),
    }
    // Only where others take over.
    let Some(single) = single else { return Ok(()) };
    tokio::select! {
        () = single.leave() => Ok(()),
        _ = stop.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => Ok(result?),
    }
}

/// The one service of a process.
struct Single {
    close: watch::Sender<bool>,
    server: JoinHandle<()>,
    linger: Duration,
}

impl Single {
    async fn leave(self) {
        tokio::time::sleep(self.linger).await;
        self.close.send_replace(true);
        let _ = tokio::time::timeout(LAST, self.server).await;
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn start(listener: TcpListener, service: Service, close: watch::Receiver<bool>) -> JoinHandle<()> {
    let service = Arc::new(service);
    tokio::spawn(server::serve(listener, move |call| service.clone().answer(call), close))
}

async fn start_one(listen: &Listen, name: &str, service: Service) -> anyhow::Result<Single> {
    let (listener, address) = bind(listen.listen).await?;
    let close = watch::Sender::new(false);
    let server = start(listener, service, close.subscribe());
    println!("bookinfo ready {name}={address}");
    Ok(Single { close, server, linger: Duration::from_secs(listen.linger) })
}

async fn start_all(all: All) -> anyhow::Result<()> {
    let address = |index: u8| match all.base_port {
        Some(0) => SocketAddr::from(([127, 0, 0, 1], 0)),
        Some(port) => SocketAddr::from(([127, 0, 0, 1], port.saturating_add(index.into()))),
        None => {
            let ip = u32::from(all.loopback).saturating_add(index.into());
            SocketAddr::new(IpAddr::V4(ip.into()), all.port)
        }
    };
    let (productpage, productpage_at) = bind(address(0)).await?;
    let (details, details_at) = bind(address(1)).await?;
    let (ratings, ratings_at) = bind(address(2)).await?;
    let mut versions = Vec::new();
    for (index, version) in [(3, Version::V1), (4, Version::V2), (5, Version::V3)] {
        let (listener, at) = bind(address(index)).await?;
        versions.push((version, listener, at));
    }
    let via = all.via.via.as_deref();
    // Through a gateway the Host header must name the service; directly the addresses are all there is.
    let call = |name: &str, at: &[SocketAddr]| match via {
        Some(_) => Upstream::new(&[format!("http://{name}.{}:9080", all.domain)], via),
        None => Upstream::new(&at.iter().map(|at| format!("http://{at}")).collect::<Vec<_>>(), None),
    };
    let reviews_at: Vec<SocketAddr> = versions.iter().map(|(_, _, at)| *at).collect();
    let page = Productpage {
        details: call("details", &[details_at])?,
        reviews: call("reviews", &reviews_at)?,
        ratings: call("ratings", &[ratings_at])?,
    };
    // They end with the process.
    let close = watch::Sender::new(false);
    let start = |listener, service| drop(start(listener, service, close.subscribe()));
    let mut ready = format!("bookinfo ready productpage={productpage_at} details={details_at} ratings={ratings_at}");
    for (version, listener, at) in versions {
        ready.push_str(&format!(" reviews-{}={at}", version.as_str()));
        start(listener, Service::Reviews(Reviews::new(version, Some(call("ratings", &[ratings_at])?))));
    }
    start(productpage, Service::Productpage(page));
    start(details, Service::Details);
    start(ratings, Service::Ratings(Ratings::default()));
    println!("{ready}");
    Ok(())
}

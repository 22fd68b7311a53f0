//! The two little HTTP servers: admin, and status for probes and scrapers.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_core::model::OWN_V4;
use tokio::net::TcpListener;

use super::page::{Answer, Ask, text};
use super::{
    Admin, certs, clusters, config_dump, controller, diagnostics, explain, index, listeners, logging, metrics, process,
    ready, server_info,
};

/// Who may see what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All pages. Listens on the loopback, unless told otherwise.
    Admin,
    /// Readiness and metrics.
    Status,
    /// The same for those who look after a workload, and what its containers may ask the sidecar for.
    Agent,
}

type Page = fn(&Admin, &Ask) -> Answer;

/// A page, and what the index says of it.
pub struct Entry {
    pub path: &'static str,
    pub about: &'static str,
    pub post: bool,
    page: Page,
}

const fn entry(path: &'static str, about: &'static str, page: Page) -> Entry {
    Entry { path, about, post: false, page }
}

const fn command(path: &'static str, about: &'static str, page: Page) -> Entry {
    Entry { path, about, post: true, page }
}

pub const ADMIN_PAGES: &[Entry] = &[
    entry("/", "this list", index::page),
    entry("/ready", "200 when traffic is served", ready::page),
    entry("/config_dump", "the resources that are served, as JSON; secrets are redacted", config_dump::page),
    entry("/clusters", "destinations, their endpoints and connections (?format=json)", clusters::page),
    entry("/listeners", "addresses that are listened on (?format=json)", listeners::page),
    entry("/certs", "certificates that are served, as JSON", certs::page),
    entry("/diagnostics", "what is wrong with the configuration, as JSON", diagnostics::page),
    entry("/explain", "where a request goes and why: ?url=URL&method=GET&header=NAME:VALUE", explain::page),
    entry("/metrics", "metrics in Prometheus' text format", metrics::page),
    entry("/stats/prometheus", "the same", metrics::page),
    entry("/logging", "the log filter; POST ?level=debug changes it", logging::page),
    entry("/controller", "how it stands with the controller, as JSON", controller::page),
    entry("/server_info", "version, state, uptime, as JSON", server_info::page),
    command("/quitquitquit", "ends the process, after draining", process::quit),
    command("/drain_listeners", "asks clients to go elsewhere", process::drain_listeners),
];

const STATUS_PAGES: &[Entry] = &[
    entry("/healthz/ready", "200 when traffic is served", ready::brief),
    entry("/ready", "the same", ready::brief),
    entry("/stats/prometheus", "metrics in Prometheus' text format", metrics::page),
    entry("/metrics", "the same", metrics::page),
];

/// Commands are for the containers of the pod only.
const AGENT_PAGES: &[Entry] = &[
    entry("/healthz/ready", "200 when traffic is served", ready::brief),
    entry("/stats/prometheus", "metrics in Prometheus' text format", metrics::page),
    entry("/metrics", "the same", metrics::page),
    command("/quitquitquit", "ends the process, after draining", process::quit),
    command("/drain", "asks clients to go elsewhere", process::drain_listeners),
];

/// A client may take this long to send a head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves for as long as it is polled.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, audience: Audience) {
    // Probes and scrapers may call the status port what they like; it has nothing to hide.
    let local_only =
        audience == Audience::Admin && listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, ?audience, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: http::Request<Incoming>| {
                let admin = admin.clone();
                async move {
                    let answer = match local_only && !names_this_machine(&request) {
                        true => text(StatusCode::FORBIDDEN, "ask by address or as localhost\n"),
                        false => match of_application(&admin, audience, &request).await {
                            Some(answer) => answer,
                            None => {
                                if audience == Audience::Admin && request.uri().path() == "/explain" {
                                    explain::complete(&admin, &asked(&request)).await;
                                }
                                answer(&admin, audience, peer, &request)
                            }
                        },
                    };
                    Ok::<_, Infallible>(answer)
                }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, ?audience, "connection ended");
            }
        });
    }
}

/// A web page can have its own name resolved to 127.0.0.1 (DNS rebinding) and would then be let in by the browser; it
/// cannot make the browser send another Host.
fn names_this_machine<B>(request: &http::Request<B>) -> bool {
    let Some(host) = request.headers().get(http::header::HOST) else { return true };
    let Ok(authority) = http::uri::Authority::try_from(host.as_bytes()) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok()
}

/// What cannot be said without asking the application. None: something else is asked for.
async fn of_application<B>(admin: &Admin, audience: Audience, request: &http::Request<B>) -> Option<Answer> {
    if audience != Audience::Agent || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    match request.uri().path() {
        "/stats/prometheus" | "/metrics" => {
            let application = admin.agent.metrics().await?;
            Some(metrics::with_application(admin, &application))
        }
        path => {
            let (status, reason) = admin.agent.probe(path, request.headers()).await?;
            Some(text(status, reason))
        }
    }
}

fn asked<B>(request: &http::Request<B>) -> Ask {
    Ask::new(request.method().clone(), request.headers().clone(), request.uri().query())
}

fn answer<B>(admin: &Admin, audience: Audience, peer: SocketAddr, request: &http::Request<B>) -> Answer {
    let pages = match audience {
        Audience::Admin => ADMIN_PAGES,
        Audience::Status => STATUS_PAGES,
        Audience::Agent => AGENT_PAGES,
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n");
    }
    let Some(entry) = pages.iter().find(|entry| entry.path == request.uri().path()) else {
        return text(StatusCode::NOT_FOUND, format!("no such page; there are:\n{}", index::list(pages)));
    };
    let ask = asked(request);
    if entry.post
        && let Err(refusal) = ask.may_change()
    {
        return *refusal;
    }
    if entry.post && audience == Audience::Agent && !is_of_pod(peer.ip()) {
        return text(StatusCode::FORBIDDEN, "only from within the pod\n");
    }
    (entry.page)(admin, &ask)
}

/// From the loopback, but not from where the sidecar hands on what others send to the pod.
fn is_of_pod(peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() && peer != IpAddr::from(OWN_V4)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;

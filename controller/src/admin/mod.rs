//! Pages for operators and for `meshctl` on 15014: metrics, readiness, and what the controller knows. They change nothing.

mod metrics;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_core::diag::Diagnostic;
use mesh_core::model::{ProxyInfo, ResourceSet};
use mesh_core::wire::Standing;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::acme::Board;
use crate::kube::{ClassState, KeeperHandle, Leadership, View};
use crate::push::{Lender, Proxies};
use crate::status::Tally;
pub use metrics::Metrics;

/// All that pages may look at.
pub struct Admin {
    pub keeper: KeeperHandle,
    pub proxies: Proxies,
    pub leadership: Leadership,
    pub tally: watch::Receiver<Arc<Tally>>,
    pub replica: String,
    pub metrics: Metrics,
    /// Of orders.
    pub board: Board,
    pub lender: Lender,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        let path = request.uri().path();
        if let "/ready" | "/healthz/ready" = path {
            if *self.keeper.generation().borrow() > 0 {
                return text(StatusCode::OK, "ready\n");
            }
            let unavailable = self.keeper.look().await.unwrap_or_default().unavailable;
            let reasons: String = unavailable.iter().map(|(kind, why)| format!("{kind}: {why}\n")).collect();
            return text(StatusCode::SERVICE_UNAVAILABLE, format!("not everything is listed yet\n{reasons}"));
        }
        if path == "/version" {
            return json(&json!({ "version": env!("CARGO_PKG_VERSION"), "replica": self.replica }));
        }
        if path == "/debug/proxies" {
            return json(&json!({
                "replica": self.replica,
                "leader": self.leadership.leads(),
                "generation": *self.keeper.generation().borrow(),
                "proxies": self.proxies.all(),
            }));
        }
        if path == "/debug/programmed" {
            return self.programmed(request);
        }
        if path == "/debug/orders" {
            let page = self.board.page();
            return json(&json!({
                "replica": self.replica,
                "leader": self.leadership.leads(),
                "directory": page.directory,
                "orders": page.orders,
            }));
        }
        if path == "/debug/limits" {
            return self.limits();
        }
        if path == "/debug/objects" {
            return self.objects().await;
        }
        let Some(view) = self.keeper.look().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        };
        match path {
            "/metrics" => text(
                StatusCode::OK,
                self.metrics.render(
                    &view,
                    &self.proxies,
                    &self.lender,
                    self.leadership.leads(),
                    *self.keeper.generation().borrow(),
                ),
            ),
            "/debug/diagnostics" => match self.classes(&view, request.uri().query()) {
                Some(classes) => json(&diagnostics(&view, &classes, &self.board.findings().borrow())),
                None => text(StatusCode::NOT_FOUND, NO_SUCH_PROXY),
            },
            "/debug/config" => match self.classes(&view, request.uri().query()).as_deref() {
                Some([(proxy, state), ..]) => {
                    json(&json!({ "class": proxy, "generation": state.generation, "set": redacted(&state.set) }))
                }
                _ => text(StatusCode::NOT_FOUND, NO_SUCH_PROXY),
            },
            _ => text(StatusCode::NOT_FOUND, PAGES),
        }
    }

    /// How far the objects are with the proxies of this replica. The leader asks often, so a version that it has is not sent.
    fn programmed(&self, request: &Request<Incoming>) -> Answer {
        let tally = self.tally.borrow().clone();
        let version = format!("\"{}\"", tally.version);
        let had = request.headers().get(http::header::IF_NONE_MATCH);
        let mut answer = if had.is_some_and(|had| had.as_bytes() == version.as_bytes()) {
            with_type(StatusCode::NOT_MODIFIED, "application/json", Bytes::new())
        } else {
            json(&*tally)
        };
        if let Ok(version) = version.parse() {
            answer.headers_mut().insert(http::header::ETAG, version);
        }
        answer
    }

    /// What is lent of limits that all proxies count together.
    fn limits(&self) -> Answer {
        let limit = |(name, standing): (String, Standing)| {
            let limit = json!({
                "proxies": standing.holders,
                "reporting": standing.here,
                "lent": standing.lent.ratio(),
                "requestsPerThousandSeconds": standing.demand,
            });
            (name, limit)
        };
        let limits: BTreeMap<String, serde_json::Value> = self.lender.standings().into_iter().map(limit).collect();
        json(&json!({ "replica": self.replica, "leader": self.leadership.leads(), "limits": limits }))
    }

    /// Which versions of the objects are known.
    async fn objects(&self) -> Answer {
        let Some(versions) = self.keeper.versions().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        };
        let waiting: Vec<String> = versions.waiting.iter().map(ToString::to_string).collect();
        let objects: BTreeMap<String, &String> =
            versions.objects.iter().map(|(name, version)| (name.to_string(), version)).collect();
        json(&json!({ "generation": versions.generation, "waiting": waiting, "objects": objects }))
    }

    /// All classes of proxies, or with `proxy=POD.NAMESPACE` that of this one. None: it is not connected here.
    fn classes<'v>(&self, view: &'v View, query: Option<&str>) -> Option<Vec<&'v (ProxyInfo, Arc<ClassState>)>> {
        let wanted = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("proxy="));
        let Some(wanted) = wanted else { return Some(view.classes.iter().collect()) };
        let class = self.proxies.all().into_iter().find(|status| status.name == wanted)?.class;
        view.classes.iter().find(|(_, state)| state.class == class).map(|found| vec![found])
    }
}

const NO_SUCH_PROXY: &str = "no such proxy is connected here\n";

const PAGES: &str = "  /ready              200 once everything was listed
  /metrics            Prometheus
  /version            version and replica, as JSON
  /debug/proxies      connected proxies, and how far each is, as JSON
  /debug/config       what proxies are to have (?proxy=POD.NAMESPACE), as JSON; keys are left out
  /debug/programmed   how many proxies of this replica have each object, as JSON
  /debug/orders       certificates that are ordered, and where that stands, as JSON; the leader knows
  /debug/limits       rate limits that all proxies count together, and how much of each is lent, as JSON; the leader knows
  /debug/objects      which versions of the objects are known, as JSON
  /debug/diagnostics  what is wrong with the objects (?proxy=POD.NAMESPACE), as JSON
";

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let admin = admin.clone();
                async move { Ok::<_, Infallible>(admin.answer(&request).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            let builder = builder.timer(TokioTimer::new()).header_read_timeout(std::time::Duration::from_secs(10));
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "admin");
            }
        });
    }
}

fn diagnostics(view: &View, classes: &[&(ProxyInfo, Arc<ClassState>)], of_orders: &[Diagnostic]) -> serde_json::Value {
    let of_classes = classes.iter().flat_map(|(_, state)| state.diagnostics.iter());
    let all: std::collections::BTreeSet<_> = view.diagnostics.iter().chain(of_classes).chain(of_orders).collect();
    json!({ "diagnostics": all, "unavailable": view.unavailable })
}

/// Without private keys.
fn redacted(set: &ResourceSet) -> ResourceSet {
    let secrets = set.secrets.iter().map(|(key, secret)| (key.clone(), Arc::new(secret.redacted()))).collect();
    ResourceSet { secrets, ..set.clone() }
}

fn json<T: Serialize>(value: &T) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            with_type(StatusCode::OK, "application/json", body)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

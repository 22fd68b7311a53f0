//! The cluster runner: the objects of a case in a real API server, a controller that reads them there, and a gateway that it
//! tells by incremental discovery. One controller and, as long as the cases are of one kind of proxy, one gateway see all
//! cases, one after the other: each case is a change.

mod findings;
mod objects;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_core::testing::{Case, Proxy};
use serde_json::Value;

use super::backends::Backends;
use super::front::{AccessLog, Front};
use super::{Outcome, config};
use crate::cluster::{Controller, DEADLINE, Launch, Pod, apply_namespace, define};
use crate::ports;
use crate::process::Meshgate;
use objects::{Objects, Refusal};

/// Where the cases have their secrets, and MeshConfig.
const SYSTEM: &str = "istio-system";

/// See the module.
pub struct ClusterRunner {
    controller: Controller,
    objects: Objects,
    gateway: Option<Gateway>,
    /// Gateways started so far.
    started: u32,
    folder: tempfile::TempDir,
}

/// The gateway of one kind of proxy.
struct Gateway {
    meshgate: Meshgate,
    log: AccessLog,
    /// Namespace and labels.
    of: (String, BTreeMap<String, String>),
    /// `POD.NAMESPACE`
    name: String,
}

impl ClusterRunner {
    /// In the network namespace of a cluster, with the API server that `kubectl` would ask.
    pub async fn start() -> anyhow::Result<ClusterRunner> {
        let folder = tempfile::tempdir()?;
        define()?;
        apply_namespace(SYSTEM)?;
        let controller = Launch::new(folder.path(), "cases", SYSTEM).start()?;
        controller.until("leadership", "/debug/proxies", |page| page.pointer("/leader") == Some(&true.into())).await?;
        let all =
            |page: &Value| page.pointer("/unavailable").and_then(Value::as_object).is_some_and(|no| no.is_empty());
        controller.until("all kinds", "/debug/diagnostics", all).await?;
        let objects = Objects::new(controller::kube::connect(None, None).await?, SYSTEM);
        Ok(ClusterRunner { controller, objects, gateway: None, started: 0, folder })
    }

    pub async fn run(&mut self, case: &Case) -> anyhow::Result<Outcome> {
        let logged = self.controller.log().len();
        let told = self.gateway.as_ref().map_or(0, |gateway| gateway.meshgate.log().len());
        let mut result = self.try_run(case).await;
        let failed = !result.as_ref().is_ok_and(|outcome| outcome.failures.is_empty());
        if failed && let Some(gateway) = &self.gateway {
            let (gateway, controller) = (gateway.meshgate.log(), self.controller.log());
            let logs = format!(
                "--- log of meshgate:\n{}\n    --- log of meshgate-controller:\n{}",
                gateway.get(told..).unwrap_or(&gateway),
                controller.get(logged..).unwrap_or_default(),
            );
            match &mut result {
                Ok(outcome) => outcome.failures.push(logs),
                Err(error) => result = Err(anyhow::anyhow!("{error:#}\n    {logs}")),
            }
        }
        // What the next case finds is nobody's fault but its own.
        if failed {
            self.gateway = None;
        }
        self.objects.clear().await?;
        self.settled().await?;
        result
    }

    async fn try_run(&mut self, case: &Case) -> anyhow::Result<Outcome> {
        self.choose_gateway(&case.proxy)?;
        let backends = Backends::start(case, ports::routable).await?;
        let ip = ports::loopback();
        let mut documents = config::services(case, &backends.addresses);
        documents.extend(read(&case.config, &backends, ip)?);
        let mut outcome = Outcome::default();
        let refused = self.objects.apply(documents).await?;
        self.served().await?;
        self.check_findings(case, &refused, &mut outcome).await?;
        if let Some(refusal) = refused.iter().find(|refusal| !refusal.is_there) {
            outcome.unseen(format!("steps, for the API server does not store {}", refusal.object));
            return Ok(outcome);
        }
        for (index, step) in case.steps.iter().enumerate() {
            if let Some(text) = &step.apply {
                // As with files, what was before stays; and that is for the requests to show.
                for refusal in self.objects.apply(read(text, &backends, ip)?).await? {
                    outcome.unseen(format!("a change that the API server refuses: {}", refusal.object));
                }
            }
            self.objects.delete(&step.delete).await?;
            if step.apply.is_some() || !step.delete.is_empty() {
                self.served().await?;
            }
            if let Some(request) = &step.request {
                let Gateway { meshgate, log, .. } = self.gateway()?;
                let front = Front { meshgate, ip, log, backends: &backends };
                let expect = step.expect.clone().unwrap_or_default();
                front.ask(&format!("steps[{index}]"), request, &expect, &mut outcome).await?;
            }
        }
        Ok(outcome)
    }

    /// One at a time: a Gateway without selector is everybody's, and two processes would share its sockets.
    fn choose_gateway(&mut self, proxy: &Proxy) -> anyhow::Result<()> {
        ensure!(proxy.role == "edge", "role `{}` is not there yet", proxy.role);
        let of = (proxy.namespace.clone(), proxy.labels.clone());
        if self.gateway.as_ref().is_some_and(|gateway| gateway.of == of) {
            return Ok(());
        }
        self.gateway = None;
        self.started += 1;
        let pod = format!("edge-{}", self.started);
        let log = AccessLog::new(self.folder.path().join(format!("{pod}.access.log")));
        apply_namespace(&proxy.namespace)?;
        let made = Pod { namespace: &of.0, name: &pod, labels: &of.1 };
        let mut meshgate = made.gateway(self.folder.path(), self.controller.discovery, &log.arguments())?;
        meshgate.ready()?;
        self.gateway = Some(Gateway { meshgate, log, name: format!("{pod}.{}", of.0), of });
        Ok(())
    }

    fn gateway(&self) -> anyhow::Result<&Gateway> {
        self.gateway.as_ref().context("no gateway")
    }

    /// Until the controller's world holds what was applied, and nothing that was deleted. Yields its generation.
    async fn settled(&mut self) -> anyhow::Result<u64> {
        let page =
            self.controller.until("what was applied", "/debug/objects", |page| self.objects.are_in(page)).await?;
        self.objects.forget_deleted();
        page.pointer("/generation").and_then(Value::as_u64).context("no generation")
    }

    /// Until the gateway serves that world: it has acknowledged it, and what it serves is what the controller says.
    async fn served(&mut self) -> anyhow::Result<()> {
        let generation = self.settled().await?;
        let gateway = self.gateway()?;
        let acknowledged = |page: &Value| acknowledged(page, &gateway.name).is_some_and(|had| had >= generation);
        self.controller.until("the acknowledgement", "/debug/proxies", acknowledged).await?;
        let begun = Instant::now();
        loop {
            let wanted = self.controller.page(&format!("/debug/config?proxy={}", gateway.name)).await;
            let dump: Value = serde_json::from_str(&gateway.meshgate.admin("/config_dump").await?)?;
            // Endpoints are acknowledged a moment before they are in force.
            let Some(part) = differing(&wanted, &dump) else { return Ok(()) };
            ensure!(begun.elapsed() < DEADLINE, "{part} are not what the controller says: {dump:#}, not {wanted:#}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn check_findings(&self, case: &Case, refused: &[Refusal], outcome: &mut Outcome) -> anyhow::Result<()> {
        let gateway = self.gateway()?;
        let page = self.controller.page(&format!("/debug/diagnostics?proxy={}", gateway.name)).await;
        let report: Value = serde_json::from_str(&gateway.meshgate.admin("/diagnostics").await?)?;
        let found = findings::all(&page, &report)?;
        findings::check(case.diagnostics.as_deref(), &found, refused, outcome);
        Ok(())
    }
}

/// Objects of a text, bound to this address. A List is what `kubectl` sends piece by piece.
fn read(text: &str, backends: &Backends, ip: IpAddr) -> anyhow::Result<Vec<Value>> {
    let documents = config::documents(&config::fill(text, &backends.addresses)?).context("not YAML")?;
    let mut objects = Vec::new();
    for mut document in documents {
        match document.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => objects.append(items),
            None => objects.push(document),
        }
    }
    objects.iter_mut().for_each(|object| config::bind(object, ip));
    Ok(objects)
}

/// The generation up to which a proxy has everything that it asked for.
fn acknowledged(page: &Value, proxy: &str) -> Option<u64> {
    let mut proxies = page.pointer("/proxies")?.as_array()?.iter();
    let kinds =
        proxies.find(|found| found.pointer("/name").and_then(Value::as_str) == Some(proxy))?.pointer("/kinds")?;
    let asked = kinds.as_object()?.values().filter(|kind| kind.pointer("/subscribed") == Some(&true.into()));
    asked.filter_map(|kind| kind.pointer("/acknowledged")?.as_u64()).min()
}

/// The first part of the configuration that is not the same.
fn differing(wanted: &Value, dump: &Value) -> Option<&'static str> {
    let parts = ["listeners", "routes", "destinations", "endpoints", "secrets"];
    let same = |part: &str| {
        let wanted = wanted.pointer(&format!("/set/{part}"));
        wanted.is_some() && wanted == dump.get(part)
    };
    parts.into_iter().find(|part| !same(part))
}

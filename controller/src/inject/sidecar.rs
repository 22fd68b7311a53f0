//! The pod with its sidecar: the template of `deploy/sidecar`, filled as the pod's annotations ask for.

use mesh_core::api::ProxyConfig;
use serde_json::{Map, Value, json};

use super::decide::{REVISION, REVISION_LABEL, STATUS};
use super::pod::{Container, Pod, Spec};
use super::selection::Selection;
use super::wishes::{Interception, Malformed, Wishes};
use super::workload::{CANONICAL_NAME, CANONICAL_REVISION, Workload};
use super::{metrics, overlay, probes};

/// Containers of the template.
pub const PROXY: &str = "istio-proxy";
const INIT: &str = "istio-init";
const TEMPLATE: &str = include_str!("../../../deploy/sidecar/sidecar.yaml");
/// Threads, where nobody asks for another number; as Istio.
const WORKERS: i32 = 2;
/// Which template a pod asks for.
const TEMPLATES: &str = "inject.istio.io/templates";

/// What is the same for all pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// None: that of the template.
    pub image: Option<String>,
    pub pull_policy: Option<String>,
    /// Whether the cluster has init containers that stay (Kubernetes 1.29).
    pub native: bool,
    /// `defaultConfig` of the mesh.
    pub defaults: ProxyConfig,
    /// Who gets one.
    pub selection: Selection,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            image: None,
            pull_policy: None,
            native: true,
            defaults: ProxyConfig::default(),
            selection: Selection::default(),
        }
    }
}

/// Whether an API server of this version has init containers that stay: they are on from 1.29. Some write `29+`.
#[must_use]
pub fn has_native_sidecars(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap_or_default();
    (number(major), number(minor)) >= (1, 29)
}

/// Why a pod that should have a sidecar cannot have one.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(
        "annotation `{TEMPLATES}`: there is no template `{0}`, only `sidecar`; gateways are installed by `meshctl install`"
    )]
    Template(String),
    #[error("it cannot be read or written: {0}")]
    Unreadable(String),
}

/// A pod with a sidecar.
#[derive(Clone, Debug)]
pub struct Injected {
    pub pod: Pod,
    /// What was asked for and not done.
    pub warnings: Vec<String>,
}

/// Adds the sidecar.
pub fn inject(pod: &Pod, workload: &Workload, settings: &Settings) -> Result<Injected, Refusal> {
    if let Some(other) =
        pod.metadata.annotation(TEMPLATES).map(str::trim).filter(|name| !["", "sidecar"].contains(name))
    {
        return Err(Refusal::Template(other.to_owned()));
    }
    let wishes = Wishes::read(&pod.metadata, &settings.defaults)?;
    let template = template()?;
    let mut pod = pod.clone();
    let native = wishes.native.unwrap_or(settings.native);
    let own = take(&mut pod.spec, PROXY);
    let application = application(&pod.spec);
    let probers = if wishes.rewrite_probes { probes::rewrite(&mut pod, probes::secret) } else { None };
    let scraped = if wishes.merge_metrics { metrics::merge(&mut pod.metadata) } else { None };

    let mut proxy = container(&template.spec.containers, PROXY)?;
    start(&mut proxy, settings, &wishes);
    ask(&mut proxy, &wishes);
    stay(&mut proxy, &wishes, native);
    let mode = if wishes.interception == Interception::None { "NONE" } else { "REDIRECT" };
    let known = [
        ("ISTIO_META_INTERCEPTION_MODE", Some(mode.to_owned())),
        ("ISTIO_META_WORKLOAD_NAME", Some(workload.name.clone())),
        ("ISTIO_METAJSON_LABELS", Some(json!(pod.metadata.labels).to_string())),
        ("ISTIO_META_OWNER", Some(workload.owner())),
        ("ISTIO_META_APP_CONTAINERS", Some(application.names)),
        ("ISTIO_META_POD_PORTS", Some(application.ports)),
        ("PROXY_CONFIG", wishes.proxy_text.clone()),
        (probes::PROBERS, probers),
        (metrics::APPLICATION, scraped),
    ];
    for (name, value) in known {
        value.into_iter().for_each(|value| proxy.set_env(name, &value));
    }
    let proxy = with_own(proxy, own)?;
    let init = match wishes.interception {
        Interception::None => None,
        Interception::Redirect => Some(redirect(&template, settings, &wishes, &proxy)?),
    };
    let volumes = volumes(&mut pod.spec, template.spec.volumes, &wishes);
    mark(&mut pod, &template.metadata.labels, workload, status(init.is_some(), native, &volumes));
    let hold = wishes.proxy.hold_application_until_proxy_starts == Some(true);
    place(&mut pod.spec, proxy, init, native, hold);
    Ok(Injected { pod, warnings: wishes.warnings })
}

fn template() -> Result<Pod, Refusal> {
    serde_saphyr::from_str(TEMPLATE)
        .map_err(|error| Refusal::Unreadable(format!("deploy/sidecar/sidecar.yaml: {error}")))
}

fn container(containers: &[Container], name: &str) -> Result<Container, Refusal> {
    let found = containers.iter().find(|container| container.name == name).cloned();
    found.ok_or_else(|| Refusal::Unreadable(format!("deploy/sidecar/sidecar.yaml has no container `{name}`")))
}

/// A container of that name that the pod has, wherever it is.
fn take(spec: &mut Spec, name: &str) -> Option<Container> {
    let mut taken = None;
    for list in [&mut spec.containers, &mut spec.init_containers] {
        if let Some(at) = list.iter().position(|container| container.name == name) {
            taken = Some(list.remove(at));
        }
    }
    taken
}

/// What the sidecar is told of the application.
struct Application {
    names: String,
    ports: String,
}

fn application(spec: &Spec) -> Application {
    let names: Vec<&str> = spec.containers.iter().map(|container| &*container.name).collect();
    let ports: Vec<&Value> = spec.containers.iter().flat_map(|container| &container.ports).collect();
    Application { names: names.join(","), ports: json!(ports).to_string() }
}

/// Which program is started, and how.
fn start(proxy: &mut Container, settings: &Settings, wishes: &Wishes) {
    choose_image(proxy, settings, wishes);
    let workers = wishes.proxy.concurrency.unwrap_or(WORKERS);
    if workers > 0 {
        proxy.args.push(format!("--workers={workers}"));
    }
    proxy.args.extend(wishes.log.as_ref().map(|level| format!("--log={level}")));
    if let Some(duration) = wishes.proxy.termination_drain_duration {
        proxy.set_env("TERMINATION_DRAIN_DURATION_SECONDS", &duration.get().as_secs().to_string());
    }
    for (name, value) in &wishes.proxy.proxy_metadata {
        proxy.set_env(name, value);
    }
}

fn choose_image(container: &mut Container, settings: &Settings, wishes: &Wishes) {
    if let Some(image) = wishes.image.as_ref().or(settings.image.as_ref()) {
        container.image = Some(image.clone());
    }
    container.image_pull_policy.clone_from(&settings.pull_policy);
}

/// Resources, readiness and mounts.
fn ask(proxy: &mut Container, wishes: &Wishes) {
    let resources = proxy.resources.get_or_insert_default();
    // What is asked for by default may be more than the limit, and then no pod would be made. Kubernetes asks for as much as the
    // limit where nothing is said.
    resources.requests.retain(|resource, _| !wishes.limits.contains_key(resource));
    resources.requests.extend(wishes.requests.clone());
    resources.limits.extend(wishes.limits.clone());
    proxy.volume_mounts.extend(wishes.mounts.iter().cloned());
    if !wishes.readiness {
        (proxy.readiness_probe, proxy.startup_probe) = (None, None);
    }
    if let Some(probe) = &mut proxy.readiness_probe {
        probe.initial_delay_seconds = wishes.initial_delay_seconds.or(probe.initial_delay_seconds);
        probe.period_seconds = wishes.period_seconds.or(probe.period_seconds);
        probe.failure_threshold = wishes.failure_threshold.or(probe.failure_threshold);
    }
}

/// What an init container that stays has, and a container has not; and the other way round.
fn stay(proxy: &mut Container, wishes: &Wishes, native: bool) {
    if native {
        proxy.restart_policy = Some("Always".to_owned());
        proxy.lifecycle = Map::new();
        return;
    }
    proxy.startup_probe = None;
    if wishes.proxy.hold_application_until_proxy_starts != Some(true) {
        proxy.lifecycle.remove("postStart");
    }
}

/// The user's container over ours; the image `auto` means ours.
fn with_own(proxy: Container, own: Option<Container>) -> Result<Container, Refusal> {
    let Some(mut own) = own else { return Ok(proxy) };
    own.image = own.image.filter(|image| image != "auto");
    let unreadable = |error: serde_json::Error| Refusal::Unreadable(format!("container `{PROXY}`: {error}"));
    let mut merged = serde_json::to_value(proxy).map_err(unreadable)?;
    overlay::lay(&mut merged, serde_json::to_value(own).map_err(unreadable)?);
    serde_json::from_value(merged).map_err(unreadable)
}

/// The init container that leads connections. Those of the user that the sidecar runs as are its own.
fn redirect(template: &Pod, settings: &Settings, wishes: &Wishes, proxy: &Container) -> Result<Container, Refusal> {
    let mut init = container(&template.spec.init_containers, INIT)?;
    choose_image(&mut init, settings, wishes);
    let id = |field: &str| proxy.security_context.get(field).and_then(Value::as_u64).unwrap_or(1337).to_string();
    let (user, group) = (id("runAsUser"), id("runAsGroup"));
    init.args.extend(["-u".to_owned(), user.clone()]);
    if group != user {
        init.args.extend(["-g".to_owned(), group]);
    }
    init.args.extend(["-m", "REDIRECT"].map(str::to_owned));
    init.args.extend(wishes.redirect.iter().cloned());
    for (name, value) in &wishes.proxy.proxy_metadata {
        init.set_env(name, value);
    }
    init.resources.clone_from(&proxy.resources);
    Ok(init)
}

/// Adds them, and yields the names of those that were not there.
fn volumes(spec: &mut Spec, template: Vec<Value>, wishes: &Wishes) -> Vec<String> {
    let name = |volume: &Value| volume.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut added = Vec::new();
    for volume in template.into_iter().chain(wishes.volumes.iter().cloned()) {
        let called = name(&volume);
        if !spec.volumes.iter().any(|known| name(known) == called) {
            spec.volumes.push(volume);
            added.push(called);
        }
    }
    added
}

/// Before all others where it can be, so that they are part of the mesh. Otherwise the rules come last, so that init containers
/// reach the network, and the sidecar too, so that `kubectl exec` goes to the application.
fn place(spec: &mut Spec, proxy: Container, init: Option<Container>, native: bool, hold: bool) {
    if native {
        spec.init_containers.splice(0..0, init.into_iter().chain([proxy]));
        return;
    }
    spec.init_containers.extend(init);
    let at = if hold { 0 } else { spec.containers.len() };
    spec.containers.insert(at, proxy);
}

/// What was added, in Istio's words.
fn status(init: bool, native: bool, volumes: &[String]) -> String {
    let mut first: Vec<&str> = if init { vec![INIT] } else { Vec::new() };
    if native {
        first.push(PROXY);
    }
    let list = |names: &[&str]| if names.is_empty() { Value::Null } else { json!(names) };
    let containers = if native { Value::Null } else { json!([PROXY]) };
    json!({
        "initContainers": list(&first),
        "containers": containers,
        "volumes": volumes,
        "imagePullSecrets": null,
        "revision": REVISION,
    })
    .to_string()
}

/// Labels and annotations, where the user has not written them.
fn mark(pod: &mut Pod, labels: &std::collections::BTreeMap<String, String>, workload: &Workload, status: String) {
    let (name, revision) = workload.canonical(pod);
    let first = pod.spec.containers.first().map(|container| container.name.clone());
    let metadata = &mut pod.metadata;
    let canonical = [(CANONICAL_NAME, name), (CANONICAL_REVISION, revision)];
    let canonical = canonical.map(|(label, value)| (label.to_owned(), value));
    for (label, value) in labels.clone().into_iter().chain(canonical) {
        metadata.labels.entry(label).or_insert(value);
    }
    for annotation in ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"] {
        if let Some(first) = &first {
            metadata.annotations.entry(annotation.to_owned()).or_insert_with(|| first.clone());
        }
    }
    metadata.annotations.insert(REVISION_LABEL.to_owned(), REVISION.to_owned());
    metadata.annotations.insert(STATUS.to_owned(), status);
}

#[cfg(test)]
#[path = "sidecar_tests.rs"]
mod tests;

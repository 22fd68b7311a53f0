//! `meshctl x describe pod`: what of the mesh applies to a pod. Whether it has a sidecar, and why not; its services, and who sends
//! requests there; what it demands of its peers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as KubeNamespace, Pod as KubePod};
use kube::api::Api;
use mesh_core::api::{AuthorizationPolicy, MatchLabels, RateLimit, RouteDestination, VirtualService};
use mesh_core::model::MtlsMode;
use mesh_core::translate::{PeerModes, peer_modes};
use mesh_core::world::{Entry, World, hostname, selects};
use serde::Serialize;

use super::cluster::{Cluster, ClusterArgs, Target};
use super::exit;
use super::output::Output;
use super::trouble::said;
use crate::inject::{Decision, KEY, Namespace, PROXY, Pod, SETTINGS, Selection, decide, is_injected};

#[derive(Clone, Debug, Args)]
pub struct DescribeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// A pod.
    Pod(PodArgs),
}

#[derive(Clone, Debug, Args)]
struct PodArgs {
    /// POD[.NS] or deploy/NAME[.NS]
    #[arg(value_name = "POD[.NS]")]
    target: Target,
    /// Where the target does not say it [default: that of the kubeconfig]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

pub async fn run(cluster: &ClusterArgs, args: &DescribeArgs) -> anyhow::Result<u8> {
    let What::Pod(args) = &args.what;
    let cluster = cluster.connect().await?;
    let default = cluster.client.default_namespace().to_owned();
    let name = cluster.find(&args.target, Some(args.namespace.as_deref().unwrap_or(&default))).await?;
    let pods: Api<KubePod> = Api::namespaced(cluster.client.clone(), &name.namespace);
    let found = pods.get_opt(&name.name).await.map_err(said)?;
    let Some(found) = found else { return Err(cluster.absent::<KubePod>(&name.name, &name.namespace).await) };
    let pod = Pod::read(&serde_json::to_value(found)?)?;
    let namespaces: Api<KubeNamespace> = Api::all(cluster.client.clone());
    let labels = namespaces.get(&name.namespace).await.map_err(said)?.metadata.labels.unwrap_or_default();
    let listed = crate::kube::list(&cluster.client, &cluster.system_namespace, &name.namespace).await.map_err(said)?;
    listed.unavailable.iter().filter(|kind| kind.is_read).for_each(|kind| eprintln!("meshctl: {kind}"));
    let world = World::from_objects(listed.objects);
    let selection = selection(&cluster).await?;
    let subject = Subject {
        pod: &pod,
        name: &name.name,
        namespace: &name.namespace,
        namespace_labels: &labels,
        selection: &selection,
    };
    let description = describe(&subject, &world);
    super::print(&args.output.render(&description, || text(&description))?)?;
    Ok(exit::OK)
}

/// The injector's settings. Who may not see them is told what is so without.
async fn selection(cluster: &Cluster) -> anyhow::Result<Selection> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.system_namespace);
    let map = match maps.get_opt(SETTINGS).await {
        Err(kube::Error::Api(status)) if status.is_forbidden() => None,
        map => map.map_err(said)?,
    };
    let text = map.and_then(|map| map.data?.remove(KEY)).unwrap_or_else(|| "{}".to_owned());
    Selection::read(&text).map_err(|error| anyhow!("ConfigMap {}/{SETTINGS}: {error}", cluster.system_namespace))
}

/// Which pod, and where it is.
struct Subject<'a> {
    pod: &'a Pod,
    name: &'a str,
    namespace: &'a str,
    namespace_labels: &'a BTreeMap<String, String>,
    selection: &'a Selection,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    pod: String,
    sidecar: Sidecar,
    /// The Sidecar that counts for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    services: Vec<ServiceOf>,
    /// None: a gateway, whom PeerAuthentications do not concern.
    mutual_tls: Option<MutualTls>,
    request_authentications: Vec<String>,
    authorization_policies: Vec<String>,
    rate_limits: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sidecar {
    present: bool,
    /// Why not, or what is special.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceOf {
    host: String,
    /// `9080 http`
    ports: Vec<String>,
    destination_rules: Vec<String>,
    virtual_services: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MutualTls {
    mode: String,
    /// Of ports for which something else is said.
    ports: BTreeMap<u16, String>,
    /// What says so, the narrowest first.
    from: Vec<String>,
}

fn describe(subject: &Subject<'_>, world: &World) -> Description {
    let labels = &subject.pod.metadata.labels;
    let selected =
        |selector: Option<&MatchLabels>| selector.is_none_or(|selector| selects(&selector.match_labels, labels));
    let spaces = spaces(world, subject.namespace);
    let services = world.kube_services(subject.namespace);
    let services =
        services.filter(|service| !service.spec.selector.is_empty() && selects(&service.spec.selector, labels));
    let services =
        services.map(|service| of_service(world, &service.reference.name, subject.namespace, labels)).collect();
    let sidecar = sidecar(subject);
    let is_gateway = sidecar.present && !is_injected(subject.pod);
    let authentications = spaces.iter().flat_map(|namespace| world.request_authentications(namespace));
    let authentications = authentications.filter(|entry| selected(entry.spec.selector.as_ref()));
    let authorizations = spaces.iter().flat_map(|namespace| world.authorization_policies(namespace));
    let authorizations = authorizations.filter(|entry| selected(entry.spec.selector.as_ref()));
    let limits = spaces.iter().flat_map(|namespace| world.rate_limits(namespace));
    let attached = |entry: &Entry<RateLimit>| !entry.spec.target_refs.is_empty();
    let limits = limits.filter(|entry| selected(entry.spec.selector.as_ref()) && !attached(entry));
    Description {
        pod: format!("{}.{}", subject.name, subject.namespace),
        sidecar,
        scope: world.sidecars_for(subject.namespace, labels).first().map(|entry| entry.reference.to_string()),
        services,
        mutual_tls: (!is_gateway).then(|| mutual_tls(world, subject.namespace, labels)),
        request_authentications: authentications.map(|entry| entry.reference.to_string()).collect(),
        authorization_policies: authorizations.map(|entry| policy(entry)).collect(),
        rate_limits: limits.map(|entry| entry.reference.to_string()).collect(),
    }
}

/// Where policies for the pod may be: in its own namespace, and in that of the mesh.
fn spaces<'a>(world: &'a World, namespace: &'a str) -> Vec<&'a str> {
    let root = world.mesh().root_namespace.as_str();
    if root == namespace { vec![namespace] } else { vec![namespace, root] }
}

fn sidecar(subject: &Subject<'_>) -> Sidecar {
    let Subject { pod, namespace, namespace_labels, selection, .. } = subject;
    let present = pod.spec.containers.iter().chain(&pod.spec.init_containers).any(|container| container.name == PROXY);
    if present {
        let why = (!is_injected(pod)).then(|| "not by injection: it is a gateway, or was written by hand".to_owned());
        return Sidecar { present, why };
    }
    let why = match decide(Namespace { name: namespace, labels: Some(namespace_labels) }, pod, selection) {
        Decision::Leave(reason) => reason.to_string(),
        Decision::Inject => {
            "it is older than what asks for it, or the webhook was away: create it anew (`kubectl rollout restart`)"
                .to_owned()
        }
    };
    Sidecar { present, why: Some(why) }
}

fn of_service(world: &World, name: &str, namespace: &str, labels: &BTreeMap<String, String>) -> ServiceOf {
    let host = hostname::service(name, namespace);
    let registry = &world.index().registry;
    let service = registry.find(&host, namespace, namespace);
    let ports = service.into_iter().flat_map(|service| &service.ports);
    let named = |text: &str, of: &str| {
        hostname::covers(&hostname::pattern(&hostname::expand(text, of)), &hostname::pattern(&host))
    };
    let rules = world.destination_rules().filter(|entry| named(&entry.spec.host, entry.namespace()));
    let rules = rules.map(|entry| {
        let subsets = entry.spec.subsets.iter().filter(|subset| selects(&subset.labels, labels));
        let subsets: Vec<&str> = subsets.map(|subset| &*subset.name).collect();
        let subsets = match (subsets.is_empty(), entry.spec.subsets.is_empty()) {
            (_, true) => String::new(),
            (true, false) => " (the pod is in none of its subsets)".to_owned(),
            (false, _) => format!(" (subsets of the pod: {})", subsets.join(", ")),
        };
        format!("{}{subsets}", entry.reference)
    });
    let virtual_services = world.virtual_services().filter_map(|entry| {
        let of = entry.namespace();
        let is_for = entry.spec.hosts.iter().any(|text| hostname::expand(text, of) == host);
        let leads = destinations(&entry.spec).any(|text| hostname::expand(text, of) == host);
        let gateways = if entry.spec.gateways.is_empty() { "mesh".to_owned() } else { entry.spec.gateways.join(", ") };
        let what = match (is_for, leads) {
            (true, _) => "for its host",
            (false, true) => "leads to it",
            (false, false) => return None,
        };
        Some(format!("{} ({what}; gateways: {gateways})", entry.reference))
    });
    ServiceOf {
        ports: ports.map(|port| format!("{} {}", port.number, format!("{:?}", port.protocol).to_lowercase())).collect(),
        destination_rules: rules.collect(),
        virtual_services: virtual_services.collect(),
        host: host.clone(),
    }
}

fn destinations(rules: &VirtualService) -> impl Iterator<Item = &str> {
    let http = rules.http.iter().flat_map(|rule| rule.route.iter().map(|route| &*route.destination.host));
    let tls = rules.tls.iter().flat_map(|rule| hosts(&rule.route));
    let tcp = rules.tcp.iter().flat_map(|rule| hosts(&rule.route));
    http.chain(tls).chain(tcp)
}

fn hosts(routes: &[RouteDestination]) -> impl Iterator<Item = &str> {
    routes.iter().map(|route| &*route.destination.host)
}

fn mutual_tls(world: &World, namespace: &str, labels: &BTreeMap<String, String>) -> MutualTls {
    let PeerModes { ports, others, origins } = peer_modes(world, namespace, labels);
    MutualTls {
        mode: word(others).to_owned(),
        ports: ports.into_iter().map(|(port, mode)| (port, word(mode).to_owned())).collect(),
        from: origins.iter().rev().map(ToString::to_string).collect(),
    }
}

/// As users write it.
fn word(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Disable => "DISABLE",
        MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Strict => "STRICT",
    }
}

fn policy(entry: &Entry<AuthorizationPolicy>) -> String {
    let action = entry.spec.action.unwrap_or_default();
    format!("{} ({})", entry.reference, format!("{action:?}").to_uppercase())
}

fn mutual_tls_text(description: &Description) -> String {
    let Some(MutualTls { mode, ports, from }) = &description.mutual_tls else {
        return "of a gateway its servers say what they demand (`tls` of the Gateway), and no PeerAuthentication"
            .to_owned();
    };
    let ports: String = ports.iter().map(|(port, mode)| format!(", port {port} {mode}")).collect();
    let from = if from.is_empty() { "no PeerAuthentication: the default".to_owned() } else { from.join(", ") };
    let not_yet = if description.sidecar.present { "" } else { "; nobody demands it while the pod has no sidecar" };
    format!("{mode}{ports} ({from}){not_yet}")
}

fn text(description: &Description) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<14}{}", if value.is_empty() { "-" } else { value });
    };
    line("Pod", &description.pod);
    let present = if description.sidecar.present { "yes" } else { "no" };
    let why = description.sidecar.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    line("Sidecar", &format!("{present}{why}"));
    if let Some(scope) = &description.scope {
        line("Scope", scope);
    }
    if description.services.is_empty() {
        line("Services", "none selects it: nobody's rules lead here");
    }
    for service in &description.services {
        line("Service", &format!("{} ({})", service.host, service.ports.join(", ")));
        service.destination_rules.iter().for_each(|rule| line("", rule));
        service.virtual_services.iter().for_each(|rule| line("", rule));
    }
    line("Mutual TLS", &mutual_tls_text(description));
    line("Tokens", &description.request_authentications.join(", "));
    line("Policies", &description.authorization_policies.join(", "));
    if !description.rate_limits.is_empty() {
        line("Limits", &description.rate_limits.join(", "));
    }
    out
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;

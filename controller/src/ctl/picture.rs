//! What a gateway would make of objects of the cluster, of files, or of files on top of the cluster: the same parsing,
//! translation and tables as a running one has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use mesh_core::analyze::{analyze, analyze_objects};
use mesh_core::api::{ApiObject, Spec};
use mesh_core::certificate;
use mesh_core::compile::compile;
use mesh_core::diag::{self, Diagnostic, Verdict};
use mesh_core::model::{IpFamilies, ProxyInfo, ResourceSet, Role};
use mesh_core::object::ObjectRef;
use mesh_core::snapshot::Snapshot;
use mesh_core::translate::translate;
use mesh_core::world::{World, selects};

use super::cluster::ClusterArgs;
use super::files;
use super::trouble::said;
use crate::kube::{Unavailable, list};

/// For which gateway.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Namespace of the gateway's pods, where its TLS secrets are [default: where the cluster has pods with these labels, or the
    /// files a pod or a Service that selects them; else that of --system-namespace]
    #[arg(long, value_name = "NS")]
    namespace_of_gateway: Option<String>,
    /// Labels of the gateway: it serves the Gateways whose selector they satisfy. If a pod of the cluster has them, its
    /// others count too.
    #[arg(long, value_name = "K=V,...", default_value = "istio=ingressgateway", value_parser = parse_labels)]
    labels: Labels,
}

/// `k=v,k=v`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Labels(BTreeMap<String, String>);

fn parse_labels(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| match pair.split_once('=') {
        Some(("", _)) => Err(format!("`{pair}` has an empty key")),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("`{pair}` is not KEY=VALUE")),
    });
    pairs.collect::<Result<_, _>>().map(Labels)
}

/// Where objects come from.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// They replace objects of the cluster of the same kind, namespace and name.
    pub files: &'a [PathBuf],
    pub cluster: &'a ClusterArgs,
    /// Whether it is asked.
    pub use_cluster: bool,
    /// For objects in files that do not say theirs.
    pub default_namespace: &'a str,
}

/// See the module.
#[derive(Debug)]
pub struct Picture {
    pub world: World,
    pub set: ResourceSet,
    pub snapshot: Snapshot,
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that it was made of.
    pub objects: Vec<ObjectRef>,
    /// Kinds of the cluster that are missing from it.
    pub unavailable: Vec<Unavailable>,
    /// For which gateway it is, where others are as good.
    pub assumed: Option<String>,
}

impl Picture {
    /// So much could not be seen that finding nothing means nothing. Secrets are often hidden, and not missed.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.unavailable
            .iter()
            .any(|unavailable| unavailable.is_read && !unavailable.missing && unavailable.kind != "secrets")
    }

    /// What could not be read: there may be more objects than it was made of.
    pub fn unreadable(&self) -> impl Iterator<Item = &Diagnostic> {
        let is_unreadable = |one: &&Diagnostic| diag::verdict(std::slice::from_ref(*one)) == Verdict::BadData;
        self.diagnostics.iter().filter(is_unreadable)
    }
}

/// How much is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The gateway's tables, and what is found on the way to them.
    Tables,
    /// All that is wrong with the objects, for sidecars too: a search that may take seconds.
    Analysis,
}

/// Reads all sources.
pub async fn take(sources: &Sources<'_>, gateway: &GatewayArgs, depth: Depth) -> anyhow::Result<Picture> {
    let files = files::read(sources.files, sources.default_namespace);
    let (system, labels) = (&sources.cluster.system_namespace, &gateway.labels.0);
    let home = |found: BTreeSet<String>| match &gateway.namespace_of_gateway {
        Some(namespace) => Home { namespace: namespace.clone(), assumed: None },
        None => Home::among(found, system),
    };
    let mut found = homes(&files.objects, labels);
    let mut below = crate::kube::Listed::default();
    if sources.use_cluster {
        let client = sources.cluster.connect().await?.client;
        // Pods that run are more than what a file would have.
        let running = homes_in(&client, labels).await.map_err(said)?;
        if !running.is_empty() {
            found = running;
        }
        below = list(&client, system, &home(found.clone()).namespace).await.map_err(said)?;
    }
    let Home { namespace, assumed } = home(found);
    let proxy = proxy(&below.objects, &namespace, labels);
    let given: HashSet<ObjectRef> = files.objects.iter().map(ApiObject::object_ref).collect();
    let mut diagnostics = files.diagnostics;
    let is_replaced = |reference: &ObjectRef| given.contains(reference);
    let old = below.diagnostics.into_iter();
    diagnostics.extend(old.filter(|diagnostic| !diagnostic.object.as_ref().is_some_and(is_replaced)));
    let mut objects = below.objects;
    objects.retain(|object| !is_replaced(&object.object_ref()));
    objects.extend(files.objects);
    Ok(Picture { assumed, ..draw(objects, diagnostics, &proxy, below.unavailable, (SystemTime::now(), depth)) })
}

/// Where the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Home {
    namespace: String,
    /// Gateways with the same labels run elsewhere too.
    assumed: Option<String>,
}

impl Home {
    /// That of the installation if it is one of them, or if there are none.
    fn among(found: BTreeSet<String>, system: &str) -> Home {
        let namespace = match found.first() {
            Some(first) if !found.contains(system) => first.clone(),
            _ => system.to_owned(),
        };
        let others: Vec<&str> = found.iter().filter(|other| **other != namespace).map(String::as_str).collect();
        let assumed = (!others.is_empty()).then(|| {
            let others = others.join(", ");
            format!("this is for the gateways of {namespace}; others with these labels run in {others}: see --namespace-of-gateway")
        });
        Home { namespace, assumed }
    }
}

/// Namespaces in which objects say that pods with the labels run: such pods, and Services that select them.
fn homes(objects: &[ApiObject], labels: &BTreeMap<String, String>) -> BTreeSet<String> {
    let says = |object: &&ApiObject| match &object.spec {
        Spec::Pod(_) => selects(labels, &object.meta.labels),
        Spec::Service(service) => !service.selector.is_empty() && selects(&service.selector, labels),
        _ => false,
    };
    let found = objects.iter().filter(|_| !labels.is_empty()).filter(says);
    found.map(|object| object.meta.namespace.clone()).collect()
}

/// The same of the cluster, by its pods. None where they may not be seen.
async fn homes_in(client: &Client, labels: &BTreeMap<String, String>) -> kube::Result<BTreeSet<String>> {
    if labels.is_empty() {
        return Ok(BTreeSet::new());
    }
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let pods: Api<Pod> = Api::all(client.clone());
    match pods.list_metadata(&ListParams::default().labels(&pairs.join(","))).await {
        Ok(pods) => Ok(pods.items.into_iter().filter_map(|pod| pod.metadata.namespace).collect()),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// The gateway, as a pod says that has the wanted labels: by its other ones Services select it, and say which port is which; by
/// its addresses it has one family or two.
fn proxy(objects: &[ApiObject], namespace: &str, wanted: &BTreeMap<String, String>) -> ProxyInfo {
    let mut pods = objects.iter().filter_map(|object| match &object.spec {
        Spec::Pod(pod) if object.meta.namespace == namespace => Some((&object.meta.labels, pod)),
        _ => None,
    });
    let found = pods
        .find(|(labels, _)| !wanted.is_empty() && wanted.iter().all(|(name, value)| labels.get(name) == Some(value)));
    let Some((labels, pod)) = found else { return ProxyInfo::edge("meshctl", namespace, wanted.clone()) };
    let addresses: Vec<IpAddr> = pod.addresses().collect();
    ProxyInfo { families: IpFamilies::of(&addresses), ..ProxyInfo::edge("meshctl", namespace, labels.clone()) }
}

/// Where there is a mesh, rules for `mesh` are looked at as a sidecar of their namespace would, and as those would that have a
/// Sidecar of their own.
fn sidecars(objects: &[ApiObject]) -> Vec<ProxyInfo> {
    let in_mesh = |object: &ApiObject| match &object.spec {
        Spec::Pod(_) => object.meta.annotations.contains_key("sidecar.istio.io/status"),
        Spec::Sidecar(_) => true,
        _ => false,
    };
    if !objects.iter().any(in_mesh) {
        return Vec::new();
    }
    let rules = objects.iter().filter(|object| matches!(object.spec, Spec::VirtualService(_) | Spec::Sidecar(_)));
    let namespaces: BTreeSet<&str> = rules.map(|object| &*object.meta.namespace).collect();
    let sidecar =
        |namespace: &str, labels| ProxyInfo { role: Role::Sidecar, ..ProxyInfo::edge("meshctl", namespace, labels) };
    let of_namespaces = namespaces.into_iter().map(|namespace| sidecar(namespace, BTreeMap::new()));
    // One pod stands for all that the same Sidecars select.
    let mut chosen: BTreeMap<Vec<ObjectRef>, &ApiObject> = BTreeMap::new();
    for pod in objects.iter().filter(|object| matches!(object.spec, Spec::Pod(_))) {
        let selecting = objects.iter().filter(|object| match &object.spec {
            Spec::Sidecar(spec) if spec.is_for_some() && object.meta.namespace == pod.meta.namespace => {
                spec.workload_selector.as_ref().is_some_and(|wanted| selects(&wanted.labels, &pod.meta.labels))
            }
            _ => false,
        });
        let names: Vec<ObjectRef> = selecting.map(ApiObject::object_ref).collect();
        if !names.is_empty() {
            chosen.entry(names).or_insert(pod);
        }
    }
    let of_pods = chosen.into_values().map(|pod| sidecar(&pod.meta.namespace, pod.meta.labels.clone()));
    of_namespaces.chain(of_pods).collect()
}

/// What is not exported to a namespace is missed there by rules of another one, too, which nobody there may ever follow.
fn is_of_others(said: &Diagnostic, sidecar: &ProxyInfo) -> bool {
    let is_elsewhere = said.object.as_ref().is_some_and(|object| *object.namespace != *sidecar.namespace);
    is_elsewhere && said.code == diag::DESTINATION_HOST_UNKNOWN.id
}

/// That an object of an unavailable kind is missing means nothing.
fn draw(
    objects: Vec<ApiObject>,
    mut diagnostics: Vec<Diagnostic>,
    proxy: &ProxyInfo,
    unavailable: Vec<Unavailable>,
    (now, depth): (SystemTime, Depth),
) -> Picture {
    let positions: HashMap<ObjectRef, _> =
        objects.iter().map(|object| (object.object_ref(), object.positions.clone())).collect();
    let mut names: Vec<ObjectRef> = positions.keys().cloned().collect();
    names.sort();
    let sidecars = if depth == Depth::Analysis { sidecars(&objects) } else { Vec::new() };
    let mut world = World::from_objects(objects);
    world.always_look_at([&*proxy.namespace]);
    let translation = translate(&world, proxy);
    let compiled = compile(&translation.set, None, world.generation());
    let blind = |kind: &str| unavailable.iter().any(|unavailable| unavailable.kind == kind);
    let known = |diagnostic: &Diagnostic| match diagnostic.code {
        code if code == diag::SECRET_MISSING.id => !blind("secrets"),
        code if code == diag::DESTINATION_HOST_UNKNOWN.id => !blind("services") && !blind("serviceentries"),
        code if code == diag::DESTINATION_SUBSET_UNKNOWN.id => !blind("destinationrules"),
        code if code == diag::GATEWAY_UNKNOWN.id => !blind("gateways"),
        code if code == diag::POLICY_WITHOUT_WORKLOAD.id => !blind("pods"),
        _ => true,
    };
    let mut found = translation.diagnostics;
    if depth == Depth::Analysis {
        analyze(&world, &translation.set, &compiled.snapshot, None, &mut found);
    }
    for sidecar in &sidecars {
        let translation = translate(&world, sidecar);
        let snapshot = compile(&translation.set, None, world.generation()).snapshot;
        let mut of_sidecar = translation.diagnostics;
        analyze(&world, &translation.set, &snapshot, None, &mut of_sidecar);
        of_sidecar.retain(|said| !is_of_others(said, sidecar));
        found.append(&mut of_sidecar);
    }
    analyze_objects(&world, &mut found);
    diagnostics.extend(found.into_iter().filter(known));
    diagnostics.extend(compiled.diagnostics);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    diagnostics.extend(certificate::check_secrets(&translation.set, now, &provider));
    for diagnostic in &mut diagnostics {
        match &diagnostic.position {
            // Of an object of the cluster: lines of a text that nobody wrote.
            Some(position) if position.file.is_empty() => diagnostic.position = None,
            Some(_) => {}
            None => {
                let positions = diagnostic.object.as_ref().and_then(|object| positions.get(object));
                let found = positions.and_then(|positions| positions.get(&diagnostic.field));
                diagnostic.position = found.filter(|position| !position.file.is_empty());
            }
        }
    }
    diag::arrange(&mut diagnostics);
    Picture {
        world,
        set: translation.set,
        snapshot: compiled.snapshot,
        diagnostics,
        objects: names,
        unavailable,
        assumed: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_gateway_runs_is_where_pods_are_or_services_select_them() {
        let objects = r#"
{ apiVersion: v1, kind: Pod, metadata: { name: gw, namespace: edge, labels: { istio: ingressgateway, app: gw } } }
---
{ apiVersion: v1, kind: Pod, metadata: { name: other, namespace: other, labels: { istio: egressgateway } } }
---
{ apiVersion: v1, kind: Service, metadata: { name: gw, namespace: front }, spec: { selector: { istio: ingressgateway }, ports: [{ port: 80 }] } }
---
{ apiVersion: v1, kind: Service, metadata: { name: narrow, namespace: narrow }, spec: { selector: { istio: ingressgateway, app: x }, ports: [{ port: 80 }] } }
---
{ apiVersion: v1, kind: Service, metadata: { name: any, namespace: any }, spec: { ports: [{ port: 80 }] } }
"#;
        let objects = mesh_core::api::parse("", objects, "default").objects;
        let wanted = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        assert_eq!(homes(&objects, &wanted), names(&["edge", "front"]));
        assert_eq!(homes(&objects, &BTreeMap::new()), names(&[]));
        let among = |found: &[&str]| {
            let Home { namespace, assumed } = Home::among(names(found), "sys");
            (namespace, assumed.unwrap_or_default())
        };
        let alone = |name: &str| (name.to_owned(), String::new());
        assert_eq!(among(&[]), alone("sys"));
        assert_eq!(among(&["edge"]), alone("edge"));
        assert_eq!(among(&["sys"]), alone("sys"));
        for (found, at, others) in [(["a", "b"], "a", "b"), (["a", "sys"], "sys", "a")] {
            let (namespace, assumed) = among(&found);
            assert_eq!(namespace, at);
            assert!(assumed.contains(&format!("of {at}; others with these labels run in {others}")), "{assumed}");
        }
    }

    #[test]
    fn a_pod_of_the_gateway_says_its_labels_and_families() {
        let pods = r#"
{ apiVersion: v1, kind: Pod, metadata: { name: other, namespace: sys, labels: { istio: egressgateway } } }
---
{ apiVersion: v1, kind: Pod, metadata: { name: far, namespace: default, labels: { istio: ingressgateway, app: far } } }
---
{ apiVersion: v1, kind: Pod, metadata: { name: gw, namespace: sys, labels: { istio: ingressgateway, app: gw } }, status: { podIPs: [{ ip: "fd00::1" }, { ip: 10.0.0.1 }] } }
"#;
        let objects = mesh_core::api::parse("", pods, "default").objects;
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let wanted = labels(&[("istio", "ingressgateway")]);
        let found = |namespace: &str, wanted: &BTreeMap<String, String>| {
            let proxy = proxy(&objects, namespace, wanted);
            (proxy.labels, proxy.families)
        };
        let all = labels(&[("istio", "ingressgateway"), ("app", "gw")]);
        assert_eq!(found("sys", &wanted), (all, IpFamilies::V6First));
        assert_eq!(found("elsewhere", &wanted), (wanted.clone(), IpFamilies::Unknown));
        assert_eq!(found("sys", &BTreeMap::new()), (BTreeMap::new(), IpFamilies::Unknown));
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// For the usual gateway.
    pub fn picture(text: &str) -> Picture {
        picture_of("objects.yaml", text)
    }

    pub fn picture_of(file: &str, text: &str) -> Picture {
        let parsed = mesh_core::api::parse(file, text, "default");
        let proxy = ProxyInfo::edge("test", "istio-system", [("istio".to_owned(), "ingressgateway".to_owned())].into());
        draw(parsed.objects, parsed.diagnostics, &proxy, Vec::new(), (SystemTime::UNIX_EPOCH, Depth::Analysis))
    }
}

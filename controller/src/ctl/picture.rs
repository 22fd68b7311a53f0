//! What a gateway would make of objects of the cluster, of files, or of files on top of the cluster: the same parsing,
//! translation and tables as a running one has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use mesh_core::api::{ApiObject, Spec};
use mesh_core::certificate;
use mesh_core::compile::compile;
use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::{IpFamilies, ProxyInfo, ResourceSet};
use mesh_core::object::ObjectRef;
use mesh_core::snapshot::Snapshot;
use mesh_core::translate::translate;
use mesh_core::world::World;

use super::cluster::{ClusterArgs, said};
use super::files;
use crate::kube::{Unavailable, list};

/// Namespace of the gateway where no cluster says it; as `meshgate check` has it.
const GATEWAY_NAMESPACE: &str = "istio-system";

/// For which gateway.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Namespace of the gateway [default: that of --system-namespace; without a cluster: istio-system]
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
    /// None: no cluster is asked.
    pub cluster: Option<&'a ClusterArgs>,
    /// For objects in files that do not say theirs.
    pub default_namespace: &'a str,
}

/// See the module.
#[derive(Debug)]
pub struct Picture {
    pub set: ResourceSet,
    pub snapshot: Snapshot,
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that it was made of.
    pub objects: Vec<ObjectRef>,
    /// Kinds of the cluster that are missing from it.
    pub unavailable: Vec<Unavailable>,
}

impl Picture {
    /// What is missing, and why.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.unavailable.iter().map(|unavailable| match unavailable.missing {
            true => format!("{} do not exist here: their definition is not installed", unavailable.kind),
            false => format!("{} cannot be listed: {}", unavailable.kind, unavailable.reason),
        })
    }

    /// So much could not be seen that finding nothing means nothing. Secrets are often hidden, and not missed.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.unavailable.iter().any(|unavailable| !unavailable.missing && unavailable.kind != "secrets")
    }
}

/// Reads all sources.
pub async fn take(sources: &Sources<'_>, gateway: &GatewayArgs) -> anyhow::Result<Picture> {
    let files = files::read(sources.files, sources.default_namespace);
    let mut namespace = gateway.namespace_of_gateway.clone();
    let mut below = crate::kube::Listed::default();
    if let Some(cluster) = sources.cluster {
        let namespace = namespace.get_or_insert_with(|| cluster.system_namespace.clone());
        let connected = cluster.connect().await?;
        below = list(&connected.client, &cluster.system_namespace, namespace).await.map_err(said)?;
    }
    let namespace = namespace.unwrap_or_else(|| GATEWAY_NAMESPACE.to_owned());
    let proxy = proxy(&below.objects, &namespace, &gateway.labels.0);
    let given: HashSet<ObjectRef> = files.objects.iter().map(ApiObject::object_ref).collect();
    let mut diagnostics = files.diagnostics;
    let is_replaced = |reference: &ObjectRef| given.contains(reference);
    let old = below.diagnostics.into_iter();
    diagnostics.extend(old.filter(|diagnostic| !diagnostic.object.as_ref().is_some_and(is_replaced)));
    let mut objects = below.objects;
    objects.retain(|object| !is_replaced(&object.object_ref()));
    objects.extend(files.objects);
    Ok(draw(objects, diagnostics, &proxy, below.unavailable, SystemTime::now()))
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

/// That an object of an unavailable kind is missing means nothing.
fn draw(
    objects: Vec<ApiObject>,
    mut diagnostics: Vec<Diagnostic>,
    proxy: &ProxyInfo,
    unavailable: Vec<Unavailable>,
    now: SystemTime,
) -> Picture {
    let positions: HashMap<ObjectRef, _> =
        objects.iter().map(|object| (object.object_ref(), object.positions.clone())).collect();
    let mut names: Vec<ObjectRef> = positions.keys().cloned().collect();
    names.sort();
    let mut world = World::from_objects(objects);
    world.always_look_at([&*proxy.namespace]);
    let translation = translate(&world, proxy);
    let compiled = compile(&translation.set, None, world.generation());
    let blind = |kind: &str| unavailable.iter().any(|unavailable| unavailable.kind == kind);
    let known = |diagnostic: &Diagnostic| match diagnostic.code {
        code if code == diag::SECRET_MISSING.id => !blind("secrets"),
        code if code == diag::DESTINATION_HOST_UNKNOWN.id => !blind("services"),
        _ => true,
    };
    diagnostics.extend(translation.diagnostics.into_iter().filter(known));
    diagnostics.extend(compiled.diagnostics);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
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
    Picture { set: translation.set, snapshot: compiled.snapshot, diagnostics, objects: names, unavailable }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let parsed = mesh_core::api::parse("objects.yaml", text, "default");
        let proxy =
            ProxyInfo::edge("test", GATEWAY_NAMESPACE, [("istio".to_owned(), "ingressgateway".to_owned())].into());
        draw(parsed.objects, parsed.diagnostics, &proxy, Vec::new(), SystemTime::UNIX_EPOCH)
    }
}

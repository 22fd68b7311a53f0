//! Who is there already: an older installation, Istio, somebody with objects of our names or on our ports.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::{Finding, State};
use crate::ctl::manifests::{NAMESPACE, Name, PART_OF, kind};
use crate::ctl::trouble::{in_full, said};
use crate::inject::NAMESPACE_LABEL;

const GROUP: &str = "networking.istio.io";

pub(super) async fn check(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = names(client, objects).await?;
    findings.extend(definitions(client, objects).await?);
    findings.extend(match all::<ValidatingWebhookConfiguration>(client).await {
        Ok(webhooks) => judges(&webhooks),
        Err(error) => vec![unseen("webhooks", &error)],
    });
    findings.extend(match all::<MutatingWebhookConfiguration>(client).await {
        Ok(webhooks) => injectors(&webhooks),
        Err(error) => vec![unseen("sidecars", &error)],
    });
    findings.extend(match all::<Deployment>(client).await {
        Ok(deployments) => peers(&deployments),
        Err(error) => vec![unseen("other gateways", &error)],
    });
    let wanted = objects.iter().filter(|object| kind(object) == "Service");
    let wanted = wanted.map(|object| object.clone().try_parse::<Service>()).collect::<Result<Vec<Service>, _>>()?;
    findings.extend(match all::<Service>(client).await {
        Ok(services) => ports(&services, &wanted),
        Err(error) => vec![unseen("ports", &error)],
    });
    Ok(findings)
}

async fn all<K>(client: &Client) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let listed = Api::<K>::all(client.clone()).list(&ListParams::default()).await.map_err(said)?;
    Ok(listed.items)
}

fn unseen(check: &'static str, error: &anyhow::Error) -> Finding {
    Finding::new(check, State::Warning, format!("cannot tell: {}", in_full(error)))
}

/// Objects of our names.
async fn names(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<Vec<Finding>> {
    let (mut findings, mut ours) = (Vec::new(), 0_usize);
    for object in objects {
        let name = Name::of(object)?;
        match name.api(client).get_metadata_opt(&name.name).await.map_err(said) {
            Ok(None) => {}
            Ok(Some(found)) => match owner(&name, &found.metadata) {
                Some(finding) => findings.push(finding),
                None => ours += 1,
            },
            Err(error) => findings.push(unseen("names", &error.context(name.to_string()))),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::new(
            "names",
            State::Ok,
            match ours {
                0 => "none of them is taken".to_owned(),
                ours => format!("{ours} objects are of an installation that is brought to this version"),
            },
        ));
    }
    Ok(findings)
}

/// None: it is ours.
pub(super) fn owner(name: &Name, metadata: &ObjectMeta) -> Option<Finding> {
    if metadata.deletion_timestamp.is_some() {
        return Some(Finding::new("names", State::Problem, format!("{name} is being deleted")));
    }
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    if label(PART_OF.0) == Some(PART_OF.1) {
        return None;
    }
    let managers = metadata.managed_fields.iter().flatten().filter_map(|fields| fields.manager.as_deref());
    let mut who: Vec<&str> = label("app.kubernetes.io/managed-by").into_iter().chain(managers).collect();
    who.dedup();
    let who = if who.is_empty() { String::new() } else { format!(" ({})", who.join(", ")) };
    // A namespace is shared; anything else of that name is somebody's.
    let (state, more) = if name.is("Namespace") {
        (State::Warning, "; install uses it")
    } else {
        (State::Problem, ", and is not ours: `meshctl install --force-conflicts` takes it over")
    };
    Some(Finding::new("names", state, format!("{name} exists{who}{more}")))
}

async fn definitions(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<Vec<Finding>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut findings = Vec::new();
    for object in objects.iter().filter(|object| kind(object) == "CustomResourceDefinition") {
        let ours: CustomResourceDefinition = object.clone().try_parse()?;
        match api.get_opt(&ours.name_any()).await.map_err(said) {
            Ok(None) => {}
            Ok(Some(found)) => findings.extend(versions(&found, &ours)),
            Err(error) => findings.push(unseen("definitions", &error.context(ours.name_any()))),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::new("definitions", State::Ok, "no version that is served or stored would be lost"));
    }
    Ok(findings)
}

/// A version that is not in our definition could not be read any more.
pub(super) fn versions(found: &CustomResourceDefinition, ours: &CustomResourceDefinition) -> Option<Finding> {
    let has = |name: &str| ours.spec.versions.iter().any(|version| version.name == name);
    let served = found.spec.versions.iter().filter(|version| version.served).map(|version| version.name.as_str());
    let stored = found.status.iter().flat_map(|status| status.stored_versions.iter().flatten()).map(String::as_str);
    let mut lost: Vec<&str> = served.chain(stored).filter(|name| !has(name)).collect();
    lost.sort_unstable();
    lost.dedup();
    let message = format!("{} has versions that would be lost: {}", found.name_any(), lost.join(", "));
    (!lost.is_empty()).then(|| Finding::new("definitions", State::Problem, message))
}

/// Others who are asked about the same objects.
pub(super) fn judges(configurations: &[ValidatingWebhookConfiguration]) -> Vec<Finding> {
    let asked = |configuration: &&ValidatingWebhookConfiguration| {
        let rules = configuration.webhooks.iter().flatten().flat_map(|webhook| webhook.rules.iter().flatten());
        let mut groups = rules.flat_map(|rule| rule.api_groups.iter().flatten());
        !is_ours(&configuration.metadata) && groups.any(|group| group == GROUP || group == "*")
    };
    let other = configurations.iter().filter(asked).map(|configuration| {
        let message = format!("ValidatingWebhookConfiguration/{} judges the same objects", configuration.name_any());
        Finding::new("webhooks", State::Warning, message)
    });
    or_fine(other.collect(), "webhooks", "nobody else judges the objects")
}

/// Others who add sidecars to pods of the namespaces that ask for ours: a pod that got theirs has its connections led twice, or
/// does not get ours.
pub(super) fn injectors(configurations: &[MutatingWebhookConfiguration]) -> Vec<Finding> {
    let injects = |configuration: &&MutatingWebhookConfiguration| {
        let webhooks = configuration.webhooks.iter().flatten();
        let mut selectors = webhooks.filter_map(|webhook| webhook.namespace_selector.as_ref());
        let enabled = |values: &Option<Vec<String>>| values.iter().flatten().any(|value| value == "enabled");
        let asks = |selector: &LabelSelector| {
            let by_label = selector.match_labels.as_ref().and_then(|labels| labels.get(NAMESPACE_LABEL));
            let mut wanted = selector.match_expressions.iter().flatten();
            by_label.is_some_and(|value| value == "enabled")
                || wanted
                    .any(|wanted| wanted.key == NAMESPACE_LABEL && wanted.operator == "In" && enabled(&wanted.values))
        };
        !is_ours(&configuration.metadata) && selectors.any(asks)
    };
    let other = configurations.iter().filter(injects).map(|configuration| {
        let name = configuration.name_any();
        let message = format!(
            "MutatingWebhookConfiguration/{name} injects pods of namespaces with `{NAMESPACE_LABEL}=enabled` too"
        );
        Finding::new("sidecars", State::Warning, message)
    });
    or_fine(other.collect(), "sidecars", "nobody else injects them")
}

/// Another control plane, or gateways that have the labels of ours.
pub(super) fn peers(deployments: &[Deployment]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for deployment in deployments.iter().filter(|deployment| !is_ours(&deployment.metadata)) {
        let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
        let labels = template.and_then(|metadata| metadata.labels.as_ref());
        let has = |key: &str, value: &str| labels.and_then(|labels| labels.get(key)).is_some_and(|is| is == value);
        let name = format!("Deployment/{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
        if has("app", "istiod") {
            let message = format!("{name} is Istio, and reads the same objects");
            findings.push(Finding::new("other gateways", State::Warning, message));
        } else if has("istio", "ingressgateway") {
            let message = format!("{name} serves Gateways with the selector `istio: ingressgateway` too");
            findings.push(Finding::new("other gateways", State::Warning, message));
        }
    }
    or_fine(findings, "other gateways", "no Istio, and no gateway with the same labels")
}

/// Where load balancers share one address, as on a single node, two of them cannot have the same port.
pub(super) fn ports(services: &[Service], wanted: &[Service]) -> Vec<Finding> {
    let numbers = |service: &Service| -> Vec<i32> {
        let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
        spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten().map(|port| port.port).collect()
    };
    let wanted: Vec<i32> = wanted.iter().flat_map(numbers).collect();
    let mut findings = Vec::new();
    for service in services {
        let same: Vec<String> =
            numbers(service).iter().filter(|port| wanted.contains(port)).map(i32::to_string).collect();
        let ours = service.namespace().as_deref() == Some(NAMESPACE) && is_ours(&service.metadata);
        if !same.is_empty() && !ours {
            let name = format!("Service/{}/{}", service.namespace().unwrap_or_default(), service.name_any());
            let message =
                format!("{name} is a load balancer for {} too: they need addresses of their own", same.join(", "));
            findings.push(Finding::new("ports", State::Warning, message));
        }
    }
    or_fine(findings, "ports", "no other load balancer has them")
}

fn is_ours(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(PART_OF.0)).is_some_and(|part| part == PART_OF.1)
}

fn or_fine(findings: Vec<Finding>, check: &'static str, message: &str) -> Vec<Finding> {
    if findings.is_empty() { vec![Finding::new(check, State::Ok, message)] } else { findings }
}

//! Waiting for Deployments: how many replicas are ready, and why a pod does not come up.

use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use tokio::time::{Instant, sleep};

use crate::ctl::cluster::{Cluster, selector_of};
use crate::ctl::manifests::Name;
use crate::ctl::trouble::said;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// How far a Deployment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: bool,
    pub told: String,
}

/// Until all of them are available in their newest version; says what changes meanwhile.
pub async fn wait(cluster: &Cluster, deployments: &[Name], patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    let mut told: Vec<String> = vec![String::new(); deployments.len()];
    loop {
        let mut waiting = Vec::new();
        for (name, told) in deployments.iter().zip(&mut told) {
            let progress = look(cluster, name).await?;
            let line = format!("{name}: {}", progress.told);
            if *told != line {
                eprintln!("{line}");
                told.clone_from(&line);
            }
            if !progress.done {
                waiting.push(line);
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("not ready after {} s: {}", patience.as_secs(), waiting.join("; "));
        }
        sleep(LOOK).await;
    }
}

async fn look(cluster: &Cluster, name: &Name) -> anyhow::Result<Progress> {
    let namespace = name.namespace.as_deref().unwrap_or(&cluster.system_namespace);
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let Some(deployment) = deployments.get_opt(&name.name).await.map_err(said)? else {
        bail!("{name} is gone");
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pods = pods.list(&ListParams::default().labels(&selector_of(&deployment))).await.map_err(said)?.items;
    Ok(progress(&deployment, &pods))
}

/// As `kubectl rollout status` sees it, and what its pods say.
#[must_use]
pub fn progress(deployment: &Deployment, pods: &[Pod]) -> Progress {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    let seen = status.observed_generation >= deployment.metadata.generation;
    let old = status.replicas.unwrap_or(0).saturating_sub(updated);
    let done = seen && updated == wanted && available == wanted && old == 0;
    let mut told = format!("{available}/{wanted} replicas ready");
    // Those of an older version still count among the ones that are ready.
    if seen && old > 0 {
        told.push_str(&format!(", {old} of an older version"));
    }
    if done {
        return Progress { done, told };
    }
    let refused = status.conditions.iter().flatten().filter(|condition| condition.type_ == "ReplicaFailure");
    let refused = refused.filter_map(|condition| condition.message.clone());
    let troubles = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let troubles = troubles.filter_map(|pod| Some(format!("pod {}: {}", pod.name_any(), trouble(pod)?)));
    for line in refused.chain(troubles) {
        told.push_str("; ");
        told.push_str(&line);
    }
    Progress { done, told }
}

/// What keeps a pod from being ready.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return Some(because(condition.reason.as_deref(), condition.message.as_deref()));
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    containers.filter(|container| !container.ready).find_map(container_trouble)
}

fn container_trouble(container: &ContainerStatus) -> Option<String> {
    let state = container.state.clone().unwrap_or_default();
    let last = container.last_state.clone().unwrap_or_default().terminated;
    let told = if let Some(waiting) = state.waiting {
        because(waiting.reason.as_deref(), waiting.message.as_deref())
    } else if let Some(ended) = state.terminated.filter(|ended| ended.exit_code != 0) {
        format!("ended with {}", ended.exit_code)
    } else if state.running.is_some() {
        "runs and is not ready yet".to_owned()
    } else {
        return None;
    };
    let before = last.map_or_else(String::new, |ended| {
        let reason = because(ended.reason.as_deref(), ended.message.as_deref());
        format!(", before that it ended with {} ({reason})", ended.exit_code)
    });
    Some(format!("{}: {told}{before}", container.name))
}

/// `Reason: message`, of which the first line counts.
fn because(reason: Option<&str>, message: Option<&str>) -> String {
    let message = message.and_then(|message| message.trim().lines().next()).filter(|line| !line.is_empty());
    match (reason.filter(|reason| !reason.is_empty()), message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(word), None) | (None, Some(word)) => word.to_owned(),
        (None, None) => "no reason given".to_owned(),
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;

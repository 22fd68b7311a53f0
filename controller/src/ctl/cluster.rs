//! The way into the cluster: the API server, and through it the admin pages of pods.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, ResourceExt as _};
use tokio::time::timeout;

use super::exit::Failure;
use super::trouble::said;
use crate::kube::NoCluster;

/// Admin pages of a gateway, on its loopback.
pub const GATEWAY_ADMIN: u16 = 15000;
/// Admin pages of the controller.
pub const CONTROLLER_ADMIN: u16 = 15014;
/// The controller's Deployment.
const CONTROLLER: &str = "meshgate-controller";
/// A page that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which cluster, and where in it.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// kubeconfig [default: KUBECONFIG, else ~/.kube/config, else that of the pod]
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// Namespace of the controller and its gateways.
    #[arg(short = 'i', long, value_name = "NS", global = true, default_value = "meshgate-system")]
    pub system_namespace: String,
}

/// A cluster that answers, or so we hope.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub system_namespace: String,
}

impl ClusterArgs {
    /// Why nobody could be asked, where none is named: there is no kubeconfig, and this is no pod.
    pub async fn is_missing(&self) -> Option<NoCluster> {
        if self.kubeconfig.is_some() || self.context.is_some() {
            return None;
        }
        crate::kube::connect(None, None).await.err().filter(|error| matches!(error, NoCluster::None(_)))
    }

    /// Asks nothing of the API server yet.
    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        let client = crate::kube::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await;
        let client = client.map_err(|error| match error {
            NoCluster::Context { .. } => Failure::Usage(error.to_string()).into(),
            NoCluster::File { .. } => Failure::BadData(error.to_string()).into(),
            error => anyhow::Error::new(error),
        })?;
        Ok(Cluster { client, system_namespace: self.system_namespace.clone() })
    }
}

/// `POD`, `POD.NS`, `deploy/NAME`, `deploy/NAME.NS`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    deployment: bool,
    name: String,
    namespace: Option<String>,
}

impl std::str::FromStr for Target {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Target, Failure> {
        let (deployment, rest) = match text.split_once('/') {
            None => (false, text),
            Some(("pod" | "pods" | "po", rest)) => (false, rest),
            Some(("deploy" | "deployment" | "deployments" | "deployment.apps", rest)) => (true, rest),
            Some((kind, _)) => {
                return Err(Failure::Usage(format!(
                    "`{kind}` is no kind with proxies; use POD[.NS] or deploy/NAME[.NS]"
                )));
            }
        };
        // Names of pods may have dots, namespaces have none.
        let (name, namespace) = match rest.rsplit_once('.') {
            Some((name, namespace)) => (name, Some(namespace.to_owned())),
            None => (rest, None),
        };
        if name.is_empty() || namespace.as_deref() == Some("") {
            return Err(Failure::Usage(format!("`{text}` is not POD[.NS] or deploy/NAME[.NS]")));
        }
        Ok(Target { deployment, name: name.to_owned(), namespace })
    }
}

/// A pod that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    pub name: String,
    pub namespace: String,
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl Cluster {
    /// The pod that is meant. Of a Deployment's pods, one that is ready.
    pub async fn find(&self, target: &Target, namespace: Option<&str>) -> anyhow::Result<PodName> {
        let namespace = target.namespace.as_deref().or(namespace).unwrap_or(&self.system_namespace);
        if !target.deployment {
            return Ok(PodName { name: target.name.clone(), namespace: namespace.to_owned() });
        }
        let pods = self.pods_of(namespace, &target.name).await?;
        let pod = pods.into_iter().next();
        pod.ok_or_else(|| anyhow!("no pod of deployment {}/{} runs", namespace, target.name))
    }

    /// Pods of a Deployment that run; those that are ready first.
    pub async fn pods_of(&self, namespace: &str, deployment: &str) -> anyhow::Result<Vec<PodName>> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let found = deployments.get_opt(deployment).await.map_err(said)?;
        let Some(found) = found else { return Err(self.absent::<Deployment>(deployment, namespace).await) };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut pods = pods.list(&ListParams::default().labels(&selector_of(&found))).await.map_err(said)?.items;
        pods.retain(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        });
        pods.sort_by_key(|pod| (!is_ready(pod), pod.name_any()));
        let names = pods.iter().map(|pod| PodName { name: pod.name_any(), namespace: namespace.to_owned() });
        Ok(names.collect())
    }

    /// All replicas of the controller.
    pub async fn controllers(&self) -> anyhow::Result<Vec<PodName>> {
        let pods = self.pods_of(&self.system_namespace, CONTROLLER).await?;
        if pods.is_empty() {
            bail!("no pod of deployment {}/{CONTROLLER} runs", self.system_namespace);
        }
        Ok(pods)
    }

    /// That something is not there, and where it is instead, as far as we may look.
    pub async fn absent<K>(&self, name: &str, namespace: &str) -> anyhow::Error
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: serde::de::DeserializeOwned,
    {
        let called = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = Api::<K>::all(self.client.clone()).list_metadata(&called).await;
        let found = found.map(|list| list.items).unwrap_or_default();
        let elsewhere: Vec<String> = found.into_iter().filter_map(|object| object.metadata.namespace).collect();
        anyhow!(nowhere(&K::kind(&()).to_lowercase(), name, namespace, &elsewhere))
    }

    /// A page of a pod, through the API server.
    pub async fn page(&self, pod: &PodName, port: u16, path: &str) -> anyhow::Result<Bytes> {
        let page = timeout(PATIENCE, self.ask(pod, port, path)).await;
        page.map_err(|_| anyhow!("no answer in time"))
            .and_then(|page| page)
            .with_context(|| format!("{pod}: port {port}: {path}"))
    }

    async fn ask(&self, pod: &PodName, port: u16, path: &str) -> anyhow::Result<Bytes> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let mut forward = match pods.portforward(&pod.name, &[port]).await {
            Ok(forward) => forward,
            Err(error) => {
                // The upgrade that is refused says only a status; a look at the pod says more.
                let there = pods.get_opt(&pod.name).await;
                return Err(match there {
                    Ok(None) => self.absent::<Pod>(&pod.name, &pod.namespace).await,
                    _ => said(error).context("cannot forward to the pod"),
                });
            }
        };
        let refused = forward.take_error(port);
        let stream = forward.take_stream(port).context("the port was not forwarded")?;
        let answer = exchange(TokioIo::new(stream), path).await;
        if answer.is_err()
            && let Some(refused) = refused
            && let Ok(Some(reason)) = timeout(Duration::from_millis(200), refused).await
        {
            bail!("{}", reason.trim());
        }
        forward.abort();
        answer
    }
}

fn nowhere(kind: &str, name: &str, namespace: &str, elsewhere: &[String]) -> String {
    let hint = match elsewhere.first() {
        Some(first) => format!("; there is one in {}: say {name}.{first}", elsewhere.join(", ")),
        None => String::new(),
    };
    format!("there is no {kind} {name} in namespace {namespace}{hint}")
}

async fn exchange<S>(stream: TokioIo<S>, path: &str) -> anyhow::Result<Bytes>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header(http::header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    if !status.is_success() {
        let said = String::from_utf8_lossy(&body).trim().to_owned();
        return Err(match status {
            http::StatusCode::BAD_REQUEST => Failure::Usage(said).into(),
            _ => anyhow!("{status}: {said}"),
        });
    }
    Ok(body)
}

/// Its pods' labels, as a selector.
pub fn selector_of(deployment: &Deployment) -> String {
    let labels = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    let labels = labels.into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
    labels.collect::<Vec<String>>().join(",")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(text: &str) -> (bool, String, Option<String>) {
        let target: Target = text.parse().unwrap();
        (target.deployment, target.name, target.namespace)
    }

    #[test]
    fn what_is_not_there_may_be_elsewhere() {
        assert_eq!(nowhere("pod", "a", "sys", &[]), "there is no pod a in namespace sys");
        let elsewhere = ["default".to_owned(), "shop".to_owned()];
        assert_eq!(
            nowhere("pod", "a", "sys", &elsewhere),
            "there is no pod a in namespace sys; there is one in default, shop: say a.default"
        );
    }

    #[test]
    fn targets() {
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(target("a-1"), (false, "a-1".to_owned(), None));
        assert_eq!(target("a-1.ns"), (false, "a-1".to_owned(), name("ns")));
        assert_eq!(target("pod/a.b.ns"), (false, "a.b".to_owned(), name("ns")));
        assert_eq!(target("deploy/a"), (true, "a".to_owned(), None));
        assert_eq!(target("deployment/a.ns"), (true, "a".to_owned(), name("ns")));
        for wrong in ["", ".ns", "a.", "svc/a", "deploy/"] {
            assert!(matches!(wrong.parse::<Target>(), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}

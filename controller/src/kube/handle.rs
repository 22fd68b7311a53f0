//! What others ask of the keeper, and its answers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::ProxyConfig;
use mesh_core::diag::Diagnostic;
use mesh_core::model::{Key, ProxyInfo};
use mesh_core::object::ObjectRef;
use mesh_core::translate::Unconcerned;
use mesh_core::world::World;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::class::ClassState;
use super::members::Leaving;
use crate::push::Identity;

/// A proxy that is one of us.
#[derive(Debug)]
pub struct Joined {
    /// As it is known here.
    pub proxy: ProxyInfo,
    /// Of its class.
    pub states: watch::Receiver<Arc<ClassState>>,
    pub leaving: Leaving,
}

/// What others ask of the keeper.
#[derive(Debug)]
pub enum Command {
    /// The class of a proxy, and its states from now on.
    Join(Identity, oneshot::Sender<Result<Joined, NotYet>>),
    /// What the proxy of a stream of this class asks for.
    Ask {
        class: u64,
        stream: Arc<()>,
        names: BTreeSet<Key>,
    },
    /// Everything as it is now.
    Look(oneshot::Sender<View>),
    /// The same without the objects.
    Survey(oneshot::Sender<Survey>),
    /// Which versions of the objects that is.
    Versions(oneshot::Sender<Versions>),
    /// Why none of these classes has the objects; in their order.
    Unconcerned(Vec<u64>, Vec<ObjectRef>, oneshot::Sender<Vec<Option<Unconcerned>>>),
    /// Of the mesh's settings.
    TrustDomain(oneshot::Sender<String>),
    ProxyDefaults(oneshot::Sender<ProxyConfig>),
}

/// Why a proxy cannot be told anything now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// It is not there, or not seen yet.
    #[error("pod {namespace}/{name} is not known")]
    UnknownPod { namespace: String, name: String },
    #[error("not everything is listed yet")]
    Unlisted,
    /// A certificate that is not known is one that is not there: the proxy keeps what it has.
    #[error("the secrets of namespace {namespace} are not known: {reason}")]
    NoSecrets { namespace: String, reason: String },
    #[error("the controller stops")]
    Stopping,
}

/// `metadata.generation` of objects as they were last seen. A copy shares all that does not change afterwards.
pub type Observed = imbl::OrdMap<ObjectRef, i64>;

/// The world at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub world: World,
    /// What was found while objects were read, before any translation.
    pub diagnostics: Vec<Diagnostic>,
    pub observed: Observed,
    /// Kinds that cannot be watched, and why.
    pub unavailable: BTreeMap<String, String>,
    pub classes: Vec<(ProxyInfo, Arc<ClassState>)>,
}

/// How far the objects have come, without the objects.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub generation: u64,
    /// What was found while objects were read.
    pub found: Arc<[Diagnostic]>,
    pub observed: Observed,
    /// Objects whose last version is not in force: nothing of them is, or an older version.
    pub stale: HashSet<ObjectRef>,
    /// Namespaces that are not looked at: their objects are not ours to speak of.
    pub hidden: BTreeSet<Arc<str>>,
    pub classes: Vec<Arc<ClassState>>,
}

/// The objects that are known, by the API server's versions of them: whoever changed one can tell when it got here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of the world that holds all of these, but for what waits.
    pub generation: u64,
    /// VirtualServices whose last version is not in force yet, for what it names may be on its way.
    pub waiting: Vec<ObjectRef>,
    /// `metadata.resourceVersion`
    pub objects: BTreeMap<ObjectRef, String>,
}

/// How to reach it.
#[derive(Clone, Debug)]
pub struct KeeperHandle {
    commands: mpsc::Sender<Command>,
    /// Grows with every change, once everything was listed.
    generation: watch::Receiver<u64>,
}

impl KeeperHandle {
    pub(crate) fn new(commands: mpsc::Sender<Command>, generation: watch::Receiver<u64>) -> KeeperHandle {
        KeeperHandle { commands, generation }
    }

    /// The states of the proxy's class. Waits a moment for a pod that is not seen yet.
    pub async fn join(&self, identity: &Identity) -> Result<Joined, NotYet> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let (reply, answer) = oneshot::channel();
            let command = Command::Join(identity.clone(), reply);
            self.commands.send(command).await.map_err(|_| NotYet::Stopping)?;
            match answer.await.map_err(|_| NotYet::Stopping)? {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
                answer => return answer,
            }
        }
    }

    /// What the proxy of a stream asks for from now on, as long as the stream is there; later states of its class answer it.
    pub async fn ask(&self, class: u64, stream: &Arc<()>, names: BTreeSet<Key>) -> Result<(), NotYet> {
        let command = Command::Ask { class, stream: Arc::clone(stream), names };
        self.commands.send(command).await.map_err(|_| NotYet::Stopping)
    }

    pub async fn look(&self) -> Option<View> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Look(reply)).await.ok()?;
        answer.await.ok()
    }

    pub async fn survey(&self) -> Option<Survey> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Survey(reply)).await.ok()?;
        answer.await.ok()
    }

    pub async fn versions(&self) -> Option<Versions> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Versions(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Why none of the proxies of these classes has the objects; in their order. The keeper does nothing else meanwhile, so
    /// many are to be asked for in several turns.
    pub async fn unconcerned(&self, classes: &[u64], objects: &[ObjectRef]) -> Option<Vec<Option<Unconcerned>>> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Unconcerned(classes.to_vec(), objects.to_vec(), reply);
        self.commands.send(command).await.ok()?;
        answer.await.ok()
    }

    /// The trust domain of the mesh.
    pub async fn trust_domain(&self) -> Option<String> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::TrustDomain(reply)).await.ok()?;
        answer.await.ok()
    }

    /// What proxies do if nothing else is said (`defaultConfig`).
    pub async fn proxy_defaults(&self) -> Option<ProxyConfig> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::ProxyDefaults(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Changes whenever the world does; 0 until everything was listed.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.clone()
    }
}

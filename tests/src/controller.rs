//! A controller in the test's own process: everything but Kubernetes is the real thing. What the API server would tell comes
//! from [`Control::apply`]; a token is `pod-NAME`, `pod-NAME/UID`,
//! `pod-NAME@NAMESPACE` or `pod-NAME@NAMESPACE:ACCOUNT`.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use controller::ca::{Authority, Certificates, Counters, ServerCertificate};
use controller::kube::{Feed, Keeper, KeeperHandle, Leadership, Reviews, Source, sources};
use controller::push::{
    self, Account, Authenticate, Authenticated, Authorize, Discovery, Identity, KEEP_ALIVE, Lender, Proxies,
    ProxyStatus, Unauthenticated,
};
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use mesh_core::api::is_cluster_scoped;
use mesh_core::object::ObjectRef;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::client::DEADLINE;
use crate::process::Meshgate;

/// Namespace of the gateways.
pub const NAMESPACE: &str = "meshgate-system";
/// Where other gateways run.
pub const ELSEWHERE: &str = "istio-ingress";
/// Of the pod `gw`.
pub const UID: &str = "first";

/// The world, which outlives the servers that tell of it.
pub struct Control {
    feed: mpsc::Sender<Feed>,
    sources: Vec<Source>,
    pub keeper: KeeperHandle,
    pub proxies: Proxies,
    authority: Mutex<Arc<Authority>>,
    /// Of certificates for workloads.
    pub counters: Counters,
    versions: AtomicU64,
    /// What was told last: its version, none if it is gone.
    last: Mutex<Option<(ObjectRef, Option<String>)>>,
    folder: tempfile::TempDir,
    /// How long proxies may be silent.
    pub keep_alive: Duration,
    readers: Arc<Readers>,
    /// Lives of the discovery server so far: the first one knows that nobody lent shares before it.
    lives: AtomicU64,
}

/// Accounts that may read the secrets of their namespace.
#[derive(Default)]
struct Readers(Mutex<BTreeSet<Account>>);

#[async_trait::async_trait]
impl Authorize for Readers {
    async fn may_read_secrets(&self, account: &Account) -> Result<bool, String> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(account))
    }
}

/// One life of the discovery server.
pub struct Serving {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    /// Ends with the last connection.
    left: mpsc::Receiver<()>,
    /// Whether it leads. It does from the beginning.
    pub leads: watch::Sender<bool>,
    /// Of limits that all proxies count together.
    pub lender: Lender,
}

/// Says who a token belongs to, and that it is good for so long.
struct PodNames(Option<Duration>);

#[async_trait::async_trait]
impl Authenticate for PodNames {
    async fn authenticate(&self, token: &str) -> Result<Authenticated, Unauthenticated> {
        let pod = token.strip_prefix("pod-").ok_or_else(|| Unauthenticated::Refused("no such token".to_owned()))?;
        let (pod, uid) = pod.split_once('/').unwrap_or((pod, UID));
        let (pod, namespace) = pod.split_once('@').unwrap_or((pod, NAMESPACE));
        let (namespace, account) = namespace.split_once(':').unwrap_or((namespace, "gateway"));
        let identity = Identity {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            pod: pod.to_owned(),
            uid: uid.to_owned(),
        };
        Ok(Authenticated { identity, expires: self.0.map(|left| SystemTime::now() + left) })
    }
}

impl Control {
    /// With one gateway pod, `gw`, and nothing else.
    pub async fn start() -> anyhow::Result<Control> {
        Control::start_in(NAMESPACE).await
    }

    /// The same; it is at home in this namespace.
    pub async fn start_in(system: &str) -> anyhow::Result<Control> {
        Control::start_for(system, &[ELSEWHERE]).await
    }

    /// The same, which reads the secrets of these namespaces, too.
    pub async fn start_for(system: &str, others: &[&str]) -> anyhow::Result<Control> {
        let (feed, fed) = mpsc::channel(64);
        let others: Vec<String> = others.iter().map(|namespace| (*namespace).to_owned()).collect();
        let sources = sources(system, &others);
        let (keeper, handle) = Keeper::new(sources.clone(), fed);
        let readers = Arc::<Readers>::default();
        tokio::spawn(keeper.asking(readers.clone(), Reviews::new()?).run());
        let folder = tempfile::tempdir()?;
        let authority = Arc::new(Authority::generate()?);
        let control = Control {
            feed,
            sources,
            keeper: handle,
            proxies: Proxies::default(),
            authority: Mutex::new(authority),
            counters: Counters::new()?,
            versions: AtomicU64::new(1),
            last: Mutex::default(),
            folder,
            keep_alive: KEEP_ALIVE,
            readers,
            lives: AtomicU64::default(),
        };
        std::fs::write(control.root(), control.authority().root_pem())?;
        control.token("pod-gw")?;
        for source in 0..control.sources.len() {
            control.send(source, Event::Init).await?;
            control.send(source, Event::InitDone).await?;
        }
        control.apply(&pod(UID, "istio: ingressgateway")).await?;
        Ok(control)
    }

    /// From now on this account may read the secrets of its namespace.
    pub fn lets_read(&self, namespace: &str, account: &str) {
        let account = Account { namespace: namespace.to_owned(), name: account.to_owned() };
        self.readers.0.lock().unwrap_or_else(PoisonError::into_inner).insert(account);
    }

    /// What the gateway's token file holds.
    pub fn token(&self, token: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.token_file(), token)?)
    }

    /// See [`Control::token`].
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub fn authority(&self) -> Arc<Authority> {
        self.authority.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another CA signs, from the next [`Control::serve`] on.
    pub fn signs_from_now(&self, authority: Authority) {
        *self.authority.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(authority);
    }

    /// As `kubectl apply` and then a watch would tell.
    pub async fn apply(&self, text: &str) -> anyhow::Result<()> {
        for (source, object) in self.objects(text)? {
            self.note(source, &object, true);
            self.send(source, Event::Apply(object)).await?;
        }
        Ok(())
    }

    pub async fn delete(&self, text: &str) -> anyhow::Result<()> {
        for (source, object) in self.objects(text)? {
            self.note(source, &object, false);
            self.send(source, Event::Delete(object)).await?;
        }
        Ok(())
    }

    fn note(&self, source: usize, object: &DynamicObject, is_there: bool) {
        let kind = self.sources.get(source).map_or("", |source| source.kind.kind);
        let meta = &object.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let name = ObjectRef::new(kind, &text(&meta.namespace), &text(&meta.name));
        let version = meta.resource_version.clone().filter(|_| is_there);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, version));
    }

    /// Waits until the proxies of these pods, `POD.NAMESPACE`, have acknowledged all that was told.
    pub async fn served(&self, proxies: &[String]) -> anyhow::Result<()> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let known = self.keeper.versions().await.context("the keeper ended")?;
            let taken = last.as_ref().is_none_or(|(name, version)| known.objects.get(name) == version.as_ref());
            let all = self.proxies.all();
            let late: Vec<&String> = proxies.iter().filter(|name| !has(&all, name, known.generation)).collect();
            if taken && known.waiting.is_empty() && late.is_empty() {
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "taken: {taken}, waiting: {:?}, late: {late:?} of {all:#?}",
                known.waiting
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A watch of this kind that broke and lists everything again.
    pub async fn relist(&self, kind: &str, text: &str) -> anyhow::Result<()> {
        let number = self.sources.iter().position(|source| source.kind.kind == kind).context("no such kind")?;
        self.send(number, Event::Init).await?;
        for (source, object) in self.objects(text)? {
            self.send(source, Event::InitApply(object)).await?;
        }
        self.send(number, Event::InitDone).await
    }

    async fn send(&self, source: usize, event: Event<DynamicObject>) -> anyhow::Result<()> {
        self.feed.send(Feed::Event { source, event: Box::new(event) }).await.context("the keeper ended")
    }

    fn objects(&self, text: &str) -> anyhow::Result<Vec<(usize, DynamicObject)>> {
        let documents: Vec<HashMap<String, serde_json::Value>> = serde_saphyr::from_multiple(text)?;
        let object = |document: HashMap<String, serde_json::Value>| {
            let kind = document.get("kind").and_then(|kind| kind.as_str()).context("no kind")?;
            let mut object: DynamicObject = serde_json::from_value(serde_json::to_value(&document)?)?;
            let version = self.versions.fetch_add(1, Ordering::Relaxed);
            object.metadata.resource_version = Some(version.to_string());
            if !is_cluster_scoped(kind) {
                object.metadata.generation = i64::try_from(version).ok();
                object.metadata.namespace.get_or_insert_with(|| "default".to_owned());
            }
            let is_its = |source: &Source| {
                source.kind.kind == kind
                    && (source.namespace.is_none() || source.namespace == object.metadata.namespace)
            };
            let source =
                self.sources.iter().position(is_its).with_context(|| format!("nobody watches such a {kind}"))?;
            Ok((source, object))
        };
        documents.into_iter().map(object).collect()
    }

    /// Serves at this address, or at a free one.
    pub async fn serve(&self, address: Option<SocketAddr>) -> anyhow::Result<Serving> {
        self.serve_for(address, None).await
    }

    /// The same, with tokens that are good for so long from when they are shown.
    pub async fn serve_for(&self, address: Option<SocketAddr>, token: Option<Duration>) -> anyhow::Result<Serving> {
        let listener = TcpListener::bind(address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))).await?;
        let address = listener.local_addr()?;
        let authority = self.authority();
        let certificate = ServerCertificate::start(authority.clone(), vec!["controller.test".to_owned()])?;
        let leads = watch::Sender::new(true);
        let first = self.lives.fetch_add(1, Ordering::Relaxed) == 0;
        let lender = Lender::start(Leadership::told(leads.subscribe(), first), None);
        let discovery = Discovery {
            lender: lender.clone(),
            keeper: self.keeper.clone(),
            proxies: self.proxies.clone(),
            authenticate: Arc::new(PodNames(token)),
            certificates: Certificates::new(authority, self.keeper.clone(), self.counters.clone()),
            keep_alive: self.keep_alive,
        };
        let (stop, stopped) = watch::channel(false);
        let (busy, left) = mpsc::channel(1);
        let task = tokio::spawn(push::serve(listener, certificate.config(&["h2"])?, discovery, stopped, busy));
        Ok(Serving { address, stop, task, left, leads, lender })
    }

    /// Certificates that gateways take for the controller's CA.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// A gateway of this controller that may take a while to be ready.
    pub fn gateway(&self, address: SocketAddr) -> anyhow::Result<Meshgate> {
        self.gateway_that_trusts(address, "controller.test", &self.root())
    }

    /// The same, which expects this name in the controller's certificate, from this CA.
    pub fn gateway_that_trusts(&self, address: SocketAddr, name: &str, root: &Path) -> anyhow::Result<Meshgate> {
        Self::spawn(address, name, root, &self.token_file())
    }

    /// A gateway in another pod, to which this token belongs.
    pub fn gateway_with_token(&self, address: SocketAddr, token: &str) -> anyhow::Result<Meshgate> {
        let file = self.folder.path().join(format!("token-of-{}", token.replace('/', "-")));
        std::fs::write(&file, token)?;
        Self::spawn(address, "controller.test", &self.root(), &file)
    }

    fn spawn(address: SocketAddr, name: &str, root: &Path, token: &Path) -> anyhow::Result<Meshgate> {
        Meshgate::spawn([
            "--controller".into(),
            address.to_string().into(),
            "--controller-name".into(),
            name.into(),
            "--controller-ca".into(),
            root.as_os_str().to_owned(),
            "--token".into(),
            token.as_os_str().to_owned(),
            "--namespace".into(),
            NAMESPACE.into(),
            "--workers".into(),
            "1".into(),
            "--drain-seconds".into(),
            std::ffi::OsString::from("1"),
        ])
    }
}

/// Whether the proxy has everything that it asked for, up to this generation.
fn has(proxies: &[ProxyStatus], name: &str, generation: u64) -> bool {
    let Some(proxy) = proxies.iter().find(|proxy| proxy.name == name) else { return false };
    let mut asked = proxy.kinds.values().filter(|kind| kind.subscribed).peekable();
    asked.peek().is_some() && asked.all(|kind| kind.acknowledged >= generation)
}

/// The pod `gw`, with these labels.
#[must_use]
pub fn pod(uid: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: gw, namespace: {NAMESPACE}, uid: {uid}, labels: {{{labels}}}}}\nspec: {{containers: []}}\n"
    )
}

impl Serving {
    /// As a controller that is gone: the port is free again, and everybody who was connected knows.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
        let _ = self.left.recv().await;
    }
}

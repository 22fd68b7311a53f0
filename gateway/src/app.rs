//! The process: wires the rooms, starts them in order, ends them in order. It and `bootstrap` are the only ones that know
//! every room.
//!
//! Workers serve traffic on runtimes of their own; the control runtime, on the main thread, has everything else.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use mesh_core::diag;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::acme::{self, ExpiryCollector};
use crate::admin::{
    self, Admin, Audience, Command, Info, Phase, PoolList, Readiness, SocketCollector, WorkloadCollector,
};
use crate::bootstrap::{End, Start};
use crate::exit;
use crate::http::{Engine, Settings};
use crate::listen::{ConnectionHandler, Handlers, ListenOptions, ListenerManager, Workers, bind_one};
use crate::live::Cells;
use crate::logging::Logging;
use crate::observe::{Observe, Observer, SourceLabels, hostname};
use crate::peer_metadata::OwnMetadata;
use crate::resident;
use crate::sidecar::agent::Agent;
use crate::sidecar::dns::{self, DnsMetrics, DnsOptions, DnsProxy};
use crate::sidecar::resolv_conf::ResolvConf;
use crate::source::{
    ConnectionCell, Controller, ControllerCa, ControllerOptions, Files, Following, Loaded, Quota, Update, load,
};
use crate::store::{Batch, Store, StoreOptions};
use crate::tcp::TcpProxy;
use crate::tls::renewal::{Renewal, RenewalHandle};
use crate::tls::workload::WorkloadCell;
use crate::upstream::{Pools, Resolver};

/// How long the last lines of the access log may take to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// `run` of either binary: until a signal ends it. Yields the exit code.
pub fn run(start: &Start) -> anyhow::Result<u8> {
    let logging = Logging::start(&start.serve.log)?;
    raise_file_limit();
    let loaded = if start.serve.controller.is_none() { Some(load(start.files_options())) } else { None };
    if let Some(loaded) = &loaded
        && !are_there(start.program, loaded)
    {
        return Ok(exit::BAD_DATA);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name("control").build()?;
    let code = runtime.block_on(async {
        // Before anything else: a sign to reload or to stop must not kill a process that is still starting.
        let signals = Signals::new()?;
        Process::start(start, loaded, logging).await?.serve(start, signals).await
    });
    // Whatever still blocks there (a name that does not resolve) must not hold up the end.
    runtime.shutdown_background();
    code
}

/// Whoever starts a gateway with a path that is not there has mistyped it. What goes later leaves its last state in force.
fn are_there(program: &str, loaded: &Loaded) -> bool {
    let mut absent = loaded.absent().peekable();
    let are_there = absent.peek().is_none();
    absent.for_each(|(path, error)| eprintln!("{program}: {}: {error}", path.display()));
    are_there
}

/// Who names on the command line what is served is there to read that it cannot be: a port that is taken ends the process. A server
/// whose name has no address may come later.
fn proves_usable(admin: &Admin) -> anyhow::Result<()> {
    let status = admin.status.load();
    if let Some(closed) = status.diagnostics.iter().find(|found| found.code == diag::LISTENER_NOT_OPEN.id) {
        return Err(anyhow!("{}; {}", closed.message, closed.help.as_deref().unwrap_or_default()));
    }
    for cluster in admin.cells.live.load().clusters.iter().filter(|cluster| cluster.endpoints.load().is_empty()) {
        let names = status.set.endpoints.get(&cluster.destination.key).into_iter().flat_map(|found| &found.endpoints);
        for name in names {
            tracing::warn!(server = %name.address, "the server of --to has no address: requests are answered 503 until its name resolves");
        }
    }
    Ok(())
}

struct Process {
    listeners: Arc<ListenerManager>,
    observe: Arc<Observe>,
    readiness: Arc<Readiness>,
    source: Source,
    /// Of the workload certificate, if there is one.
    renewal: Option<RenewalHandle>,
    admin: Arc<Admin>,
    /// As told to those who start the process.
    announced: Announced,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Kept, so that the store serves on where no source can send anything.
    _updates: mpsc::UnboundedSender<Update>,
}

/// Where configuration comes from.
enum Source {
    Files(Files),
    /// With the certificate that has to be there, too, before the process is ready.
    Controller(Following, Option<Arc<WorkloadCell>>),
}

impl Process {
    async fn start(start: &Start, loaded: Option<Loaded>, logging: Logging) -> anyhow::Result<Process> {
        let started = Instant::now();
        let args = &start.serve;
        let doors = Doors::open(start)?;
        let names = start.dns.as_ref().map(Names::prepare).transpose()?;
        let source =
            SourceLabels::of_proxy(&start.proxy, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let observe = Observe::new(args.worker_count(), &source)?;
        let controller = start.controller_options();
        let workload = if controller.is_some() { WorkloadCell::awaited() } else { WorkloadCell::default() };
        let cells = Arc::new(Cells { workload: Arc::new(workload), ..Cells::default() });
        let demand = cells.demand.clone();
        let pools = Arc::new(PoolList::default());
        let readiness = Arc::new(Readiness::default());
        let told = controller.as_ref().and_then(|controller| OwnMetadata::new(&controller.node.id, &source));
        let load_balancers = start.load_balancers.clone();
        let options = ListenOptions { load_balancers, metadata: told.clone(), ..ListenOptions::default() };
        let options = args.limits.listen(options);
        let settings = Settings { hostname: hostname().into(), metadata: told, ..Settings::default() };
        let settings = Arc::new(args.limits.http(settings));
        let workers = start_workers(args.worker_count(), &cells, &pools, &observe, &settings)?;
        let listeners = Arc::new(ListenerManager::new(cells.clone(), workers, options)?);
        observe.register(SocketCollector::new(
            listeners.clone(),
            pools.clone(),
            cells.clone(),
            settings.room.clone(),
        )?)?;
        observe.register(WorkloadCollector::new(cells.workload.clone())?)?;
        observe.register(ExpiryCollector::new(cells.clone())?)?;

        if let Some(names) = names {
            names.serve(&cells, &observe)?;
        }
        let options = StoreOptions {
            access_log: args.access_log_override(),
            place: args.place(&start.proxy.labels),
            shares: controller.is_some(),
            ..StoreOptions::default()
        };
        let mut store = Store::new(cells.clone(), listeners.clone(), observe.clone(), Resolver::new(), options);
        let renewal = controller.as_ref().map(|options| renew(options, &cells.workload, &observe));
        let certificate = start.certificate_first.then(|| cells.workload.clone());
        let connection = ConnectionCell::new(observe.own.controller.clone());
        let (send_command, commands) = mpsc::unbounded_channel();
        let admin = Arc::new(Admin {
            cells,
            status: store.status(),
            observe: observe.clone(),
            listeners: listeners.clone(),
            pools,
            readiness: readiness.clone(),
            logging: Some(logging),
            commands: send_command,
            info: info(start, started),
            connection: controller.as_ref().map(|_| connection.clone()),
            renewal: renewal.clone(),
            orders: OnceLock::new(),
            agent: Agent::from_env(|name| std::env::var(name).ok())?,
        });
        // Probes are answered from the beginning: not ready yet.
        let announced = doors.serve(&admin);
        let (updates, received) = mpsc::unbounded_channel();
        let source = match (loaded, controller) {
            (Some(mut loaded), _) => {
                let configuration = std::mem::take(&mut loaded.configuration);
                let mut first = Batch::default();
                if let Some(options) = &start.acme {
                    let driver =
                        acme::Driver::prepare(options, &configuration.set, &admin.cells.challenges, &observe).await?;
                    first.add(Update::Ordered(driver.ordered()));
                    admin.orders.set(driver.handle()).map_err(|_| anyhow!("orders are driven twice"))?;
                    tokio::spawn(driver.run(store.wants(), updates.clone()));
                }
                first.add(Update::Configuration(Box::new(configuration)));
                store.apply(first).await;
                if start.text.is_some() {
                    proves_usable(&admin)?;
                }
                readiness.set(Phase::Live);
                announced.ready(&listeners, &admin);
                Source::Files(Files::watch(loaded, updates.clone()).context("cannot watch files")?)
            }
            (None, Some(options)) => {
                // Until something is served, the pages say what is in the way.
                announced.waiting();
                Quota::start(options.clone(), admin.cells.clone());
                Source::Controller(Controller::start(options, updates.clone(), connection, demand), certificate)
            }
            (None, None) => return Err(anyhow!("neither files nor a controller")),
        };
        tokio::spawn(store.run(received));
        Ok(Process { listeners, observe, readiness, source, renewal, admin, announced, commands, _updates: updates })
    }

    /// Until it is told to stop, then until the last request is answered or the time for that is over.
    async fn serve(mut self, start: &Start, mut signals: Signals) -> anyhow::Result<u8> {
        self.wait(&mut signals).await;
        self.readiness.set(Phase::Draining);
        tracing::info!(connections = self.listeners.connections(), "draining");
        tokio::select! {
            () = self.drain(start.end) => {}
            () = signals.stop.recv() => tracing::warn!("told twice to stop: ending at once"),
        }
        // Requests that are cut by it leave their line in the access log.
        self.listeners.stop();
        if let Source::Controller(following, _) = self.source {
            following.end().await;
        }
        self.observe.flush_access_log(FLUSH);
        tracing::info!("stopped");
        Ok(exit::OK)
    }

    /// Returns when the process is to stop.
    async fn wait(&mut self, signals: &mut Signals) {
        loop {
            tokio::select! {
                () = signals.stop.recv() => return,
                _ = signals.hangup.recv() => {
                    tracing::info!("reloading");
                    if let Source::Files(files) = &self.source {
                        files.reload();
                    }
                    if let Some(renewal) = &self.renewal {
                        renewal.renew();
                    }
                    if let Some(orders) = self.admin.orders.get() {
                        orders.hurry();
                    }
                    self.observe.reopen_access_log();
                }
                _ = signals.user.recv() => self.observe.reopen_access_log(),
                () = first_configuration(&mut self.source), if self.readiness.phase() == Phase::Starting => {
                    self.readiness.set(Phase::Live);
                    self.announced.ready(&self.listeners, &self.admin);
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Quit => return,
                    Command::DrainListeners => {
                        self.readiness.set(Phase::Draining);
                        self.listeners.drain();
                    }
                },
            }
        }
    }

    async fn drain(&self, end: End) {
        // Those who balance load may need a moment to notice that this one is not ready any more.
        self.listeners.drain();
        tokio::time::sleep(end.accept).await;
        if end.until_idle {
            self.listeners.idle().await;
        }
        self.listeners.close();
        if tokio::time::timeout(end.drain, self.listeners.idle()).await.is_err() {
            tracing::warn!(connections = self.listeners.connections(), "the time to drain is over");
        }
    }
}

/// Until something that a controller said is served.
async fn first_configuration(source: &mut Source) {
    if let Source::Controller(following, certificate) = source {
        following.live().await;
        if let Some(workload) = certificate {
            workload.issued().await;
        }
        return;
    }
    std::future::pending().await
}

/// Starts what asks for the workload's certificate, again and again.
fn renew(options: &ControllerOptions, workload: &Arc<WorkloadCell>, observe: &Arc<Observe>) -> RenewalHandle {
    tokio::spawn(tell_principal(workload.clone(), observe.clone()));
    let (roots, ca) = (options.ca.clone(), ControllerCa(options.clone()));
    Renewal::start(workload.clone(), ca, roots, observe.own.workload.clone())
}

/// Metrics name the workload as its certificate does.
async fn tell_principal(workload: Arc<WorkloadCell>, observe: Arc<Observe>) {
    workload.issued().await;
    if let Some(certificate) = workload.load().last_certificate() {
        observe.set_principal(&certificate.id.to_string());
    }
}

/// Of who is asked for names.
struct Names {
    options: DnsOptions,
    sockets: dns::Sockets,
    pod: ResolvConf,
}

impl Names {
    fn prepare(options: &DnsOptions) -> anyhow::Result<Names> {
        let at = options.listen;
        let sockets = dns::Sockets::bind(at).with_context(|| format!("cannot listen on {at} (names)"))?;
        let pod = dns::pod_resolvers(options).context("cannot tell who resolves names")?;
        Ok(Names { options: options.clone(), sockets, pod })
    }

    fn serve(self, cells: &Arc<Cells>, observe: &Observe) -> anyhow::Result<()> {
        let metrics = DnsMetrics::new()?;
        metrics.register(observe)?;
        DnsProxy::new(&self.options, self.pod, cells.clone(), metrics).serve(self.sockets);
        Ok(())
    }
}

struct Signals {
    stop: StopSignals,
    hangup: Signal,
    user: Signal,
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            stop: StopSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }
}

impl StopSignals {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Sockets of the pages, each with those for whom its pages are.
struct Doors {
    sockets: Vec<(TcpListener, Audience)>,
    announced: Announced,
}

impl Doors {
    fn open(start: &Start) -> anyhow::Result<Doors> {
        let (admin, status) = (bind(start.serve.admin, "admin")?, bind(start.serve.status, "status")?);
        let announced = Announced { program: start.program, admin: admin.local_addr()?, status: status.local_addr()? };
        let mut sockets = vec![(admin, Audience::Admin), (status, Audience::Status)];
        for (address, audience) in &start.pages {
            sockets.push((bind(*address, "pages")?, *audience));
        }
        Ok(Doors { sockets, announced })
    }

    /// What is to be announced of them.
    fn serve(self, admin: &Arc<Admin>) -> Announced {
        for (socket, audience) in self.sockets {
            tokio::spawn(admin::serve(socket, admin.clone(), audience));
        }
        self.announced
    }
}

fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    bind_one(address).with_context(|| format!("cannot listen on {address} ({what})"))
}

fn start_workers(
    count: usize,
    cells: &Arc<Cells>,
    pool_list: &Arc<PoolList>,
    observe: &Arc<Observe>,
    settings: &Arc<Settings>,
) -> anyhow::Result<Workers> {
    let (cells, pool_list) = (cells.clone(), pool_list.clone());
    let (observe, settings) = (observe.clone(), settings.clone());
    let workers = Workers::start(count, move |index| {
        let pools = Pools::in_mesh(cells.workload.clone());
        pool_list.add(pools.clone());
        tokio::spawn(pools.clone().run(cells.clone()));
        let observer: Arc<Observer> = observe.observer(index).cloned().unwrap_or_default();
        let bytes = Arc::new(TcpProxy::new(cells.clone(), pools.clone(), observer.clone(), settings.metadata.clone()));
        let http = Arc::new(Engine::new(cells.clone(), pools, observer, settings.clone()));
        Arc::new(Handlers { http, bytes }) as Arc<dyn ConnectionHandler>
    });
    workers.map_err(|error| anyhow!("cannot start workers: {error}"))
}

fn info(start: &Start, started: Instant) -> Info {
    Info {
        namespace: start.proxy.namespace.clone(),
        labels: start.proxy.labels.clone(),
        workers: start.serve.worker_count(),
        command_line: std::env::args().collect(),
        started: Some(started),
    }
}

/// The lines that scripts wait for.
struct Announced {
    program: &'static str,
    admin: SocketAddr,
    status: SocketAddr,
}

impl Announced {
    fn ready(&self, listeners: &ListenerManager, pages: &Admin) {
        let Announced { program, admin, status } = self;
        if listeners.is_deaf(&pages.cells.live.load()) {
            eprintln!(
                "{program} is not ready: no listener could be opened: admin http://{admin} status http://{status}"
            );
            return;
        }
        let mut line = format!("{program} ready: admin http://{admin} status http://{status} listeners");
        for listener in listeners.status() {
            line.push(' ');
            line.push_str(&listener.address.to_string());
        }
        eprintln!("{line}");
        resident::give_back_code();
    }

    fn waiting(&self) {
        let Announced { program, admin, status } = self;
        eprintln!("{program} waits for the controller: admin http://{admin} status http://{status}");
    }
}

/// Every connection is a descriptor; the usual soft limit is for processes that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

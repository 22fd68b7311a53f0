//! Configuration from files: read once, then watched. Every change becomes a new state of the world; only the files that
//! changed are read and parsed again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mesh_core::certificate;
use mesh_core::diag::{self, Diagnostic};
use mesh_core::model::{ProxyInfo, RequestLimit, ResourceSet, UpstreamTls};
use mesh_core::object::{ObjectRef, Position};
use mesh_core::translate::Translator;
use mesh_core::world::World;
use tokio::sync::mpsc::UnboundedSender;

use super::documents::{Documents, FileName};
use super::settle::Settle;
use super::tree::{Found, Stamp, Tree};
use super::watch::{Signal, Watch};
use super::{Configuration, Update, log_settings};

/// What to read.
#[derive(Clone, Debug)]
pub struct FilesOptions {
    /// Files and directories; `-` is standard input.
    pub paths: Vec<PathBuf>,
    /// Objects that do not come from a file, with a name for diagnostics.
    pub text: Option<(String, String)>,
    /// For objects that do not say theirs.
    pub default_namespace: String,
    pub proxy: ProxyInfo,
}

/// Files that were read and can be read again.
pub struct Loaded {
    reader: Reader,
    pub configuration: Configuration,
}

impl Loaded {
    /// The objects, and what they add up to.
    pub fn world(&self) -> &World {
        &self.reader.world
    }

    /// Paths that were given and cannot be looked at, and why.
    pub fn absent(&self) -> impl Iterator<Item = (&Path, &io::Error)> {
        let problems = self.reader.tree.problems.iter();
        problems.filter_map(|(root, path, error)| {
            let (given, absolute) = self.reader.roots.get(*root)?;
            (absolute == path).then_some((given.as_path(), error))
        })
    }
}

/// Reads everything for the first time. What cannot be read is in the diagnostics.
#[must_use]
pub fn load(options: FilesOptions) -> Loaded {
    let mut reader = Reader::new(options);
    reader.rescan(&mut Settle::default(), Instant::now());
    let configuration = reader.configuration();
    Loaded { reader, configuration }
}

/// The watching thread; it ends when this is dropped.
pub struct Files {
    signals: mpsc::Sender<Signal>,
}

impl Files {
    /// Watches what was loaded and sends what changes.
    pub fn watch(loaded: Loaded, updates: UnboundedSender<Update>) -> io::Result<Files> {
        let (signals, received) = mpsc::channel();
        let watch = Watch::new(signals.clone());
        let thread = std::thread::Builder::new().name("files".to_owned());
        thread.spawn(move || follow(loaded.reader, watch, &received, &updates))?;
        Ok(Files { signals })
    }

    /// Reads everything again, whether it looks changed or not.
    pub fn reload(&self) {
        let _ = self.signals.send(Signal::Reload);
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Stop);
    }
}

fn follow(mut reader: Reader, mut watch: Watch, signals: &mpsc::Receiver<Signal>, updates: &UnboundedSender<Update>) {
    let mut settle = Settle::default();
    watch.follow(&reader.tree);
    // What changed between the first reading and the first watch.
    settle.rescan(Instant::now());
    let mut poll = Instant::now() + watch.poll_interval(Duration::ZERO);
    loop {
        let due = settle.next().map_or(poll, |due| due.min(poll));
        let first = signals.recv_timeout(due.saturating_duration_since(Instant::now()));
        if matches!(first, Err(mpsc::RecvTimeoutError::Disconnected)) {
            return;
        }
        let now = Instant::now();
        for signal in first.into_iter().chain(signals.try_iter()) {
            match signal {
                Signal::Stop => return,
                Signal::Reload => {
                    reader.doubt_everything();
                    settle.rescan(now);
                }
                Signal::Event(event) => watch.note(event, &reader.tree, &mut settle, now),
            }
        }
        let (files, mut rescan) = settle.take(now);
        rescan |= now >= poll;
        let mut changed = false;
        for (path, since) in files {
            match reader.read(&path, since, &mut settle, now) {
                Some(different) => changed |= different,
                None => rescan = true,
            }
        }
        if rescan {
            changed |= reader.rescan(&mut settle, now);
            watch.follow(&reader.tree);
            poll = Instant::now() + watch.poll_interval(now.elapsed());
        }
        if changed && updates.send(Update::Configuration(Box::new(reader.configuration()))).is_err() {
            return;
        }
    }
}

/// The given paths, what they said when they were last read, and the world that it makes.
struct Reader {
    /// As given, and absolute.
    roots: Vec<(PathBuf, PathBuf)>,
    tree: Tree,
    documents: Documents,
    /// Names that are not files.
    unwatched: Vec<FileName>,
    world: World,
    translator: Translator,
}

impl Reader {
    fn new(options: FilesOptions) -> Reader {
        let here = std::env::current_dir().unwrap_or_default();
        let mut world = World::default();
        world.always_look_at([options.proxy.namespace.as_str()]);
        let mut reader = Reader {
            roots: Vec::new(),
            tree: Tree::default(),
            documents: Documents::new(&options.default_namespace),
            unwatched: Vec::new(),
            world,
            translator: Translator::new(options.proxy),
        };
        for path in options.paths {
            // Its place in the order is kept by a root without files.
            if path.as_os_str() == "-" {
                reader.standard_input(reader.roots.len());
                reader.roots.push((path, PathBuf::new()));
            } else {
                let absolute = here.join(&path);
                reader.roots.push((path, absolute));
            }
        }
        if let Some((name, text)) = options.text {
            let name = FileName::new(reader.roots.len(), &name);
            reader.documents.update(&name, &text);
            reader.unwatched.push(name);
        }
        reader
    }

    fn standard_input(&mut self, root: usize) {
        let name = FileName::new(root, "<stdin>");
        let mut text = String::new();
        match io::stdin().read_to_string(&mut text) {
            Ok(_) => self.documents.update(&name, &text),
            Err(error) => self.documents.trouble(&name, unreadable(&name, &error)),
        };
        self.unwatched.push(name);
    }

    /// As shown to the user: as he gave it.
    fn name(&self, root: usize, path: &Path) -> FileName {
        let shown = self.roots.get(root).map(|(given, absolute)| match path.strip_prefix(absolute) {
            Ok(rest) if rest.as_os_str().is_empty() => given.clone(),
            Ok(rest) => given.join(rest),
            Err(_) => path.to_owned(),
        });
        FileName::new(root, &shown.unwrap_or_else(|| path.to_owned()).to_string_lossy())
    }

    /// Files look unread from now on.
    fn doubt_everything(&mut self) {
        self.tree.files.clear();
    }

    /// Looks at all files, and reads those that look changed. Whether anything says something else.
    fn rescan(&mut self, settle: &mut Settle, now: Instant) -> bool {
        let paths: Vec<PathBuf> = self.roots.iter().map(|(_, absolute)| absolute.clone()).collect();
        let tree = Tree::scan(&paths);
        let before = std::mem::replace(&mut self.tree, tree);
        let mut changed = false;
        let files: Vec<_> = self.tree.files.iter().map(|(path, found)| (path.clone(), *found)).collect();
        for (path, found) in &files {
            let same = before.files.get(path) == Some(found);
            if !same && !settle.is_pending(path) {
                changed |= self.read(path, None, settle, now).unwrap_or(false);
            }
        }
        changed |= self.note_problems();
        changed | self.note_missing(&before, settle, now)
    }

    fn note_problems(&mut self) -> bool {
        let problems: Vec<_> = self
            .tree
            .problems
            .iter()
            .map(|(root, path, error)| {
                let name = self.name(*root, path);
                let diagnostic = unreadable(&name, error);
                (name, diagnostic)
            })
            .collect();
        problems
            .into_iter()
            .fold(false, |changed, (name, diagnostic)| self.documents.trouble(&name, diagnostic) | changed)
    }

    /// Files that were there before. Those under a directory that cannot be read, or that the user named himself, keep
    /// what they said.
    fn note_missing(&mut self, before: &Tree, settle: &mut Settle, now: Instant) -> bool {
        let present: HashSet<FileName> =
            self.tree.files.iter().map(|(path, found)| self.name(found.root, path)).collect();
        let troubled: Vec<FileName> = self.tree.problems.iter().map(|(root, path, _)| self.name(*root, path)).collect();
        let missing = self.documents.names().filter(|name| {
            let kept =
                |trouble: &FileName| name.root == trouble.root && Path::new(&*name.path).starts_with(&*trouble.path);
            !present.contains(name) && !self.unwatched.contains(name) && !troubled.iter().any(kept)
        });
        let missing: Vec<FileName> = missing.cloned().collect();
        if missing.is_empty() {
            return false;
        }
        let paths: HashMap<FileName, (&PathBuf, &Found)> =
            before.files.iter().map(|(path, found)| (self.name(found.root, path), (path, found))).collect();
        let mut changed = false;
        for name in missing {
            let path = paths.get(&name).copied();
            let waits = match path {
                Some((path, found)) if self.documents.has_objects(&name) => {
                    // Stays known until it is believed to be gone.
                    self.tree.files.insert(path.clone(), *found);
                    settle.is_pending(path) || !settle.vanished(path, None, now)
                }
                _ => false,
            };
            if !waits {
                changed |= self.documents.remove(&name);
            }
        }
        changed
    }

    /// Reads one file; whether it says something else. None: it is not known, look at everything.
    fn read(&mut self, path: &Path, since: Option<Instant>, settle: &mut Settle, now: Instant) -> Option<bool> {
        let found = *self.tree.files.get(path)?;
        let name = self.name(found.root, path);
        let (stamp, bytes) = match read_whole(path) {
            Ok(Some(read)) => read,
            Ok(None) => {
                settle.complete(path, now);
                return Some(false);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.documents.has_objects(&name) && !settle.vanished(path, since, now) {
                    return Some(false);
                }
                self.tree.files.remove(path);
                if self.roots.iter().any(|(_, absolute)| absolute == path) {
                    return Some(self.documents.trouble(&name, unreadable(&name, &error)));
                }
                return Some(self.documents.remove(&name));
            }
            Err(error) => return Some(self.documents.trouble(&name, unreadable(&name, &error))),
        };
        let empty = bytes.iter().all(u8::is_ascii_whitespace);
        if empty && self.documents.has_objects(&name) && !settle.vanished(path, since, now) {
            return Some(false);
        }
        if let Some(found) = self.tree.files.get_mut(path) {
            found.stamp = stamp;
        }
        Some(match std::str::from_utf8(&bytes) {
            Ok(text) => self.documents.update(&name, text.strip_prefix('\u{feff}').unwrap_or(text)),
            Err(error) => self.documents.trouble(&name, unreadable(&name, &io::Error::other(error))),
        })
    }

    /// What the files say now.
    fn configuration(&mut self) -> Configuration {
        let changes = self.documents.take_changes();
        if !changes.remove.is_empty() {
            self.world.remove(&changes.remove);
        }
        if !changes.apply.is_empty() {
            self.world.apply(changes.apply);
        }
        self.translator.update(&self.world);
        let settings = self.world.mesh().proxy_settings();
        let mut diagnostics = self.documents.diagnostics();
        diagnostics.extend_from_slice(self.translator.diagnostics());
        diagnostics.extend(without_certificate(self.translator.set(), &self.documents));
        diagnostics.extend(counted_alone(self.translator.set(), &self.documents));
        Configuration {
            set: ResourceSet::clone(self.translator.set()),
            diagnostics,
            objects: Some(self.documents.references().cloned().collect()),
            positions: self.documents.positions(&["Gateway", "Secret"]),
            access_log: settings.access_log.as_ref().map(log_settings),
            topology: settings.topology(),
            trust_domains: settings.trust_domains,
        }
    }
}

/// Limits that this process counts for itself, although they are about all.
fn counted_alone(set: &ResourceSet, documents: &Documents) -> Vec<Diagnostic> {
    let all = set.rate_limits.values().flat_map(|limits| limits.limits.iter().map(|limit| (&limits.origin, limit)));
    let global: Vec<_> = all.filter(|(_, limit)| limit.amount.global).collect();
    if global.is_empty() {
        return Vec::new();
    }
    let positions = documents.positions(&["RateLimit"]);
    let finding = |(object, limit): (&ObjectRef, &RequestLimit)| {
        let field = format!("spec.limits[{}].scope", limit.index);
        let position = positions.get(object).and_then(|positions| positions.get(&field));
        let message =
            "nobody lends shares of the limit where there is no controller: this process counts alone, as with `Local`";
        Diagnostic::new(diag::LIMIT_ALONE, message).object(object).field(field).at(position)
    };
    global.into_iter().map(finding).collect()
}

/// Nobody gives a workload certificate to who reads files.
fn without_certificate(set: &ResourceSet, documents: &Documents) -> Vec<Diagnostic> {
    let mutual = set.destinations.values().filter(|destination| destination.tls == UpstreamTls::Mutual);
    let rules =
        mutual.filter_map(|destination| Some((destination.rule.as_ref()?, "spec.trafficPolicy.tls".to_owned())));
    let servers = certificate::servers(set).filter(|server| server.tls.mesh.is_some());
    let named: BTreeSet<_> = rules.chain(servers.map(|server| (&server.origin, server.field()))).collect();
    if named.is_empty() {
        return Vec::new();
    }
    let positions = documents.positions(&["DestinationRule", "Gateway"]);
    let finding = |(object, field): (&ObjectRef, String)| {
        let position = positions.get(object).and_then(|positions| positions.get(&field));
        let what = match &*object.kind {
            "Gateway" => "connections to its hosts are closed",
            _ => "requests to the host are answered 503",
        };
        let message = format!("mode ISTIO_MUTUAL needs a workload certificate, which only a controller gives; {what}");
        Diagnostic::new(diag::WORKLOAD_CERTIFICATE, message)
            .object(object)
            .field(field)
            .at(position)
            .help("run the gateway with --controller, or leave `tls` out")
    };
    named.into_iter().map(finding).collect()
}

/// None: it was written to meanwhile.
fn read_whole(path: &Path) -> io::Result<Option<(Stamp, Vec<u8>)>> {
    let before = Stamp::of(path)?;
    let bytes = std::fs::read(path)?;
    let after = Stamp::of(path)?;
    Ok((before == after).then_some((after, bytes)))
}

fn unreadable(name: &FileName, error: &io::Error) -> Diagnostic {
    let position = Position { file: name.path.clone(), line: 1, column: 1 };
    Diagnostic::new(diag::SOURCE_UNREADABLE, format!("{}: {error}", name.path))
        .at(Some(position))
        .help("what it said before, if anything, stays in force")
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;

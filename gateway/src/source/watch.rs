//! News of the file system. It is watched by directories: editors and mounted ConfigMaps replace files, and a watch on a
//! file would stay with the old one. Where there is no news to be had, polling remains.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::settle::Settle;
use super::tree::{Tree, is_configuration, is_hidden};

/// To the thread that reads files.
pub enum Signal {
    Event(notify::Result<notify::Event>),
    Reload,
    Stop,
}

/// Everything is looked at this often, news or not: file systems over a network have none.
const POLL: Duration = Duration::from_secs(2);
/// The same where directories cannot be watched.
const POLL_BLIND: Duration = Duration::from_millis(250);
/// Polling takes at most this part of the time.
const POLL_SHARE: u32 = 50;

pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Some directory could not be watched.
    blind: bool,
}

impl Watch {
    pub fn new(signals: mpsc::Sender<Signal>) -> Watch {
        let handler = move |event| drop(signals.send(Signal::Event(event)));
        let watcher = RecommendedWatcher::new(handler, notify::Config::default());
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "files cannot be watched; they are looked at now and then"));
        Watch { watcher: watcher.ok(), watched: BTreeMap::new(), blind: false }
    }

    /// Watches the directories of the tree, and no others.
    pub fn follow(&mut self, tree: &Tree) {
        let Some(watcher) = &mut self.watcher else { return };
        let gone = |path: &PathBuf, id: &(u64, u64)| tree.directories.get(path) != Some(id);
        let old: Vec<PathBuf> =
            self.watched.iter().filter(|(path, id)| gone(path, id)).map(|(path, _)| path.clone()).collect();
        for path in old {
            // A directory that was removed is no longer watched anyway.
            let _ = watcher.unwatch(&path);
            self.watched.remove(&path);
        }
        self.blind = false;
        for (path, id) in &tree.directories {
            if self.watched.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(path.clone(), *id)),
                Err(error) => {
                    self.blind = true;
                    tracing::debug!(path = %path.display(), %error, "directory cannot be watched");
                }
            }
        }
    }

    /// When to look at everything the next time, after it took this long the last time.
    pub fn poll_interval(&self, took: Duration) -> Duration {
        let least = if self.watcher.is_none() || self.blind { POLL_BLIND } else { POLL };
        least.max(took.saturating_mul(POLL_SHARE))
    }

    /// What an event means for the files.
    pub fn note(&self, event: notify::Result<notify::Event>, tree: &Tree, settle: &mut Settle, now: Instant) {
        let event = match event {
            Ok(event) if event.need_rescan() => return settle.rescan(now),
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "watching files");
                return settle.rescan(now);
            }
        };
        let step = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Step::Complete,
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Data(_)) => Step::Writing,
            EventKind::Create(_) => Step::Created,
            _ => Step::Moved,
        };
        for path in &event.paths {
            note_path(path, step, tree, settle, now);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Begun by somebody who will write to it, or a new link or directory.
    Created,
    Writing,
    Complete,
    /// Moved, removed, or its metadata changed.
    Moved,
}

fn note_path(path: &Path, step: Step, tree: &Tree, settle: &mut Settle, now: Instant) {
    if tree.files.contains_key(path) && !tree.anchors.contains(path) {
        return match step {
            Step::Created if path.is_symlink() => settle.complete(path, now),
            Step::Created | Step::Writing => settle.writing(path, now),
            Step::Complete | Step::Moved => settle.complete(path, now),
        };
    }
    if tree.anchors.contains(path) {
        return match step {
            Step::Created if path.is_symlink() || path.is_dir() => settle.rescan(now),
            Step::Created | Step::Writing => settle.writing(path, now),
            // Of a file that is being written, or a link that leads elsewhere now.
            Step::Complete => settle.complete(path, now),
            Step::Moved => settle.rescan(now),
        };
    }
    let inside = path.parent().is_some_and(|parent| tree.walked.contains(parent));
    if !inside || is_hidden(path) && path.file_name() != Some(OsStr::new("..data")) {
        return;
    }
    match step {
        Step::Created if path.is_symlink() || path.is_dir() => settle.rescan(now),
        Step::Created | Step::Writing if is_configuration(path) => settle.writing(path, now),
        Step::Complete if is_configuration(path) => settle.complete(path, now),
        Step::Moved => settle.rescan(now),
        Step::Created | Step::Writing | Step::Complete => {}
    }
}

//! When a changed file may be read. Files are written in several steps (truncate, write, write; remove, create), and a
//! reader that is too quick sees half of them. Pure: the time is passed in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long after the last sign of writing a file is read whose writer has not closed it.
const WRITING: Duration = Duration::from_millis(500);
/// How long a file may be empty, or away, before it is believed.
const VANISHED: Duration = Duration::from_millis(100);
/// After the last event: more are likely to follow at once.
const QUIET: Duration = Duration::from_millis(1);

/// Paths that changed and were not looked at yet.
#[derive(Default)]
pub struct Settle {
    pending: HashMap<PathBuf, Pending>,
    /// Look at everything.
    rescan: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Pending {
    due: Instant,
    /// Since when it is empty or away.
    vanished: Option<Instant>,
}

impl Settle {
    /// Somebody writes to the file and has not closed it.
    pub fn writing(&mut self, path: &Path, now: Instant) {
        self.due(path, now + WRITING);
    }

    /// The file is complete: closed, moved here, or changed in its metadata.
    pub fn complete(&mut self, path: &Path, now: Instant) {
        self.due(path, now + QUIET);
    }

    pub fn rescan(&mut self, now: Instant) {
        self.rescan = Some(now + QUIET);
    }

    /// The file was empty or away where it had objects before. True: that is to be believed by now; false: it will be
    /// due again.
    pub fn vanished(&mut self, path: &Path, seen: Option<Instant>, now: Instant) -> bool {
        let since = seen.unwrap_or(now);
        if now.saturating_duration_since(since) >= VANISHED {
            return true;
        }
        self.pending.insert(path.to_owned(), Pending { due: since + VANISHED, vanished: Some(since) });
        false
    }

    fn due(&mut self, path: &Path, due: Instant) {
        match self.pending.get_mut(path) {
            Some(pending) => pending.due = due,
            None => drop(self.pending.insert(path.to_owned(), Pending { due, vanished: None })),
        }
    }

    /// When [`Settle::take`] will have something.
    pub fn next(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).chain(self.rescan).min()
    }

    /// Files to be read now, with the time since when they look empty or away, and whether to look at everything.
    pub fn take(&mut self, now: Instant) -> (Vec<(PathBuf, Option<Instant>)>, bool) {
        let rescan = self.rescan.take_if(|due| *due <= now).is_some();
        let due: Vec<PathBuf> =
            self.pending.iter().filter(|(_, pending)| pending.due <= now).map(|(path, _)| path.clone()).collect();
        let files = due.into_iter().filter_map(|path| {
            let pending = self.pending.remove(&path)?;
            Some((path, pending.vanished))
        });
        (files.collect(), rescan)
    }

    /// Whether somebody is still at work on the file.
    pub fn is_pending(&self, path: &Path) -> bool {
        self.pending.contains_key(path)
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;

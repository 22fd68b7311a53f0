//! Which files the configuration consists of, and whether they look changed. Looks at names and metadata only.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directories deeper than this are not entered.
const MAX_DEPTH: usize = 32;

/// Changes when the file does: by being written, replaced, or linked elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of what the path leads to, links followed.
    pub fn of(path: &Path) -> io::Result<Stamp> {
        path.metadata().map(|metadata| Stamp::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of the given path that led to it first.
    pub root: usize,
    pub stamp: Stamp,
}

/// What stands under the given paths.
#[derive(Debug, Default)]
pub struct Tree {
    pub files: BTreeMap<PathBuf, Found>,
    /// To be watched, with device and inode: a directory that was replaced must be watched anew.
    pub directories: BTreeMap<PathBuf, (u64, u64)>,
    /// Those whose files are configuration; the others hold only anchors.
    pub walked: BTreeSet<PathBuf>,
    /// What could not be read, with the index of the given path.
    pub problems: Vec<(usize, PathBuf, io::Error)>,
    /// Names outside of the walked directories whose change matters: the given paths themselves and links on their way.
    pub anchors: BTreeSet<PathBuf>,
}

impl Tree {
    pub fn scan(roots: &[PathBuf]) -> Tree {
        let mut tree = Tree::default();
        let mut walk = Walk { tree: &mut tree, root: 0, seen: HashSet::new() };
        for (index, root) in roots.iter().enumerate().filter(|(_, root)| !root.as_os_str().is_empty()) {
            walk.root = index;
            walk.start(root);
        }
        tree
    }
}

struct Walk<'a> {
    tree: &'a mut Tree,
    root: usize,
    /// Directories by device and inode: links may lead in circles.
    seen: HashSet<(u64, u64)>,
}

impl Walk<'_> {
    fn start(&mut self, root: &Path) {
        self.anchor(root);
        match root.metadata() {
            Ok(metadata) if metadata.is_dir() => self.directory(root, &metadata, 0),
            Ok(metadata) => self.file(root, &metadata),
            Err(error) => self.tree.problems.push((self.root, root.to_owned(), error)),
        }
    }

    /// Watches the directories in which the path and the links that it leads through are named.
    fn anchor(&mut self, path: &Path) {
        let mut path = path.to_owned();
        for _ in 0..MAX_DEPTH {
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            if let Ok(metadata) = parent.metadata() {
                self.tree.directories.insert(parent.clone(), (metadata.dev(), metadata.ino()));
            }
            self.tree.anchors.insert(path.clone());
            // A link on the way to the parent: `a/..data/x.yaml` through `..data`.
            if parent.is_symlink() {
                self.anchor(&parent.clone());
            }
            match path.read_link() {
                Ok(target) => path = parent.join(target),
                Err(_) => return,
            }
        }
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) {
        let found = Found { root: self.root, stamp: Stamp::from(metadata) };
        self.tree.files.entry(path.to_owned()).or_insert(found);
    }

    fn directory(&mut self, path: &Path, metadata: &Metadata, depth: usize) {
        let identity = (metadata.dev(), metadata.ino());
        if depth > MAX_DEPTH || !self.seen.insert(identity) {
            return;
        }
        self.tree.directories.insert(path.to_owned(), identity);
        self.tree.walked.insert(path.to_owned());
        let mut names = match std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect::<Vec<_>>(),
            Err(error) => return self.tree.problems.push((self.root, path.to_owned(), error)),
        };
        names.sort();
        for name in names.into_iter().filter(|name| !is_hidden(name)) {
            match name.metadata() {
                Ok(metadata) if metadata.is_dir() => self.directory(&name, &metadata, depth.saturating_add(1)),
                Ok(metadata) if is_configuration(&name) => self.file(&name, &metadata),
                Ok(_) => {}
                // Gone since, or a link to nowhere: not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_configuration(&name) => self.tree.problems.push((self.root, name, error)),
                Err(_) => {}
            }
        }
    }
}

/// `*.yaml`, `*.yml`, `*.json`
pub fn is_configuration(path: &Path) -> bool {
    matches!(path.extension().and_then(OsStr::to_str), Some("yaml" | "yml" | "json"))
}

/// Editors' temporary files, version control, and the timestamped directories of mounted ConfigMaps, whose files are
/// read through the links beside them.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with('.'))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;

//! Runs case files. `memory` asks the tables, `process` a real gateway, `cluster` one that is told by a controller of a real
//! API server, `mesh` real sidecars of pods; all look at the same files, and each says which of their expectations it could not see.

mod backends;
#[cfg(feature = "controller")]
mod cluster;
mod config;
mod exchange;
mod front;
mod handshake;
mod memory;
#[cfg(feature = "controller")]
mod mesh;
mod process;
mod report;
mod seen;
mod sidecar;
mod sockets;
mod verdict;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use mesh_core::testing::Case;

#[cfg(feature = "controller")]
pub use cluster::ClusterRunner;
pub use config::{bind, documents, name_of};
pub use memory::run as run_in_memory;
#[cfg(feature = "controller")]
pub use mesh::run as run_in_mesh;
pub use process::run as run_as_process;
pub use report::{Report, Selection};

/// What came of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Expectations that did not hold.
    pub failures: Vec<String>,
    /// Keys that this runner cannot see.
    pub unseen: BTreeSet<String>,
    /// Expectations that held.
    pub held: u32,
}

impl Outcome {
    pub(crate) fn check(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if holds {
            self.held += 1;
        } else {
            self.failures.push(failure());
        }
    }

    pub(crate) fn add(&mut self, other: Outcome) {
        self.failures.extend(other.failures);
        self.unseen.extend(other.unseen);
        self.held += other.held;
    }

    pub(crate) fn unseen(&mut self, key: impl Into<String>) {
        self.unseen.insert(key.into());
    }
}

/// All case files below a folder, by name.
pub fn find(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

pub fn load(path: &Path) -> anyhow::Result<Case> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

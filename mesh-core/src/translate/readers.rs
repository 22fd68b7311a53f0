//! Who looked at what, so that a change finds those who have to look again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::Key;
use crate::world::{Cell, Reads};

/// A part of a translation that is made anew as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unit {
    /// By namespace and name.
    VirtualService(Arc<str>, Arc<str>),
    /// DestinationRules of a namespace for a host as it is written.
    Rules(Arc<str>, Arc<str>),
    /// Of a destination.
    Endpoints(Key),
    /// What a host, or a pattern of hosts, means to a sidecar, or to servers of a gateway that pass on by themselves.
    Host(Arc<str>),
}

#[derive(Debug, Default)]
pub(super) struct Readers {
    by_cell: BTreeSet<(Cell, Unit)>,
    /// Sorted.
    reads: HashMap<Unit, Box<[Cell]>>,
}

impl Readers {
    /// The unit has looked at this, and no longer at what it looked at before.
    pub fn set(&mut self, unit: &Unit, reads: Reads) {
        let reads = reads.into_cells();
        if self.reads.get(unit) == Some(&reads) {
            return;
        }
        self.forget(unit);
        self.by_cell.extend(reads.iter().map(|cell| (cell.clone(), unit.clone())));
        self.reads.insert(unit.clone(), reads);
    }

    pub fn forget(&mut self, unit: &Unit) {
        if let Some(reads) = self.reads.remove(unit) {
            for cell in reads.iter() {
                self.by_cell.remove(&(cell.clone(), unit.clone()));
            }
        }
    }

    pub fn of(&self, cell: &Cell) -> impl Iterator<Item = &Unit> {
        let first = (cell.clone(), Unit::VirtualService("".into(), "".into()));
        self.by_cell.range(first.clone()..).take_while(move |(at, _)| *at == first.0).map(|(_, unit)| unit)
    }
}

//! What changed, in terms of what can be looked up: who remembers what it looked at can tell whether it has to look again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::object::ObjectRef;

/// Cells that are remembered. Who is further behind has to look at everything.
const LIMIT: usize = 20_000;

/// An answer of the world that may change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// An object, by its name.
    Object(ObjectRef),
    /// All objects of a kind in a namespace.
    Namespace(&'static str, Arc<str>),
    /// All objects of a kind.
    Kind(&'static str),
    /// What a host means: its services in all namespaces, and the DestinationRules that are written for just this host.
    Host(Arc<str>),
    /// Which hosts there are.
    Hosts,
    /// On which ports and in which networks there are services.
    Extent,
    /// The DestinationRules of a namespace for a host as it is written.
    Rules(Arc<str>, Arc<str>),
    /// DestinationRules for patterns of hosts.
    RulePatterns,
    /// EndpointSlices of the service of a namespace and name.
    Slices(Arc<str>, Arc<str>),
}

/// What somebody looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads(BTreeSet<Cell>);

impl Reads {
    pub fn note(&mut self, cell: Cell) {
        self.0.insert(cell);
    }

    pub fn has(&self, cell: &Cell) -> bool {
        self.0.contains(cell)
    }

    /// Sorted, for those who remember it: there are as many of them as there are rules and destinations, and a tree of three
    /// cells takes the room of eleven.
    pub fn into_cells(self) -> Box<[Cell]> {
        self.0.into_iter().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cell> {
        self.0.iter()
    }
}

/// The last changes, turn by turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    /// Generation after which it knows of all changes.
    from: u64,
    turns: VecDeque<Arc<BTreeSet<Cell>>>,
    cells: usize,
}

impl Journal {
    pub fn note(&mut self, cells: BTreeSet<Cell>) {
        self.cells += cells.len();
        self.turns.push_back(Arc::new(cells));
        while self.cells > LIMIT {
            let Some(oldest) = self.turns.pop_front() else { return };
            self.cells -= oldest.len();
            self.from += 1;
        }
    }

    /// Anything may be different.
    pub fn everything(&mut self, generation: u64) {
        *self = Journal { from: generation, ..Journal::default() };
    }

    /// What changed after that generation; none if that is too long ago.
    pub fn since(&self, generation: u64) -> Option<impl Iterator<Item = &Cell>> {
        let skip = usize::try_from(generation.checked_sub(self.from)?).ok()?;
        (skip <= self.turns.len()).then(|| self.turns.iter().skip(skip).flat_map(|cells| cells.iter()))
    }
}

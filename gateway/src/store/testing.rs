//! For tests: a store whose listeners are served by an echo.

use std::sync::Arc;

use super::{Store, StoreOptions};
use crate::listen::testing::Echo;
use crate::listen::{ListenOptions, ListenerManager, Workers};
use crate::live::Cells;
use crate::observe::{Observe, SourceLabels};
use crate::upstream::Resolver;

pub struct Rig {
    pub cells: Arc<Cells>,
    pub listeners: Arc<ListenerManager>,
    pub observe: Arc<Observe>,
    pub store: Store,
}

pub fn rig(options: StoreOptions) -> Rig {
    let cells = Arc::new(Cells::default());
    let workers = Workers::start(1, |index| Arc::new(Echo(index))).unwrap();
    let listeners = Arc::new(ListenerManager::new(cells.clone(), workers, ListenOptions::default()).unwrap());
    let source = SourceLabels::of_gateway(&Default::default(), "istio-system", |_| None);
    let observe = Observe::new(1, &source).unwrap();
    let store = Store::new(cells.clone(), listeners.clone(), observe.clone(), Resolver::new(), options);
    Rig { cells, listeners, observe, store }
}

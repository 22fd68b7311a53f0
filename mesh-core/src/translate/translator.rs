//! A translation that is kept up to date: a change of the world is followed by looking again at what it touches, not at
//! everything. What that is depends on the proxy's role.

use std::sync::Arc;

use super::Translation;
use super::concerned::Concerned;
use super::edge::Edge;
use super::sidecar::Sidecar;
use crate::diag::Diagnostic;
use crate::model::{ProxyInfo, ResourceSet, Role};
use crate::world::World;

/// The translation for one proxy, of one world that goes on.
#[derive(Debug)]
pub struct Translator {
    proxy: ProxyInfo,
    role: Following,
}

#[derive(Debug)]
enum Following {
    Edge(Box<Edge>),
    Sidecar(Box<Sidecar>),
}

impl Translator {
    pub fn new(proxy: ProxyInfo) -> Translator {
        let role = match proxy.role {
            Role::Edge => Following::Edge(Box::new(Edge::new(proxy.clone()))),
            Role::Sidecar => Following::Sidecar(Box::new(Sidecar::new(proxy.clone()))),
        };
        Translator { proxy, role }
    }

    pub fn proxy(&self) -> &ProxyInfo {
        &self.proxy
    }

    /// The proxy's resources. What did not change is the same allocation as the last time.
    pub fn set(&self) -> &Arc<ResourceSet> {
        match &self.role {
            Following::Edge(edge) => edge.set(),
            Following::Sidecar(sidecar) => sidecar.set(),
        }
    }

    /// Objects that the set is made of without naming them.
    pub fn concerned(&self) -> &Concerned {
        match &self.role {
            Following::Edge(edge) => edge.concerned(),
            Following::Sidecar(sidecar) => sidecar.concerned(),
        }
    }

    /// In the order of the files, else of the objects.
    pub fn diagnostics(&self) -> &Arc<[Diagnostic]> {
        match &self.role {
            Following::Edge(edge) => edge.diagnostics(),
            Following::Sidecar(sidecar) => sidecar.diagnostics(),
        }
    }

    /// Follows the world. It must be the one of the last time, or a later state of it.
    pub fn update(&mut self, world: &World) {
        match &mut self.role {
            Following::Edge(edge) => edge.update(world),
            Following::Sidecar(sidecar) => sidecar.update(world),
        }
    }
}

impl From<Translator> for Translation {
    fn from(translator: Translator) -> Translation {
        let diagnostics = translator.diagnostics().to_vec();
        let set = Arc::clone(translator.set());
        // The translation's own copy goes first: a set that nobody else has is not copied.
        drop(translator);
        Translation { set: Arc::unwrap_or_clone(set), diagnostics }
    }
}

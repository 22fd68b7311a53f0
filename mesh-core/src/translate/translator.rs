//! A translation that is kept up to date: a change of the world is followed by looking again at what it touches, not at
//! everything. What that is depends on the proxy's role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::concerned::Concerned;
use super::edge::Edge;
use super::http_match::Patterns;
use super::sidecar::Sidecar;
use super::{Context, Translation};
use crate::diag::Diagnostic;
use crate::model::{Key, ProxyInfo, ResourceSet, Role, SecretAccess};
use crate::world::{Cell, World};

/// The translation for one proxy, of one world that goes on.
#[derive(Debug)]
pub struct Translator {
    proxy: ProxyInfo,
    /// Of the world, when it was last looked at.
    generation: Option<u64>,
    patterns: Patterns,
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
            Role::Edge => Following::Edge(Box::default()),
            Role::Sidecar => Following::Sidecar(Box::default()),
        };
        Translator { proxy, generation: None, patterns: Patterns::default(), role }
    }

    /// For a proxy that asks for what it needs; at an edge that is everything.
    pub fn on_demand(proxy: ProxyInfo) -> Translator {
        let mut translator = Translator::new(proxy);
        if let Following::Sidecar(sidecar) = &mut translator.role {
            **sidecar = Sidecar::on_demand();
        }
        translator
    }

    /// Of no proxy: it finds out what is wrong with what sidecars may ask for, and yields nothing.
    pub fn of_nobody(namespace: &str) -> Translator {
        let proxy = ProxyInfo {
            role: Role::Sidecar,
            secrets: SecretAccess::Pending,
            ..ProxyInfo::edge("", namespace, BTreeMap::new())
        };
        let role = Following::Sidecar(Box::new(Sidecar::of_nobody()));
        Translator { proxy, generation: None, patterns: Patterns::default(), role }
    }

    /// These are asked for from the next update on ([`crate::model::asked_name`]). Whether others were.
    pub fn ask(&mut self, names: BTreeSet<Key>) -> bool {
        match &mut self.role {
            Following::Edge(_) => false,
            Following::Sidecar(sidecar) => sidecar.ask(names),
        }
    }

    /// Whether a sidecar's workload is to call somebody with what is in a secret: it is given it only where its account may
    /// read secrets. A gateway's need not be asked for.
    pub fn names_secrets(&self) -> bool {
        match &self.role {
            Following::Edge(_) => false,
            Following::Sidecar(sidecar) => sidecar.names_secrets(),
        }
    }

    /// What is known of that from the next update on. Whether it is something else.
    pub fn give_secrets(&mut self, access: SecretAccess) -> bool {
        let different = std::mem::replace(&mut self.proxy.secrets, access) != access;
        if different {
            // Nothing of the world is different: what was remembered of it would count.
            self.generation = None;
        }
        different
    }

    pub fn proxy(&self) -> &ProxyInfo {
        &self.proxy
    }

    /// The proxy's resources. What did not change is the same allocation as the last time.
    pub fn set(&self) -> &Arc<ResourceSet> {
        match &self.role {
            Following::Edge(edge) => &edge.set,
            Following::Sidecar(sidecar) => &sidecar.set,
        }
    }

    /// Objects that the set is made of without naming them.
    pub fn concerned(&self) -> &Concerned {
        match &self.role {
            Following::Edge(edge) => &edge.concerned,
            Following::Sidecar(sidecar) => &sidecar.concerned,
        }
    }

    /// In the order of the files, else of the objects.
    pub fn diagnostics(&self) -> &Arc<[Diagnostic]> {
        match &self.role {
            Following::Edge(edge) => &edge.diagnostics,
            Following::Sidecar(sidecar) => &sidecar.diagnostics,
        }
    }

    /// Follows the world. It must be the one of the last time, or a later state of it.
    pub fn update(&mut self, world: &World) {
        let cells = self.changed(world);
        let mut context = Context::new(world, &self.proxy, std::mem::take(&mut self.patterns));
        match &mut self.role {
            Following::Edge(edge) => edge.update(&mut context, cells.as_ref()),
            Following::Sidecar(sidecar) => sidecar.update(&mut context, cells.as_ref()),
        }
        self.patterns = context.patterns;
        self.generation = Some(world.generation());
    }

    /// None: nothing that was remembered counts.
    fn changed(&self, world: &World) -> Option<BTreeSet<Cell>> {
        let cells: BTreeSet<Cell> = world.changes_since(self.generation?)?.cloned().collect();
        (!cells.contains(&Cell::RulePatterns)).then_some(cells)
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

//! What is wrong or doubtful with one object, in the world as it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_core::analyze::{self, analyze_within};
use mesh_core::compile::compile;
use mesh_core::diag::{self, Diagnostic, Severity};
use mesh_core::model::ProxyInfo;
use mesh_core::object::ObjectRef;
use mesh_core::snapshot::Snapshot;
use mesh_core::translate::translate;
use mesh_core::world::World;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::kube::{KINDS, KeeperHandle, Watched, read_value};
use crate::status::Finding;

/// Errors that translation finds and that are the object's own: no other object can put them right.
const OWN: &[diag::Code] = &[diag::REGEX_INVALID, diag::RULE_INCOMPLETE];

/// How long a look at the world may take.
const PATIENCE: Duration = Duration::from_millis(30);

/// So many objects are analysed at a time: each may take a processor for a while, and memory, and whoever may write objects
/// may ask as often as he likes.
const ANALYSES: usize = 2;

/// How long an object waits for its turn. Then it is judged without: the API server does not wait for ever.
const TURN: Duration = Duration::from_millis(500);

/// What the webhook answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is denied; empty: it is allowed.
    pub denied: Vec<String>,
    pub warnings: Vec<String>,
}

/// Judges objects.
pub struct Judge {
    keeper: KeeperHandle,
    namespace: String,
    surroundings: Mutex<Option<Arc<Surroundings>>>,
    turns: Arc<Semaphore>,
}

/// The world of one generation, and for whom it is translated.
struct Surroundings {
    generation: u64,
    world: World,
    proxies: Vec<ProxyInfo>,
}

impl Judge {
    /// `namespace`: that of the gateways.
    #[must_use]
    pub fn new(keeper: KeeperHandle, namespace: &str) -> Judge {
        Judge {
            keeper,
            namespace: namespace.to_owned(),
            surroundings: Mutex::default(),
            turns: Arc::new(Semaphore::new(ANALYSES)),
        }
    }

    /// `object` as it is to be stored.
    pub async fn judge(&self, kind: &str, namespace: &str, object: Value) -> Verdict {
        let Some(kind) = KINDS.iter().find(|known| known.kind == kind && known.is_ours()) else {
            return Verdict::default();
        };
        let surroundings = self.surroundings().await;
        let namespace = namespace.to_owned();
        let turn = tokio::time::timeout(TURN, self.turns.clone().acquire_owned()).await;
        if turn.is_err() {
            tracing::warn!(kind = kind.kind, namespace, "an object is judged without its surroundings: too many are");
        }
        // It may take a second, which nobody else is to wait for. The turn is over when that is, whoever still waits for it.
        let judged = tokio::task::spawn_blocking(move || {
            let all = surroundings.filter(|_| turn.is_ok());
            judge(kind, &namespace, object, all.as_ref().map(|all| (&all.world, all.proxies.as_slice())))
        });
        judged.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an object was not judged");
            Verdict::default()
        })
    }

    /// None: not everything is listed yet.
    async fn surroundings(&self) -> Option<Arc<Surroundings>> {
        let generation = *self.keeper.generation().borrow();
        if generation == 0 {
            return None;
        }
        let last = self.surroundings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last.as_ref().filter(|last| last.generation == generation) {
            return Some(last.clone());
        }
        // While the keeper is busy the world of a moment ago must do: whoever applies something waits for the answer.
        let view = match (tokio::time::timeout(PATIENCE, self.keeper.look()).await, last) {
            (Ok(view), _) => view?,
            (Err(_), Some(last)) => return Some(last),
            (Err(_), None) => self.keeper.look().await?,
        };
        let mut proxies: Vec<ProxyInfo> = view.classes.into_iter().map(|(proxy, _)| proxy).collect();
        if proxies.is_empty() {
            proxies.push(expected(&self.namespace));
        }
        let fresh = Arc::new(Surroundings { generation, world: view.world, proxies });
        *self.surroundings.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh.clone());
        Some(fresh)
    }
}

/// The gateway that will be there, while none is.
fn expected(namespace: &str) -> ProxyInfo {
    let labels = [("istio", "ingressgateway"), ("app", "istio-ingressgateway")];
    ProxyInfo::edge("", namespace, labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

/// Without a world only the object itself is looked at.
fn judge(kind: &Watched, namespace: &str, mut object: Value, world: Option<(&World, &[ProxyInfo])>) -> Verdict {
    let name = named(&mut object, namespace);
    let reference = ObjectRef::new(kind.kind, namespace, &name);
    let read = read_value(kind, &reference, object);
    let mut verdict = Verdict::default();
    verdict.take(&read.diagnostics, |diagnostic| diagnostic.severity == Severity::Error);
    let (Some(object), Some((world, proxies)), true) = (read.object, world, verdict.denied.is_empty()) else {
        return verdict;
    };
    let world = world.around(object);
    let mut found: Vec<Diagnostic> = Vec::new();
    let mut fuel = analyze::FUEL;
    for proxy in proxies {
        let translation = translate(&world, proxy);
        // Only rules are asked what becomes of them.
        let has_rules = kind.kind == "VirtualService";
        let snapshot = if has_rules { compile(&translation.set, None, 0).snapshot } else { Snapshot::default() };
        let mut diagnostics = translation.diagnostics;
        analyze_within(&world, &translation.set, &snapshot, Some(&reference), &mut fuel, &mut diagnostics);
        let own = |diagnostic: &Diagnostic| diagnostic.object.as_ref() == Some(&reference);
        for diagnostic in diagnostics.into_iter().filter(|one| one.severity > Severity::Info && own(one)) {
            let diagnostic = Diagnostic { position: None, ..diagnostic };
            if !found.contains(&diagnostic) {
                found.push(diagnostic);
            }
        }
    }
    verdict.take(&found, |diagnostic| OWN.iter().any(|code| code.id == diagnostic.code));
    verdict
}

/// The object's name; one that the API server is going to make up is filled in.
fn named(object: &mut Value, namespace: &str) -> String {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return String::new() };
    metadata.entry("namespace").or_insert_with(|| namespace.into());
    let given = |field: &str| metadata.get(field).and_then(Value::as_str).filter(|name| !name.is_empty());
    let name =
        given("name").map_or_else(|| format!("{}xxxxx", given("generateName").unwrap_or_default()), str::to_owned);
    metadata.insert("name".to_owned(), name.as_str().into());
    name
}

impl Verdict {
    fn take(&mut self, diagnostics: &[Diagnostic], denies: impl Fn(&Diagnostic) -> bool) {
        let mut all: Vec<(bool, Finding)> = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity > Severity::Info)
            .map(|diagnostic| (denies(diagnostic), Finding::from(diagnostic)))
            .collect();
        all.sort_by(|a, b| a.1.rank().cmp(&b.1.rank()));
        for (denied, finding) in all {
            let sentence = finding.sentence();
            if denied {
                self.denied.push(sentence);
            } else {
                self.warnings.push(format!("{sentence} [{}]", finding.code));
            }
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

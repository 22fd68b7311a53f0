//! What one replica knows of its own proxies; what `/debug/programmed` shows, and the leader adds up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::diag::{Diagnostic, Severity};
use mesh_core::object::ObjectRef;
use mesh_core::translate::Unconcerned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Ledger;
use crate::acme::{Board, Wanted, Watching};
use crate::kube::KeeperHandle;
use crate::push::{Proxies, ProxyStatus};

/// Changes that come together are counted together.
const PAUSE: Duration = Duration::from_millis(200);
/// So many objects the keeper is asked about at a time.
const CHUNK: usize = 256;
/// With many objects a count is work: the pause is so many times as long as that, and the rest of the time is for proxies.
const SHARE: u32 = 30;
/// And no longer than this: on a machine that is busy otherwise a count takes long without being much work.
const LONGEST: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub replica: String,
    /// Grows with every change of what follows; its start is different in every run of the replica.
    pub version: u64,
    /// By name.
    pub objects: Vec<Progress>,
    /// Certificates that gateways want to have ordered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Wanted>,
}

/// How far an object is at one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub object: ObjectRef,
    /// The `metadata.generation` that all of this is about.
    pub generation: i64,
    /// This generation is not in force: nothing of the object is, or an older one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
    /// Connected proxies that the object concerns.
    pub proxies: usize,
    /// Those of them that have it.
    pub programmed: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedBy>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Why it has no proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconcerned: Option<Unconcerned>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A proxy that does not take the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RefusedBy {
    pub proxy: String,
    pub message: String,
}

/// A [`Diagnostic`] about one object, as it travels between replicas. Errors come first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub code: String,
    pub field: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Finding {
        Finding {
            severity: diagnostic.severity,
            code: diagnostic.code.to_owned(),
            field: diagnostic.field.clone(),
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    }
}

impl Finding {
    /// `field: what; help`
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = String::new();
        if !self.field.is_empty() {
            text.push_str(&self.field);
            text.push_str(": ");
        }
        text.push_str(&self.message);
        if let Some(help) = &self.help {
            text.push_str("; ");
            text.push_str(help);
        }
        text
    }

    /// Order in which findings are told.
    pub(crate) fn rank(&self) -> (std::cmp::Reverse<Severity>, &str, &str, &str) {
        (std::cmp::Reverse(self.severity), &self.field, &self.code, &self.message)
    }
}

/// How long to rest after work that took so long.
pub(super) fn rest(took: Duration) -> Duration {
    took.saturating_mul(SHARE).min(LONGEST)
}

/// Says of those without proxies why. None: the keeper ended.
async fn explain(keeper: &KeeperHandle, connected: &[ProxyStatus], objects: &mut [Progress]) -> Option<()> {
    let classes: BTreeSet<u64> = connected.iter().map(|proxy| proxy.class).collect();
    let classes: Vec<u64> = classes.into_iter().collect();
    let mut without: Vec<&mut Progress> = objects.iter_mut().filter(|progress| progress.proxies == 0).collect();
    for chunk in without.chunks_mut(CHUNK) {
        let names: Vec<ObjectRef> = chunk.iter().map(|progress| progress.object.clone()).collect();
        for (progress, why) in chunk.iter_mut().zip(keeper.unconcerned(&classes, &names).await?) {
            progress.unconcerned = why;
        }
    }
    Some(())
}

/// Keeps the tally of this replica, as long as anybody looks. What is found about orders is added to what is found in the objects.
pub fn keep_tally(
    keeper: KeeperHandle,
    proxies: Proxies,
    replica: String,
    board: &Board,
) -> watch::Receiver<Arc<Tally>> {
    let mut orders_say = board.findings();
    let start = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(1);
    let first = Tally { replica: replica.clone(), version: start, ..Tally::default() };
    let (send, receive) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        let (mut ledger, mut watching, mut version) = (Ledger::default(), Watching::default(), start);
        let (mut generation, mut changes) = (keeper.generation(), proxies.changes());
        loop {
            generation.borrow_and_update();
            changes.borrow_and_update();
            let said = orders_say.borrow_and_update().clone();
            let Some(mut survey) = keeper.survey().await else { return };
            if !said.is_empty() {
                survey.found = survey.found.iter().chain(&*said).cloned().collect();
            }
            let begun = Instant::now();
            ledger.update(&survey);
            let connected = proxies.all();
            let mut objects = ledger.count(&survey, &connected);
            if explain(&keeper, &connected, &mut objects).await.is_none() {
                return;
            }
            let orders = watching.count(&survey.classes, &connected);
            let is_new = {
                let known = send.borrow();
                known.objects != objects || known.orders != orders
            };
            if is_new {
                version += 1;
                send.send_replace(Arc::new(Tally { replica: replica.clone(), version, objects, orders }));
            }
            tokio::time::sleep(PAUSE.max(rest(begun.elapsed()))).await;
            tokio::select! {
                changed = generation.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                changed = orders_say.changed() => if changed.is_err() { return },
                () = send.closed() => return,
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_kept_from_working_does_not_rest_for_it() {
        assert_eq!(rest(Duration::from_millis(10)), Duration::from_millis(300));
        assert_eq!(rest(Duration::from_secs(2)), LONGEST);
        assert_eq!(rest(Duration::MAX), LONGEST);
    }
}

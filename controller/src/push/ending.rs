//! Why streams end, and how many did so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Status;

use crate::kube::Departure;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The proxy ended it: it stops.
    Closed,
    /// The connection broke.
    Broken,
    /// This replica stops.
    Stopping,
    /// It did not answer for longer than it may: it vanished, or its process is stopped.
    Silent,
    /// The token that it was opened with is not good any more. The proxy has another one by now.
    TokenExpired,
    PodDeleted,
    /// Another pod has its name.
    PodReplaced,
    /// Its labels or the families of its addresses changed, so it may be told something else.
    PodRelabelled,
    /// The proxy did what it must not do.
    Violation,
    /// The proxy opened another stream after it.
    Superseded,
}

impl Ending {
    const ALL: [Ending; 10] = [
        Ending::Closed,
        Ending::Broken,
        Ending::Stopping,
        Ending::Silent,
        Ending::TokenExpired,
        Ending::PodDeleted,
        Ending::PodReplaced,
        Ending::PodRelabelled,
        Ending::Violation,
        Ending::Superseded,
    ];

    /// As logs and metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Closed => "closed",
            Ending::Broken => "broken",
            Ending::Stopping => "stopping",
            Ending::Silent => "silent",
            Ending::TokenExpired => "token_expired",
            Ending::PodDeleted => "pod_deleted",
            Ending::PodReplaced => "pod_replaced",
            Ending::PodRelabelled => "pod_relabelled",
            Ending::Violation => "violation",
            Ending::Superseded => "superseded",
        }
    }

    /// What the proxy is told, if it does not know. ABORTED: it may come again, and the way it comes decides.
    pub(super) fn status(self) -> Option<Status> {
        let text = match self {
            Ending::Closed | Ending::Broken | Ending::Silent | Ending::Violation => return None,
            Ending::Stopping => "this controller stops",
            Ending::Superseded => "this stream is not the one by which the proxy is lent shares",
            Ending::TokenExpired => "the token of this stream expired",
            Ending::PodDeleted => "the pod was deleted",
            Ending::PodReplaced => "another pod has the name of this one",
            Ending::PodRelabelled => "the labels of the pod or the families of its addresses changed",
        };
        Some(Status::aborted(text))
    }
}

impl From<Departure> for Ending {
    fn from(departure: Departure) -> Ending {
        match departure {
            Departure::Deleted => Ending::PodDeleted,
            Departure::Replaced => Ending::PodReplaced,
            Departure::Relabelled => Ending::PodRelabelled,
        }
    }
}

/// How many streams ended, and why.
#[derive(Clone, Debug, Default)]
pub struct Endings(Arc<[AtomicU64; Ending::ALL.len()]>);

impl Endings {
    pub(super) fn count(&self, ending: Ending) {
        if let Some(counter) = self.0.get(ending as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them, also those that never happened.
    pub fn all(&self) -> impl Iterator<Item = (Ending, u64)> + '_ {
        Ending::ALL.into_iter().zip(self.0.iter()).map(|(ending, count)| (ending, count.load(Ordering::Relaxed)))
    }
}

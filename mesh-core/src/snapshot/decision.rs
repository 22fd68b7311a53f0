//! What the tables answer, and the prepared form of a rule.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::{CompiledCors, CompiledHeaderOps, CompiledPathRewrite, Condition};
use crate::diag::Diagnostic;
use crate::model::{DirectResponse, Fault, Key, Redirect, RetryPolicy, RuleSource, Share};

/// What is to happen to a request.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    Forward {
        rule: &'a CompiledRule,
        forward: &'a CompiledForward,
        /// The destination that the weights chose.
        split: &'a CompiledSplit,
        /// Index in `Snapshot::clusters` of the snapshot that was asked. None: the destination does not exist, 503 NC.
        /// It stands here and not in the split, because splits are shared by generations with different indexes.
        cluster: Option<u32>,
        /// Where [`CompiledMirror::cluster`] looks, for the same reason.
        clusters: &'a [Option<u32>],
    },
    Redirect {
        rule: &'a CompiledRule,
        redirect: &'a Redirect,
    },
    Respond {
        rule: &'a CompiledRule,
        response: &'a DirectResponse,
    },
    /// `httpsRedirect`: 301 to [`https_location`](super::https_location).
    HttpsRedirect,
    /// No host, or no rule of the host: 404 NR.
    NoRoute,
}

/// A rule, prepared.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    pub source: RuleSource,
    /// For the access log.
    pub name: Option<Arc<str>>,
    /// For the metrics.
    pub stat_prefix: Option<Arc<str>>,
    /// Operations of the rule alone: for redirects, direct responses and answers that the proxy makes itself before a
    /// destination is chosen. Those of a split hold these already.
    pub headers: Arc<CompiledHeaderOps>,
    pub action: Arc<CompiledAction>,
    pub(crate) path: PathKind,
    /// All but the path.
    pub(crate) conditions: Arc<[Condition]>,
    /// A pattern that is refused; then the rule never matches.
    pub(crate) refused: Option<Arc<str>>,
    pub(crate) diagnostics: Option<Arc<[Diagnostic]>>,
}

/// What remains of the path condition once the index has answered it.
#[derive(Clone, Debug)]
pub(crate) enum PathKind {
    Any,
    Exact,
    /// Length of the prefix in bytes.
    Prefix(usize),
    Regex,
}

#[derive(Debug)]
pub enum CompiledAction {
    Forward(CompiledForward),
    Redirect(Redirect),
    Respond(DirectResponse),
}

#[derive(Debug)]
pub struct CompiledForward {
    pub rewrite: CompiledRewrite,
    /// Whole request, retries included.
    pub timeout: Option<Duration>,
    pub retry: Arc<RetryPolicy>,
    pub fault: Option<Box<Fault>>,
    pub mirrors: Box<[CompiledMirror]>,
    /// Shared, because a request whose answer it shapes keeps it.
    pub cors: Option<Arc<CompiledCors>>,
    pub(crate) splits: SmallVec<[CompiledSplit; 1]>,
    /// Sum of the weights.
    pub(crate) total_weight: u32,
}

impl CompiledForward {
    pub fn splits(&self) -> &[CompiledSplit] {
        &self.splits
    }
}

/// A destination that is sent copies.
#[derive(Debug)]
pub struct CompiledMirror {
    /// Shared, because a copy may outlive the request that it is of.
    pub to: Arc<CompiledSplit>,
    pub share: Share,
}

impl CompiledMirror {
    /// Index in `Snapshot::clusters`, from what the decision says. None: there is no such destination.
    pub fn cluster(&self, clusters: &[Option<u32>]) -> Option<u32> {
        clusters.get(self.to.slot as usize).copied().flatten()
    }
}

#[derive(Debug, Default)]
pub struct CompiledRewrite {
    pub path: Option<CompiledPathRewrite>,
    /// New authority.
    pub authority: Option<Arc<str>>,
}

#[derive(Debug)]
pub struct CompiledSplit {
    /// Name of the destination, for logs; also of one that does not exist.
    pub key: Key,
    pub weight: u32,
    /// The rule's operations and the destination's, merged in the order that Istio defines.
    pub headers: Arc<CompiledHeaderOps>,
    /// Which of the virtual host's destinations.
    pub(crate) slot: u32,
}

impl CompiledSplit {
    /// To a destination that no rule names, and that changes nothing.
    pub fn plain(key: &Key) -> CompiledSplit {
        CompiledSplit { key: Arc::clone(key), weight: 1, headers: Arc::default(), slot: u32::MAX }
    }
}

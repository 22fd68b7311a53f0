//! The read path: immutable tables that answer requests. They are made by [`compile`](crate::compile) and shared by all
//! workers. A match neither allocates nor locks. This room knows nothing of the users' API.

mod authorize;
mod candidates;
mod captured;
mod choices;
mod condition;
mod cors;
mod decision;
mod dns_table;
mod explain;
mod explain_destination;
mod explain_policies;
mod header_ops;
mod host_table;
mod listener_table;
pub mod path;
mod path_index;
mod pattern;
mod pieces;
mod policy_test;
mod question;
mod rate_limiter;
mod request;
mod rewrite;
mod route_table;
mod split;
mod template;
mod time;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

pub use authorize::{Authorizer, CompiledPolicy, CompiledPolicyRule, Facts, PeerFacts, Ruling};
pub(crate) use captured::route_keys;
pub use captured::{CompiledInbound, CompiledInboundPort, CompiledOutbound, OutboundMatch};
pub(crate) use condition::{Condition, HeaderKey, TextMatch};
pub(crate) use cors::Listed;
pub use cors::{CompiledCors, CorsRuling};
pub(crate) use decision::PathKind;
pub use decision::{
    CompiledAction, CompiledForward, CompiledMirror, CompiledRewrite, CompiledRule, CompiledSplit, Decision,
};
pub use dns_table::{DnsMatch, DnsTable};
pub use explain::{ExplainedMirror, ExplainedRule, Explanation};
pub use explain_destination::ExplainedDestination;
pub use explain_policies::{ExplainedAuthorization, ExplainedLimit};
pub use header_ops::{CompiledHeaderOp, CompiledHeaderOps};
pub(crate) use header_ops::{Pass, Side, Value};
pub(crate) use host_table::HostEntry;
pub use host_table::HostTable;
pub use listener_table::{CompiledListener, CompiledProtocol, CompiledTlsServer, TlsTable};
pub(crate) use path_index::{Buckets, Entry, Node, PathIndex, Place};
pub(crate) use pattern::{Engine, Pattern, PatternSet};
pub(crate) use pieces::Pieces;
pub(crate) use policy_test::{Subject, Test, Texts};
pub use question::{Question, QuestionError};
pub(crate) use rate_limiter::CompiledLimitKey;
pub use rate_limiter::{CompiledLimit, Quota, RateLimiter, RateRuling};
pub use request::Request;
pub use rewrite::{CompiledPathRewrite, SubstitutionPart, https_location};
pub(crate) use route_table::{Destinations, RouteTable};
pub use template::FormatContext;
pub(crate) use template::{Command, Part, Template};
pub use token::Token;

use imbl::OrdMap;

use crate::model::{Destination, Key, Resources};

/// All tables of one generation.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub generation: u64,
    pub listeners: HashMap<Key, Arc<CompiledListener>>,
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
    /// How many requests are let through.
    pub rate_limiter: Arc<RateLimiter>,
    /// What is answered to who asks for names.
    pub dns: DnsTable,
    /// By index. A destination keeps its index from generation to generation while it can.
    pub clusters: Vec<Arc<Destination>>,
    pub(crate) cluster_indexes: OrdMap<Key, u32>,
    /// What the clusters were made from.
    pub(crate) destinations: Resources<Destination>,
    /// Host tables by the key of their route set, whether a listener names them or not.
    pub(crate) tables: HashMap<Key, Arc<HostTable>>,
}

impl Snapshot {
    /// Index of a destination in `clusters`.
    pub fn cluster_index(&self, key: &str) -> Option<u32> {
        self.cluster_indexes.get(key).copied()
    }
}

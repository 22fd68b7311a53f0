//! How the destinations of a request that nobody sent are called.

use serde::{Deserialize, Serialize};

use super::{Explanation, Request, Snapshot};
use crate::model::{
    Destination, INBOUND_PASSTHROUGH, PASSTHROUGH, Reach, TunnelMethod, UpstreamProtocol, name_of_destination,
};

/// A share of a rule's requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedDestination {
    pub cluster: String,
    pub weight: u32,
    /// False: 503 NC.
    pub known: bool,
    /// How many endpoints it has; none: whoever explains does not know. Tables know none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<usize>,
    /// What is particular to how it is called: `PROXY header V2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it does not take this request: 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why no TLS can be spoken with it, so that it gets nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready: Option<String>,
}

impl ExplainedDestination {
    pub(super) fn new(cluster: &str, weight: u32, known: bool) -> ExplainedDestination {
        let cluster = cluster.to_owned();
        ExplainedDestination {
            cluster,
            weight,
            known,
            endpoints: None,
            notes: Vec::new(),
            refused: None,
            unready: None,
        }
    }
}

impl Explanation {
    /// Says what the tables know of the destinations. `sni`: of a connection.
    pub(super) fn describe_destinations(&mut self, snapshot: &Snapshot, sni: Option<&str>, request: &Request<'_>) {
        let is_bytes = self.outcome == "tcp";
        let written = self.rewritten_authority.as_deref().unwrap_or(request.authority);
        let name = if is_bytes { sni.unwrap_or_default() } else { written };
        for told in self.destinations.iter_mut().filter(|told| told.known) {
            let index = snapshot.cluster_index(&told.cluster).and_then(|index| usize::try_from(index).ok());
            let Some(destination) = index.and_then(|index| snapshot.clusters.get(index)) else { continue };
            told.notes = notes(destination, is_bytes);
            if matches!(destination.reach, Reach::Named(_)) && name_of_destination(&destination.host, name).is_none() {
                told.refused = Some(match name {
                    "" => "the connection names no host".to_owned(),
                    _ => format!("{name} is none of its hosts"),
                });
            }
        }
    }

    /// Notes how many endpoints the destinations have, by their keys; none: they need none. Those that go where the client was
    /// going need none, either.
    pub fn count_endpoints(&mut self, count: impl Fn(&str) -> Option<usize>) {
        let original = |key: &str| key == PASSTHROUGH || key == INBOUND_PASSTHROUGH || key.starts_with("inbound|");
        let counted = |one: &&mut ExplainedDestination| one.known && !original(&one.cluster);
        for destination in self.destinations.iter_mut().filter(counted) {
            destination.endpoints = count(&destination.cluster);
        }
    }

    /// Notes why no TLS can be spoken with the destinations, by their keys.
    pub fn note_unready(&mut self, why: impl Fn(&str) -> Option<String>) {
        for destination in self.destinations.iter_mut().filter(|one| one.known) {
            destination.unready = why(&destination.cluster);
        }
    }
}

fn notes(destination: &Destination, is_bytes: bool) -> Vec<String> {
    let rules = &destination.connections;
    let header = rules.proxy_header.map(|version| format!("PROXY header {version:?}"));
    let tunnel = rules.tunnel.as_ref().filter(|_| is_bytes).map(|tunnel| match tunnel.method {
        TunnelMethod::Connect => format!("tunnel to {tunnel} by CONNECT"),
        TunnelMethod::Post => format!("tunnel to {tunnel} by POST"),
    });
    let client = (!is_bytes && destination.protocol == UpstreamProtocol::AsClient)
        .then(|| "in the client's version of HTTP".to_owned());
    header.into_iter().chain(tunnel).chain(client).collect()
}

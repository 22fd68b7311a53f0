//! Why a request goes where it goes, told by the tables that serve it.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::explain_destination::ExplainedDestination;
use super::explain_policies::{ExplainedAuthorization, ExplainedLimit};
use super::{CompiledAction, CompiledProtocol, CompiledRule, HostTable, OutboundMatch, Request, Snapshot};
use crate::model::{AbortStatus, ClientDemand, DestinationRef, Fault, Serves, UnknownDestination, WeightedDestination};
use crate::object::ObjectRef;

/// The answer to "what would happen to this request?".
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    pub generation: u64,
    pub listener: String,
    /// For TLS: the Gateway server that the name chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What that server asks of its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientDemand>,
    /// Key of the route set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<String>,
    /// The virtual host, `*.example.com`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Rules in order, up to and including the winner.
    pub rules: Vec<ExplainedRule>,
    /// Rules before the winner that are not told of, because their path differs and there are too many of them.
    pub omitted: usize,
    /// `forward`, `redirect`, `respond`, `https redirect`, `no route`, `no host`, `no server`, `no listener`; of connections
    /// that are not looked into `tcp` and `no tcp route`, and of those that leave a workload `passthrough` and `refused`
    pub outcome: Cow<'static, str>,
    /// The winner as `namespace/name[http]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The path that goes upstream, where a rewrite changes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten_authority: Option<String>,
    /// Of a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Of a redirect or direct response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<ExplainedDestination>,
    /// Where copies go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<ExplainedMirror>,
    /// Trouble that is made on purpose: `100% delay 7s`, `50% abort 503`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// When the request is tried again: `up to 2 more tries on connect-failure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<String>,
    /// What the rule's `corsPolicy` makes of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cow<'static, str>>,
    /// What the policies say, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<ExplainedAuthorization>,
    /// The limits that count it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<ExplainedLimit>,
}

/// One rule that was considered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedRule {
    /// `namespace/name[http]`
    pub rule: String,
    pub object: ObjectRef,
    pub http: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#match: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub matched: bool,
    /// The first condition that did not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl ExplainedRule {
    pub(super) fn new(rule: &CompiledRule, failed: Option<String>) -> ExplainedRule {
        ExplainedRule {
            rule: rule.source.to_string(),
            object: rule.source.object.clone(),
            http: rule.source.http,
            r#match: rule.source.r#match,
            name: rule.name.as_deref().map(str::to_owned),
            matched: failed.is_none(),
            failed,
        }
    }
}

/// A destination that is sent copies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainedMirror {
    pub cluster: String,
    /// Of the requests: `12.5%`.
    pub share: String,
    /// False: nothing is sent.
    pub known: bool,
}

impl Snapshot {
    /// What would happen to this request at this listener (and, for TLS, with this server name).
    pub fn explain(&self, listener: &str, sni: Option<&str>, request: &Request<'_>) -> Explanation {
        let mut explanation = self.looked_up(listener, sni, request);
        explanation.describe_destinations(self, sni, request);
        explanation
    }

    fn looked_up(&self, listener: &str, sni: Option<&str>, request: &Request<'_>) -> Explanation {
        let mut explanation =
            Explanation { generation: self.generation, listener: listener.to_owned(), ..Explanation::default() };
        let Some(compiled) = self.listeners.get(listener) else {
            explanation.outcome = "no listener".into();
            return explanation;
        };
        let mut port = compiled.listener.port;
        let table = match &compiled.protocol {
            CompiledProtocol::Http(table) => table,
            CompiledProtocol::Tcp(table) => {
                explanation.bytes(table, None);
                return explanation;
            }
            CompiledProtocol::Outbound(outbound) => {
                let mut original = addressed(request);
                if !compiled.listener.is_redirected() {
                    original.set_port(compiled.listener.port);
                }
                port = original.port();
                let found = outbound.find(original);
                match found.routes(request.authority) {
                    Some(table) => table,
                    None => {
                        explanation.connection(&found, sni);
                        return explanation;
                    }
                }
            }
            CompiledProtocol::Inbound(inbound) => {
                port = addressed(request).port();
                &inbound.port(port).routes
            }
            CompiledProtocol::Tls(servers) => match servers.server(sni) {
                Some(server) => {
                    explanation.server = Some(format!("{}[{}]", server.server.origin, server.server.server_index));
                    explanation.clients = server.server.tls.clients.as_deref().cloned();
                    let sni = sni.filter(|_| server.server.serves.passes());
                    if server.server.serves != Serves::Http {
                        explanation.bytes(&server.routes, sni);
                        return explanation;
                    }
                    &server.routes
                }
                None => {
                    explanation.outcome = "no server".into();
                    return explanation;
                }
            },
        };
        table.explain(&mut explanation, request, port);
        explanation
    }
}

/// Where a client connects that wants to send this request: to the address that its authority names, if it names one.
fn addressed(request: &Request<'_>) -> SocketAddr {
    let default = if request.scheme == "https" { 443 } else { 80 };
    let (host, port) = match request.authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(default)),
        _ => (request.authority, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    SocketAddr::new(host.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port)
}

impl Explanation {
    /// Of a connection that is not looked into.
    fn connection(&mut self, found: &OutboundMatch<'_>, sni: Option<&str>) {
        let Some(tcp) = found.tcp(sni) else {
            self.outcome = match found.unknown() {
                UnknownDestination::Passthrough => "passthrough".into(),
                UnknownDestination::Proxy(key) => format!("egress proxy {key}").into(),
                UnknownDestination::Refuse => "refused".into(),
            };
            return;
        };
        self.led(&tcp.origin, &tcp.destinations);
    }

    /// Of a connection at a gateway that is not looked into.
    fn bytes(&mut self, table: &HostTable, sni: Option<&str>) {
        self.routes = Some(table.key().to_owned());
        match table.tcp(sni) {
            Some(route) => self.led(&route.origin, &route.destinations),
            None => self.outcome = "no tcp route".into(),
        }
    }

    fn led(&mut self, origin: &ObjectRef, destinations: &[WeightedDestination]) {
        self.outcome = "tcp".into();
        self.rule = Some(origin.to_string());
        let destinations = destinations.iter().map(|one| {
            let (cluster, known) = match &one.destination {
                DestinationRef::Known(key) => (key, true),
                DestinationRef::Unknown(key) => (key, false),
            };
            ExplainedDestination::new(cluster, one.weight, known)
        });
        self.destinations = destinations.collect();
    }
}

impl HostTable {
    fn explain(&self, explanation: &mut Explanation, request: &Request<'_>, listener_port: u16) {
        explanation.routes = Some(self.model.key.to_string());
        let Some(entry) = self.entry(request.authority) else {
            explanation.outcome = "no host".into();
            return;
        };
        explanation.host = Some(entry.model.host.to_string());
        if entry.model.https_redirect && request.method != "CONNECT" {
            explanation.outcome = "https redirect".into();
            explanation.status = Some(301);
            explanation.location = Some(super::https_location(request));
            return;
        }
        explanation.outcome = "no route".into();
        let winner = entry.table.consider(&entry.model, request, explanation);
        let Some(rule) = winner.filter(|_| request.method != "CONNECT") else { return };
        explanation.rule = Some(rule.source.to_string());
        match rule.action.as_ref() {
            CompiledAction::Forward(forward) => {
                explanation.outcome = "forward".into();
                explanation.rewritten_path = rule.rewritten_path(forward, request.path);
                explanation.rewritten_authority = forward.rewrite.authority.as_deref().map(str::to_owned);
                explanation.destinations = forward
                    .splits()
                    .iter()
                    .map(|split| {
                        let known = entry.clusters.get(split.slot as usize).copied().flatten().is_some();
                        ExplainedDestination::new(&split.key, split.weight, known)
                    })
                    .collect();
                let mirrors = forward.mirrors.iter().map(|mirror| ExplainedMirror {
                    cluster: mirror.to.key.to_string(),
                    share: mirror.share.to_string(),
                    known: mirror.cluster(&entry.clusters).is_some(),
                });
                explanation.mirrors = mirrors.collect();
                explanation.retries = Some(forward.retry.to_string());
                explanation.cors = forward.cors.as_ref().map(|cors| cors.explain(request).into());
                explanation.faults = forward.fault.as_deref().map(faults).unwrap_or_default();
            }
            CompiledAction::Redirect(redirect) => {
                explanation.outcome = "redirect".into();
                explanation.status = Some(redirect.status);
                explanation.location = Some(rule.location(redirect, request, listener_port));
            }
            CompiledAction::Respond(response) => {
                explanation.outcome = "respond".into();
                explanation.status = Some(response.status);
            }
        }
    }
}

fn faults(fault: &Fault) -> Vec<String> {
    let delay = fault.delay.as_ref().map(|delay| format!("{} delay {:?}", delay.share, delay.time));
    let abort = fault.abort.as_ref().map(|abort| match abort.status {
        AbortStatus::Http(status) => format!("{} abort {status}", abort.share),
        AbortStatus::Grpc(status) => format!("{} abort gRPC {status}", abort.share),
    });
    delay.into_iter().chain(abort).collect()
}

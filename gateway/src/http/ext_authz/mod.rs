//! External authorizers (AuthorizationPolicy with action CUSTOM): a request that such a policy matches is shown to somebody else, who lets
//! it through, perhaps with other headers, or answers it. Asked before tokens are looked at and before the other policies, as with Envoy.
//!
//! Who cannot be asked, or says nothing that can be understood, lets nothing through unless the provider says `failOpen`.

mod collector;
mod grpc;
mod http;
mod messages;

use std::future::poll_fn;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Bytes, BytesMut};
use mesh_core::lb::EndpointState;
use mesh_core::model::{AuthorizerProtocol, BodyInCheck, DestinationRef, ExternalAuthorizer, PolicyAction};
use mesh_core::snapshot::{CompiledSplit, Ruling};
use tokio::time::sleep;

use self::collector::Collector;
use super::authorize::facts;
use super::engine::{After, Engine};
use super::exchange::{Exchange, RequestHead};
use super::failure::{Failure, Refusal};
use super::forward::Tried;
use super::h1::Frame;
use super::message::{BodySize, Downstream, DownstreamError};
use crate::live::Live;

/// A connection that was dead is no answer; but not endlessly.
const MOST_STALE: usize = 4;

/// What an authorizer says.
#[derive(Debug)]
enum Verdict {
    Allowed(Changes),
    Refused(Refusal),
}

/// What becomes of a request that is let through.
#[derive(Debug, Default)]
struct Changes {
    remove: Vec<HeaderName>,
    /// In order.
    request: Vec<(HeaderName, HeaderValue, Mode)>,
    response: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Append,
    AddIfAbsent,
    Overwrite,
    OverwriteIfExists,
}

/// Nobody decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unanswered;

impl Engine {
    /// Has the request decided by an external authorizer, if a policy says so. An error: it is not let through.
    pub(super) async fn ask_authorizer<D: Downstream>(
        &self,
        live: &Live,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> Result<(), Failure> {
        let Ruling::Ask(policy, _) = live.snapshot.authorizer.decide(&facts(exchange)) else { return Ok(()) };
        let PolicyAction::Custom { authorizer: Some(authorizer), .. } = &policy.model.action else {
            return Err(Failure::NotAsked { status: 403 });
        };
        let (body, whole) = match authorizer.body {
            Some(limit) => read_ahead(limit, exchange, client).await?,
            None => (Bytes::new(), client.is_done()),
        };
        match self.check(live, authorizer, exchange, body, whole).await {
            Ok(Verdict::Allowed(changes)) => {
                changes.apply(exchange);
                Ok(())
            }
            Ok(Verdict::Refused(refusal)) => Err(Failure::Refused(Box::new(refusal))),
            Err(Unanswered) if authorizer.fail_open => Ok(()),
            Err(Unanswered) => Err(Failure::NotAsked { status: authorizer.status_on_error }),
        }
    }

    async fn check(
        &self,
        live: &Live,
        authorizer: &ExternalAuthorizer,
        exchange: &Exchange,
        body: Bytes,
        whole: bool,
    ) -> Result<Verdict, Unanswered> {
        let DestinationRef::Known(key) = &authorizer.destination else { return Err(Unanswered) };
        let cluster = live.snapshot.cluster_index(key).and_then(|index| live.cluster(index)).ok_or(Unanswered)?;
        let (head, body) = match &authorizer.protocol {
            AuthorizerProtocol::Grpc => grpc::question(exchange, authorizer.body, body, whole),
            AuthorizerProtocol::Http(check) => http::question(check, exchange, body),
        };
        let to = CompiledSplit::plain(key);
        let mut deadline = Some(Box::pin(sleep(authorizer.timeout)));
        let mut asking = Exchange::new(Arc::clone(&exchange.peer), head);
        asking.grpc = authorizer.protocol == AuthorizerProtocol::Grpc;
        let mut tried = Vec::new();
        for _ in 0..=MOST_STALE {
            let endpoint: Arc<EndpointState> = cluster.pick(None, &tried).ok_or(Unanswered)?;
            let mut collector = Collector::new(body.clone());
            match self.attempt(cluster, &endpoint, &to, &mut asking, &mut collector, &mut deadline).await {
                Tried::Done(After::Abort) => return Err(Unanswered),
                Tried::Done(_) => {
                    let answer = collector.answer().ok_or(Unanswered)?;
                    return match &authorizer.protocol {
                        AuthorizerProtocol::Grpc => grpc::verdict(&answer),
                        AuthorizerProtocol::Http(check) => http::verdict(check, answer),
                    };
                }
                Tried::Stale => {}
                // Nothing was asked yet.
                Tried::NotConnected(_) | Tried::Refused => tried.push(endpoint.address),
                Tried::Failed(_) => return Err(Unanswered),
            }
        }
        Err(Unanswered)
    }
}

/// Takes so much of the body that it can be shown; it is there again for whoever forwards the request. Also whether that is all of it.
async fn read_ahead<D: Downstream>(
    limit: BodyInCheck,
    exchange: &mut Exchange,
    client: &mut D,
) -> Result<(Bytes, bool), Failure> {
    let most = usize::try_from(limit.limit).unwrap_or(usize::MAX);
    let mut body = BytesMut::new();
    while !client.is_done() && body.len() < most {
        let frame = match poll_fn(|cx| client.poll_frame(cx)).await {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(DownstreamError::Gone)) => return Err(Failure::ClientGone),
            Some(Err(DownstreamError::Malformed { status, detail })) => {
                return Err(Failure::BadBody { status, detail });
            }
        };
        if let Frame::Data(data) = &frame {
            body.extend_from_slice(data);
        }
        exchange.read_ahead.push(frame);
    }
    let whole = client.is_done() && body.len() <= most;
    if !whole && !limit.partial {
        return Err(Failure::BadBody { status: 413, detail: "request_payload_too_large" });
    }
    body.truncate(most);
    Ok((body.freeze(), whole))
}

impl Changes {
    fn apply(self, exchange: &mut Exchange) {
        let headers = &mut exchange.head.headers;
        for name in self.remove {
            headers.remove(name);
        }
        for (name, value, mode) in self.request {
            match mode {
                Mode::Append => drop(headers.append(name, value)),
                Mode::AddIfAbsent if headers.contains_key(&name) => {}
                Mode::OverwriteIfExists if !headers.contains_key(&name) => {}
                Mode::AddIfAbsent | Mode::Overwrite | Mode::OverwriteIfExists => drop(headers.insert(name, value)),
            }
        }
        exchange.added.extend(self.response);
    }
}

/// The head of a question. Nothing of the request is in it that was not put there.
fn head(exchange: &Exchange, target: String, headers: HeaderMap, body: &Bytes) -> RequestHead {
    RequestHead {
        method: exchange.head.method.clone(),
        protocol: exchange.head.protocol,
        target,
        authority: exchange.head.authority.clone(),
        scheme: None,
        headers,
        body: if body.is_empty() { BodySize::Empty } else { BodySize::Known(body.len() as u64) },
    }
}

/// What an authorizer may not change: it would make another message of it.
fn is_framing(name: &HeaderName) -> bool {
    use ::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
    [CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE].contains(name)
}

#[cfg(test)]
#[path = "ext_authz_tests.rs"]
mod tests;

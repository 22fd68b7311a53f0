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
use std::time::Duration;

use ::http::header::EXPECT;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::{Bytes, BytesMut};
use mesh_core::lb::EndpointState;
use mesh_core::model::{AuthorizerProtocol, BodyInCheck, DestinationRef, ExternalAuthorizer, Loss, PolicyAction};
use mesh_core::snapshot::CompiledSplit;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout};

use self::collector::Collector;
use super::affinity;
use super::authorize::facts;
use super::clock::Clock;
use super::engine::{After, Engine};
use super::exchange::{Exchange, RequestHead};
use super::failure::{Failure, Refusal};
use super::h1::Frame;
use super::message::{BodySize, Downstream, DownstreamError};
use super::retry::{Attempt, Tried};
use crate::live::Live;

/// Says of a body that is shown whether it is cut.
static PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

/// A connection that was dead is no answer; but not endlessly.
const MOST_STALE: usize = 4;

/// Its name, and how it is asked, if it can be.
type Provider<'p> = (&'p Arc<str>, Option<&'p Arc<ExternalAuthorizer>>);

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
enum NoVerdict {
    /// It could not be reached, failed, or said what cannot be understood.
    Unanswered,
    /// The question cannot be put into words: no reason to let anything through, for it is the client who chose the words.
    Unaskable,
}

use NoVerdict::Unanswered;

impl Engine {
    /// Has the request decided by an external authorizer, if a policy says so. An error: it is not let through.
    pub(super) async fn ask_authorizer<D: Downstream>(
        &self,
        live: &Live,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> Result<(), Failure> {
        let authorizer = &live.snapshot.authorizer;
        if !authorizer.asks() {
            return Ok(());
        }
        // Each provider once, in the order of the policies.
        let mut providers = SmallVec::<[Provider<'_>; 1]>::new();
        for policy in authorizer.to_ask(&facts(exchange)) {
            if let PolicyAction::Custom { provider, authorizer } = &policy.model.action
                && !providers.iter().any(|(known, _)| *known == provider)
            {
                providers.push((provider, authorizer.as_ref()));
            }
        }
        for (_, authorizer) in providers {
            let authorizer = authorizer.ok_or(Failure::NotAsked { status: 403 })?;
            self.ask_one(live, authorizer, exchange, client).await?;
        }
        Ok(())
    }

    async fn ask_one<D: Downstream>(
        &self,
        live: &Live,
        authorizer: &ExternalAuthorizer,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> Result<(), Failure> {
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
            Err(NoVerdict::Unanswered) if authorizer.fail_open => Ok(()),
            Err(NoVerdict::Unanswered | NoVerdict::Unaskable) => {
                Err(Failure::NotAsked { status: authorizer.status_on_error })
            }
        }
    }

    async fn check(
        &self,
        live: &Live,
        authorizer: &ExternalAuthorizer,
        exchange: &Exchange,
        body: Bytes,
        whole: bool,
    ) -> Result<Verdict, NoVerdict> {
        let DestinationRef::Known(key) = &authorizer.destination else { return Err(Unanswered) };
        let cluster = live.snapshot.cluster_index(key).and_then(|index| live.cluster(index)).ok_or(Unanswered)?;
        let (head, body) = match &authorizer.protocol {
            AuthorizerProtocol::Grpc => {
                grpc::question(exchange, &cluster.destination.host, authorizer.body, body, whole)
            }
            AuthorizerProtocol::Http(check) => http::question(check, exchange, authorizer.body, body, whole),
        };
        let split = CompiledSplit::plain(key);
        let mut clock = Clock::new(Some(Instant::now() + authorizer.timeout), None);
        let mut asking = Exchange::new(Arc::clone(&exchange.peer), head);
        asking.grpc = authorizer.protocol == AuthorizerProtocol::Grpc;
        asking.repeatable = true;
        asking.read_ahead.extend((!body.is_empty()).then_some(Frame::Data(body)));
        let mut tried = Vec::new();
        let key = affinity::key(&cluster.destination.balancing, &asking);
        for _ in 0..=MOST_STALE {
            let endpoint: Arc<EndpointState> = cluster.pick(None, key, &tried).ok_or(Unanswered)?;
            let mut collector = Collector::default();
            let to = Attempt { cluster, endpoint: &endpoint, split: &split, policy: None, is_last: true };
            match self.attempt(&to, &mut asking, &mut collector, &mut clock).await {
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
                Tried::Lost { how: Loss::NotConnected | Loss::Refused, .. } => tried.push(endpoint.address),
                Tried::Failed(Failure::BadPath) => return Err(NoVerdict::Unaskable),
                Tried::Lost { .. } | Tried::Unwanted | Tried::Failed(_) => return Err(Unanswered),
            }
        }
        Err(Unanswered)
    }
}

/// So long the part of a body that is shown may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes so much of the body that it can be shown; it is there again for whoever forwards the request. Also whether that is all of it.
async fn read_ahead<D: Downstream>(
    limit: BodyInCheck,
    exchange: &mut Exchange,
    client: &mut D,
) -> Result<(Bytes, bool), Failure> {
    let most = usize::try_from(limit.limit).unwrap_or(usize::MAX);
    if !client.is_done() && expects_continue(exchange) {
        // It is we who want the body now.
        exchange.head.headers.remove(EXPECT);
        client.send_informational(StatusCode::CONTINUE, HeaderMap::new());
        poll_fn(|cx| client.poll_flush(cx)).await.map_err(|_| Failure::ClientGone)?;
    }
    // What another provider was shown.
    let mut body = BytesMut::new();
    let mut trailers = None;
    for frame in exchange.read_ahead.drain(..) {
        keep(frame, &mut body, &mut trailers);
    }
    let reading = async {
        while !client.is_done() && body.len() <= most {
            match poll_fn(|cx| client.poll_frame(cx)).await {
                None => break,
                Some(Ok(frame)) => keep(frame, &mut body, &mut trailers),
                Some(Err(DownstreamError::Gone)) => return Err(Failure::ClientGone),
                Some(Err(DownstreamError::Malformed { status, detail })) => {
                    return Err(Failure::BadBody { status, detail });
                }
            }
        }
        Ok(())
    };
    timeout(PATIENCE, reading)
        .await
        .unwrap_or(Err(Failure::BadBody { status: 408, detail: "request_body_timeout" }))?;
    let whole = client.is_done() && body.len() <= most;
    if !whole && !limit.partial {
        return Err(Failure::BadBody { status: 413, detail: "request_payload_too_large" });
    }
    let body = body.freeze();
    exchange.read_ahead.extend((!body.is_empty()).then(|| Frame::Data(body.clone())));
    exchange.read_ahead.extend(trailers.map(Frame::Trailers));
    Ok((body.slice(..body.len().min(most)), whole))
}

/// In one piece, so that many small ones cost no more than their bytes.
fn keep(frame: Frame, body: &mut BytesMut, trailers: &mut Option<HeaderMap>) {
    match frame {
        Frame::Data(data) => body.extend_from_slice(&data),
        Frame::Trailers(last) => *trailers = Some(last),
    }
}

fn expects_continue(exchange: &Exchange) -> bool {
    exchange.head.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
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

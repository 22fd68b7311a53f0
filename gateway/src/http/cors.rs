//! Pages of other origins (`corsPolicy`): preflights that are answered here, and leave for an origin that the answer gives. Faults
//! come before, and so do policies; what rule the policy is of, and which origins it means, the tables say.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use mesh_core::snapshot::{CompiledCors, CorsRuling};

use super::engine::{After, Engine};
use super::exchange::Exchange;
use super::message::Downstream;

/// For an origin, whoever makes the answer.
pub(super) struct Leave {
    policy: Arc<CompiledCors>,
    origin: HeaderValue,
}

impl Leave {
    pub(super) fn give(&self, headers: &mut HeaderMap) {
        self.policy.permit(&self.origin, headers);
    }
}

/// The headers of the answer, if the request is a preflight that the upstream never sees.
pub(super) fn rule(policy: &Arc<CompiledCors>, exchange: &mut Exchange) -> Option<HeaderMap> {
    match policy.rule(&exchange.request()) {
        CorsRuling::NoOrigin | CorsRuling::Unmatched => None,
        CorsRuling::Allowed(origin) => {
            exchange.leave = Some(Leave { policy: Arc::clone(policy), origin: origin.clone() });
            None
        }
        CorsRuling::Answer(headers) => Some(headers),
    }
}

impl Engine {
    pub(super) async fn answer_preflight<D: Downstream>(
        &self,
        headers: HeaderMap,
        exchange: &mut Exchange,
        client: &mut D,
    ) -> After {
        exchange.outcome.status = StatusCode::OK.as_u16();
        exchange.outcome.details = Cow::Borrowed("cors_response");
        self.send_reply(StatusCode::OK, Vec::new(), headers, None, false, exchange, client).await
    }
}

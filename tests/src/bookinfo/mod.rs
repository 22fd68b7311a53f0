//! The bookinfo demo: a small bookstore of four services that speak HTTP with each other, as in Istio's tutorials, so
//! that a reader of those tutorials finds the same paths, the same JSON fields and the same stars. Each service is a
//! file; `server` listens, `outgoing` calls, `trace` says which headers travel along. The texts and pages are our own.
//!
//! ```text
//! browser -> productpage -> details
//!                       \-> reviews v1 | v2 | v3 -> ratings (v2 and v3 only)
//! ```

pub mod certificate;
pub mod details;
pub mod outgoing;
mod page;
pub mod productpage;
pub mod ratings;
pub mod reviews;
pub mod server;
mod trace;

use std::sync::Arc;

use http::{Method, StatusCode};

use server::{Answer, Call};

/// One of the services, ready to answer.
pub enum Service {
    Productpage(productpage::Productpage),
    Details,
    Reviews(reviews::Reviews),
    Ratings(ratings::Ratings),
}

impl Service {
    pub async fn answer(self: Arc<Self>, call: Call) -> Answer {
        if call.path() == "/health" && matches!(call.method, Method::GET | Method::HEAD) {
            return Answer::json(StatusCode::OK, &serde_json::json!({ "status": "healthy" }));
        }
        match &*self {
            Service::Productpage(service) => service.answer(&call).await,
            Service::Details => details::answer(&call),
            Service::Reviews(service) => service.answer(&call).await,
            Service::Ratings(service) => service.answer(&call),
        }
    }
}

/// The number behind `/{first}/`, if the path is exactly that.
fn product_id(path: &str, first: &str) -> Option<Result<u32, Answer>> {
    let id = path.strip_prefix('/')?.strip_prefix(first)?.strip_prefix('/')?;
    Some(id.parse().map_err(|_| {
        Answer::json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": "please give a numeric product ID" }))
    }))
}

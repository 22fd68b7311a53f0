//! The reviews service in its three versions: v1 knows no stars, v2 shows black ones, v3 red ones (both ask ratings).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::outgoing::Upstream;
use super::server::{Answer, Call};
use super::{product_id, trace};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    V1,
    V2,
    V3,
}

impl Version {
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::V3 => "v3",
        }
    }

    fn color(self) -> Option<&'static str> {
        match self {
            Version::V1 => None,
            Version::V2 => Some("black"),
            Version::V3 => Some("red"),
        }
    }

    /// How long ratings may take. That v2 waits longer than productpage waits for reviews is the planted bug that the
    /// fault injection tutorial is about: a delay of 7 s passes here, but fails there.
    fn patience(self) -> Duration {
        if self == Version::V3 { Duration::from_millis(2500) } else { Duration::from_secs(10) }
    }
}

const REVIEWS: [(&str, &str); 2] = [
    (
        "Reviewer1",
        "Two pairs of twins, one busy market town, and nobody who stops to ask the obvious question. I laughed until \
         the last door closed.",
    ),
    (
        "Reviewer2",
        "Light, quick and cleverly built. It wants a stage more than an armchair, yet it reads well in a single \
         evening.",
    ),
];

pub struct Reviews {
    version: Version,
    /// None: stars are not asked for.
    ratings: Option<Upstream>,
    /// Shown on the page, so that one sees who answered.
    pod: String,
}

#[derive(Deserialize)]
struct RatingsAnswer {
    ratings: HashMap<String, u8>,
}

impl Reviews {
    pub fn new(version: Version, ratings: Option<Upstream>) -> Self {
        let pod = std::env::var("HOSTNAME").ok().filter(|name| name.starts_with("reviews"));
        Self { version, ratings, pod: pod.unwrap_or_else(|| format!("reviews-{}", version.as_str())) }
    }

    /// `GET /reviews/{id}`
    pub async fn answer(&self, call: &Call) -> Answer {
        if !call.is_read() {
            return Answer::method_not_allowed();
        }
        let id = match product_id(call.path(), "reviews") {
            None => return Answer::not_found(),
            Some(Err(answer)) => return answer,
            Some(Ok(id)) => id,
        };
        let stars = match (self.version.color(), &self.ratings) {
            (Some(color), Some(ratings)) => Some((color, self.stars(ratings, id, &call.headers).await)),
            _ => None,
        };
        let reviews: Vec<Value> = REVIEWS.iter().map(|(who, text)| review(who, text, stars.as_ref())).collect();
        let body = json!({ "id": id.to_string(), "podname": self.pod, "clustername": "null", "reviews": reviews });
        Answer::json(StatusCode::OK, &body)
            .with(http::HeaderName::from_static("x-reviews-version"), HeaderValue::from_static(self.version.as_str()))
    }

    async fn stars(&self, ratings: &Upstream, id: u32, incoming: &HeaderMap) -> anyhow::Result<HashMap<String, u8>> {
        let path = format!("/ratings/{id}");
        let (status, body) = ratings.get(&path, trace::forwarded(incoming), self.version.patience()).await?;
        if status != StatusCode::OK {
            bail!("ratings answered {status}");
        }
        Ok(serde_json::from_slice::<RatingsAnswer>(&body)?.ratings)
    }
}

fn review(who: &str, text: &str, stars: Option<&(&str, anyhow::Result<HashMap<String, u8>>)>) -> Value {
    let mut review = json!({ "reviewer": who, "text": text });
    if let (Some((color, stars)), Some(fields)) = (stars, review.as_object_mut()) {
        let rating = match stars {
            Ok(stars) => json!({ "stars": stars.get(who), "color": color }),
            Err(_) => json!({ "error": "Ratings service is currently unavailable" }),
        };
        fields.insert("rating".to_owned(), rating);
    }
    review
}

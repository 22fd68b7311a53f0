//! The productpage service: asks details and reviews and makes a page of it, and offers the same as JSON. Who signs in
//! is known by name only: whatever name is given becomes the `end-user` header of the calls behind the page.

use std::time::Duration;

use http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::outgoing::Upstream;
use super::server::{Answer, Call};
use super::{page, trace};

/// Reviews get two tries of three seconds, as in the tutorial on fault injection.
const PATIENCE: Duration = Duration::from_secs(3);
const REVIEWS_TRIES: usize = 2;
const COOKIE_NAME: &str = "session-user";
const END_USER: &str = "end-user";

pub struct Productpage {
    pub details: Upstream,
    pub reviews: Upstream,
    pub ratings: Upstream,
}

/// What another service said: its JSON, or the status and sentence that stand for it.
pub type Fetched = Result<Value, (StatusCode, String)>;

impl Productpage {
    pub async fn answer(&self, call: &Call) -> Answer {
        let path = call.path();
        if call.method == Method::POST && path == "/login" {
            return login(call);
        }
        if !call.is_read() {
            return Answer::method_not_allowed();
        }
        match path {
            "/" | "/index.html" => Answer::html(StatusCode::OK, page::index()),
            "/productpage" => self.page(call).await,
            "/login" => Answer::redirect("/productpage"),
            "/logout" => Answer::redirect("/productpage").with(SET_COOKIE, cookie("", "; Max-Age=0")),
            _ => match path.strip_prefix("/static/") {
                Some(name) => asset(name),
                None => self.api(call).await,
            },
        }
    }

    async fn page(&self, call: &Call) -> Answer {
        let user = user(&call.headers);
        let headers = outgoing_headers(call, user.as_deref());
        let (details, reviews) = tokio::join!(self.details(0, &headers), self.reviews(0, &headers));
        let html = page::product(&page::Product {
            user: user.as_deref(),
            details: &details,
            reviews: &reviews,
            scheme: call.header("x-forwarded-proto"),
            request_id: call.header("x-request-id"),
        });
        Answer::html(StatusCode::OK, html).with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// `/api/v1/products`, `/api/v1/products/{id}`, `/api/v1/products/{id}/reviews|ratings`
    async fn api(&self, call: &Call) -> Answer {
        let Some(rest) = call.path().strip_prefix("/api/v1/products") else { return Answer::not_found() };
        if matches!(rest, "" | "/") {
            return Answer::json(StatusCode::OK, &json!([page::product_json()]));
        }
        let Some(rest) = rest.strip_prefix('/') else { return Answer::not_found() };
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        let Ok(id) = id.parse::<u32>() else {
            let error = json!({ "error": "please give a numeric product ID" });
            return Answer::json(StatusCode::BAD_REQUEST, &error);
        };
        let headers = outgoing_headers(call, user(&call.headers).as_deref());
        let fetched = match what {
            "" => self.details(id, &headers).await,
            "reviews" => self.reviews(id, &headers).await,
            "ratings" => fetch(&self.ratings, &format!("/ratings/{id}"), &headers, "ratings").await,
            _ => return Answer::not_found(),
        };
        match fetched {
            Ok(value) => Answer::json(StatusCode::OK, &value),
            Err((status, error)) => Answer::json(status, &json!({ "error": error })),
        }
    }

    async fn details(&self, id: u32, headers: &HeaderMap) -> Fetched {
        fetch(&self.details, &format!("/details/{id}"), headers, "details").await
    }

    async fn reviews(&self, id: u32, headers: &HeaderMap) -> Fetched {
        let path = format!("/reviews/{id}");
        let mut fetched = fetch(&self.reviews, &path, headers, "reviews").await;
        for _ in 1..REVIEWS_TRIES {
            if fetched.is_ok() {
                break;
            }
            fetched = fetch(&self.reviews, &path, headers, "reviews").await;
        }
        fetched
    }
}

async fn fetch(upstream: &Upstream, path: &str, headers: &HeaderMap, what: &str) -> Fetched {
    let sorry = |status| (status, format!("Sorry, product {what} are currently unavailable for this book."));
    match upstream.get(path, headers.clone(), PATIENCE).await {
        Ok((StatusCode::OK, body)) => serde_json::from_slice(&body).map_err(|_| sorry(StatusCode::BAD_GATEWAY)),
        Ok((status, _)) => Err(sorry(status)),
        Err(_) => Err(sorry(StatusCode::SERVICE_UNAVAILABLE)),
    }
}

/// The user of the session wins over an `end-user` header that came in.
fn outgoing_headers(call: &Call, user: Option<&str>) -> HeaderMap {
    let mut headers = trace::forwarded(&call.headers);
    if let Some(value) = user.and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert(END_USER, value);
    }
    headers
}

fn login(call: &Call) -> Answer {
    let form = std::str::from_utf8(&call.body).unwrap_or_default();
    let name = form
        .split('&')
        .filter_map(|field| field.split_once('='))
        .find(|(key, _)| *key == "username")
        .map(|(_, value)| decode(value))
        .unwrap_or_default();
    let name = name.trim();
    // Only what can stand in a cookie and in a header: the demo needs names, not secrets.
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        return Answer::redirect("/productpage");
    }
    Answer::redirect("/productpage").with(SET_COOKIE, cookie(name, ""))
}

fn cookie(user: &str, more: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("{COOKIE_NAME}={user}; Path=/; HttpOnly; SameSite=Lax{more}"))
        .unwrap_or(HeaderValue::from_static(""))
}

fn user(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut named = cookies.filter_map(|cookie| cookie.trim().split_once('='));
    named.find(|(name, value)| *name == COOKIE_NAME && !value.is_empty()).map(|(_, value)| value.to_owned())
}

/// `application/x-www-form-urlencoded`
fn decode(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = [bytes.next().unwrap_or(b'x'), bytes.next().unwrap_or(b'x')];
                let decoded = std::str::from_utf8(&hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.push(decoded.unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn asset(name: &str) -> Answer {
    let answer = match name {
        "bookinfo.css" => {
            Answer::new(StatusCode::OK, "text/css; charset=utf-8", include_str!("assets/bookinfo.css").as_bytes())
        }
        "cover.svg" => Answer::new(StatusCode::OK, "image/svg+xml", include_str!("assets/cover.svg").as_bytes()),
        "icon.svg" => Answer::new(StatusCode::OK, "image/svg+xml", include_str!("assets/icon.svg").as_bytes()),
        _ => return Answer::not_found(),
    };
    answer.with(CACHE_CONTROL, HeaderValue::from_static("max-age=300"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_values_are_decoded() {
        assert_eq!(decode("jason"), "jason");
        assert_eq!(decode("a+b%40c%"), "a b@c?");
    }

    #[test]
    fn the_session_names_the_user() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "theme=dark; session-user=jason".parse().unwrap());
        assert_eq!(user(&headers).as_deref(), Some("jason"));
        headers.insert(COOKIE, "session-user=".parse().unwrap());
        assert_eq!(user(&headers), None);
    }
}

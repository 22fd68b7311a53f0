//! What a page is asked and what it answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

pub type Answer = Response<Full<Bytes>>;

/// A request, as far as pages care.
pub struct Ask {
    pub method: Method,
    pub headers: HeaderMap,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
}

impl Ask {
    pub fn new(method: Method, headers: HeaderMap, query: Option<&str>) -> Ask {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Ask { method, headers, query: query.collect() }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn wants_json(&self) -> bool {
        self.get("format") == Some("json")
    }

    /// Whether it may change something: a deliberate POST, not one that a web page sent through somebody's browser.
    pub fn may_change(&self) -> Result<(), Box<Answer>> {
        if self.method != Method::POST {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return Err(Box::new(answer));
        }
        let foreign = |value: &HeaderValue| !matches!(value.as_bytes(), b"same-origin" | b"none");
        if self.headers.get("sec-fetch-site").is_some_and(foreign) {
            return Err(Box::new(text(StatusCode::FORBIDDEN, "not from another site\n")));
        }
        Ok(())
    }
}

/// `%41` and `+`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(mut body) => {
            body.push(b'\n');
            with_type(StatusCode::OK, "application/json", body)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// RFC 3339, UTC.
pub fn time(time: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn query_values_are_decoded() {
        assert_eq!(decode("a%20b+c"), "a b c");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("http%3A%2F%2Fx"), "http://x");
    }
}

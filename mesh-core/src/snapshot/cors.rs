//! Which pages of other origins may use what a rule serves (`corsPolicy`), and what browsers are told of it: as Envoy's filter
//! does (<https://fetch.spec.whatwg.org/#http-cors-protocol>). Nothing is refused here: who may not read an answer is the
//! browser's affair.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Request, TextMatch};

/// A policy, prepared.
#[derive(Debug)]
pub struct CompiledCors {
    /// One is enough.
    pub(crate) origins: Box<[TextMatch]>,
    pub(crate) methods: Listed,
    pub(crate) headers: Listed,
    /// Empty: not sent.
    pub(crate) expose: HeaderValue,
    pub(crate) max_age: Option<HeaderValue>,
    pub(crate) credentials: bool,
    pub(crate) answer_unmatched: bool,
}

/// What a preflight is told that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// Nothing is said.
    Nothing,
    /// `*`: what it asked for.
    Asked,
    These(HeaderValue),
}

/// What a policy makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsRuling<'r> {
    /// It names no origin.
    NoOrigin,
    /// Its origin has no leave; it is forwarded, a preflight too.
    Unmatched,
    /// The answer is given leave for this origin ([`CompiledCors::permit`]).
    Allowed(&'r HeaderValue),
    /// It is a preflight, and is answered 200 with these headers.
    Answer(HeaderMap),
}

impl Request<'_> {
    /// A browser asks whether a page of another origin may send a request.
    pub fn is_preflight(&self) -> bool {
        let filled = |name: HeaderName| self.headers.get(name).is_some_and(|value| !value.is_empty());
        self.method == "OPTIONS" && filled(ORIGIN) && filled(ACCESS_CONTROL_REQUEST_METHOD)
    }
}

impl CompiledCors {
    pub fn rule<'r>(&self, request: &Request<'r>) -> CorsRuling<'r> {
        let Some(origin) = request.headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else {
            return CorsRuling::NoOrigin;
        };
        let allowed = self.origins.iter().any(|one| one.matches(origin.as_bytes()));
        if !request.is_preflight() {
            return if allowed { CorsRuling::Allowed(origin) } else { CorsRuling::Unmatched };
        }
        if !allowed && !self.answer_unmatched {
            return CorsRuling::Unmatched;
        }
        CorsRuling::Answer(self.answer(allowed.then_some(origin), request.headers))
    }

    /// To a preflight. What it asked for is not checked: the browser does that.
    fn answer(&self, allowed: Option<&HeaderValue>, asked: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        match allowed {
            Some(origin) => self.permit(origin, &mut headers),
            None => self.allow_credentials(&mut headers),
        }
        for (listed, name, question) in [
            (&self.methods, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_REQUEST_METHOD),
            (&self.headers, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS),
        ] {
            let value = match listed {
                Listed::Nothing => None,
                Listed::Asked => asked.get(question),
                Listed::These(value) => Some(value),
            };
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        if let Some(age) = &self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
        }
        headers
    }

    /// Gives an answer leave for an origin that is allowed. What the upstream said of it is replaced.
    pub fn permit(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        self.allow_credentials(headers);
        if !self.expose.is_empty() {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        }
    }

    fn allow_credentials(&self, headers: &mut HeaderMap) {
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// In words, for who asks why.
    pub(crate) fn explain(&self, request: &Request<'_>) -> &'static str {
        match self.rule(request) {
            CorsRuling::NoOrigin => "the request names no origin",
            CorsRuling::Unmatched => "the origin is not allowed: the request is forwarded, the answer left as it is",
            CorsRuling::Allowed(_) => "the origin is allowed",
            CorsRuling::Answer(_) => "the preflight is answered here",
        }
    }
}

#[cfg(test)]
#[path = "cors_tests.rs"]
mod tests;

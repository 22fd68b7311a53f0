//! Fields of a request that conditions speak of, and what it means that a condition holds or fails.

use std::sync::Arc;

use crate::model::{HeaderMatch, StringMatch};

/// A part of a request with a value, or several, or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Field {
    Path,
    /// Path and query.
    Target,
    Method,
    Scheme,
    Authority,
    /// Each of its lines is a value.
    Header(Arc<str>),
    /// The first of the name.
    Query(Arc<str>),
    /// Each text of a list is a value.
    Claim(Arc<[String]>),
}

/// Number of a field in a space.
pub(super) type FieldId = u32;
/// Number of a set in a space.
pub(super) type SetId = u32;

/// What narrows the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Narrowing {
    /// One value is in the set.
    Some(SetId),
    /// No value is in the set; there need not be one.
    None(SetId),
    Present,
    Absent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) field: FieldId,
    pub(super) to: Narrowing,
}

/// One condition of a predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// All of them.
    pub(super) holds: Vec<Change>,
    /// One of them.
    pub(super) fails: Vec<Change>,
}

impl Condition {
    pub(super) fn positive(field: FieldId, set: SetId) -> Condition {
        let change = |to| vec![Change { field, to }];
        Condition { holds: change(Narrowing::Some(set)), fails: change(Narrowing::None(set)) }
    }

    pub(super) fn negative(field: FieldId, set: SetId) -> Condition {
        let Condition { holds, fails } = Condition::positive(field, set);
        Condition { holds: fails, fails: holds }
    }

    /// Of a set that a missing header counts to, for it counts as the empty text.
    pub(super) fn negative_with_missing(field: FieldId, set: SetId) -> Condition {
        let change = |to| Change { field, to };
        Condition {
            holds: vec![change(Narrowing::Present), change(Narrowing::None(set))],
            fails: vec![change(Narrowing::Absent), change(Narrowing::Some(set))],
        }
    }
}

/// What a header condition reads.
pub(super) enum Read {
    Field(Field),
    /// Not a name that a header can have.
    Nothing,
}

pub(super) fn header(header: &HeaderMatch) -> Read {
    match header.name.as_str() {
        ":method" => Read::Field(Field::Method),
        ":path" => Read::Field(Field::Target),
        ":scheme" => Read::Field(Field::Scheme),
        ":authority" | "host" => Read::Field(Field::Authority),
        name if http::HeaderName::from_bytes(name.as_bytes()).is_ok() => Read::Field(Field::Header(name.into())),
        _ => Read::Nothing,
    }
}

/// A query can name it.
pub(super) fn is_query_name(name: &str) -> bool {
    !name.bytes().any(|byte| matches!(byte, b'&' | b'=' | b'#') || byte <= b' ' || byte == 0x7f)
}

/// Whether an inverted condition on a header that is never there holds.
pub(super) fn holds_of_missing(value: &StringMatch, has_empty: bool) -> bool {
    matches!(value, StringMatch::Present) || !has_empty
}

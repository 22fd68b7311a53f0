//! Parts of an object that can be left out alone if they are wrong: serde's `deserialize_with` for fields of the types.
//!
//! With another deserialiser than ours (`serde_json`), an error in a part is an error of the whole.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::decode::PART;

/// A list whose elements stand for themselves: an invalid one is dropped, the others stay.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let parts: Vec<Part<T>> = Vec::deserialize(deserializer)?;
    Ok(parts.into_iter().filter_map(|part| part.0).collect())
}

/// A list whose elements stand for themselves, and in which it matters that one is missing: the place of an invalid one is none.
pub(super) fn places<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<Option<T>>, D::Error> {
    let parts: Vec<Part<T>> = Vec::deserialize(deserializer)?;
    Ok(parts.into_iter().map(|part| part.0).collect())
}

/// A field without which the rest still means something: an invalid one is taken as absent.
pub(super) fn block<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let part: Option<Part<T>> = Option::deserialize(deserializer)?;
    Ok(part.and_then(|part| part.0))
}

struct Part<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(PART, PartVisitor(PhantomData))
    }
}

struct PartVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PartVisitor<T> {
    type Value = Part<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of an object")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part<T>, D::Error> {
        T::deserialize(deserializer).map(|value| Part(Some(value)))
    }

    /// Our deserialiser: each element is an attempt at the same part, an error asks for another attempt.
    fn visit_seq<A: SeqAccess<'de>>(self, mut attempts: A) -> Result<Part<T>, A::Error> {
        loop {
            if let Ok(part) = attempts.next_element() {
                return Ok(Part(part));
            }
        }
    }
}

//! The parts of a node, as serde visits them.

use serde::de::value::{StrDeserializer, UsizeDeserializer};
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};

use super::super::yaml::{Entry, Node};
use super::error::Error;
use super::source::{Path, Source};
use super::{INDEX, MAX_ERRORS, address};

pub(super) struct Elements<'a> {
    list: Source<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'a> Elements<'a> {
    pub fn new(list: Source<'a>, items: &'a [Node]) -> Self {
        Self { list, items: items.iter().enumerate() }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let context = self.list.context;
        let Some((index, node)) = self.items.find(|(_, node)| !context.is_skipped(node)) else { return Ok(None) };
        let path = Path::Index(self.list.path, index);
        let element = Source::element(context, node, &path, index);
        if node.is_null() {
            return Err(element.locate(Error::invalid("an element of a list cannot be null", None)));
        }
        seed.deserialize(element).map(Some).map_err(|error| element.locate(error))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The fields of a struct, or the entries of a map.
pub(super) struct Fields<'a> {
    object: Source<'a>,
    entries: std::slice::Iter<'a, Entry>,
    /// Names of a struct's fields.
    known: Option<&'static [&'static str]>,
    seen: Vec<&'static str>,
    /// To be given as the field [`INDEX`].
    index: Option<usize>,
    current: Option<(&'a Entry, &'a str)>,
}

impl<'a> Fields<'a> {
    pub fn any(object: Source<'a>, entries: &'a [Entry]) -> Self {
        Self { object, entries: entries.iter(), known: None, seen: Vec::new(), index: None, current: None }
    }

    pub fn of(object: Source<'a>, entries: &'a [Entry], known: &'static [&'static str], index: Option<usize>) -> Self {
        let index = index.filter(|_| known.contains(&INDEX));
        Self { known: Some(known), index, ..Self::any(object, entries) }
    }

    /// Whether a field is absent only because its value was wrong.
    pub fn skips(object: Source<'_>, entries: &[Entry], name: &str) -> bool {
        entries.iter().any(|entry| {
            (entry.key == name || camel_case(&entry.key) == name) && object.context.is_skipped(&entry.value)
        })
    }

    fn error(&self, entry: &Entry, message: String) -> Error {
        Error::invalid(message, None).at(Path::Field(self.object.path, &entry.key), entry.key_at, address(&entry.value))
    }

    /// The next entry that counts, with its name.
    fn next(&mut self) -> Result<Option<(&'a Entry, &'a str)>, Error> {
        let context = self.object.context;
        while let Some(entry) = self.entries.next() {
            if context.is_skipped(&entry.value) {
                continue;
            }
            if let Some(first) = entry.first {
                let message = format!("the key `{}` is given twice, first in line {}", entry.key, first.line);
                return Err(self.error(entry, message));
            }
            let Some(known) = self.known else { return Ok(Some((entry, &entry.key))) };
            let Some(name) = known_name(known, &entry.key) else {
                context.unknown(entry, self.object.path, known);
                continue;
            };
            if entry.value.is_null() {
                continue;
            }
            if self.seen.contains(&name) {
                return Err(self.error(entry, format!("the field `{name}` is given twice")));
            }
            self.seen.push(name);
            return Ok(Some((entry, name)));
        }
        Ok(None)
    }
}

/// The field as the type calls it. protojson accepts the proto's `snake_case` names beside `camelCase`.
fn known_name(known: &'static [&'static str], key: &str) -> Option<&'static str> {
    let find = |key: &str| known.iter().copied().find(|name| *name == key && *name != INDEX);
    find(key).or_else(|| if key.contains('_') { find(&camel_case(key)) } else { None })
}

pub(in super::super) fn camel_case(name: &str) -> String {
    let mut result = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else {
            result.push(if upper { c.to_ascii_uppercase() } else { c });
            upper = false;
        }
    }
    result
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let name = if self.index.is_some() {
            INDEX
        } else {
            match self.next()? {
                Some((entry, name)) => {
                    self.current = Some((entry, name));
                    name
                }
                None => return Ok(None),
            }
        };
        let key: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        if let Some(index) = self.index.take() {
            let value: UsizeDeserializer<Error> = index.into_deserializer();
            return seed.deserialize(value);
        }
        let Some((entry, name)) = self.current.take() else {
            return Err(Error::invalid("a value was asked for before its key", None));
        };
        let path = Path::Field(self.object.path, name);
        let value = Source::new(self.object.context, &entry.value, entry.key_at, &path);
        seed.deserialize(value).map_err(|error| value.locate(error))
    }
}

/// The same part again and again, until it can be read ([`PART`]).
pub(super) struct Attempts<'a> {
    part: Source<'a>,
    errors: usize,
}

impl<'a> Attempts<'a> {
    pub fn new(part: Source<'a>) -> Self {
        Self { part, errors: 0 }
    }
}

impl<'de> SeqAccess<'de> for Attempts<'_> {
    type Error = Error;

    /// An error: try again. None: the part has errors, all of them are recorded.
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        match seed.deserialize(self.part) {
            Ok(value) => Ok((self.errors == 0).then_some(value)),
            Err(error) => {
                self.errors += 1;
                let again = self.part.context.record(self.part.locate(error), self.part.node);
                if again && self.errors < MAX_ERRORS { Err(Error::invalid("try again", None)) } else { Ok(None) }
            }
        }
    }
}

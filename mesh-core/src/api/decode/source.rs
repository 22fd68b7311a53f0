//! The serde deserialiser over one node.

use std::fmt;

use serde::de::{Deserializer, Visitor, value::StrDeserializer};

use super::super::yaml::{Mark, Node, Value};
use super::access::{Attempts, Elements, Fields};
use super::error::{Error, suggestion};
use super::scalar::{Scalar, boolean, classify};
use super::{Context, PART, address};

/// The way to a node, from the inside out: it only becomes text when there is something to report.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(name) => f.write_str(name),
            Path::Field(Path::Root(""), name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub context: &'a Context,
    pub node: &'a Node,
    /// Where its key is, or the element starts.
    at: Mark,
    pub path: &'a Path<'a>,
    /// If it is an element of a list.
    index: Option<usize>,
}

impl<'a> Source<'a> {
    pub fn new(context: &'a Context, node: &'a Node, at: Mark, path: &'a Path<'a>) -> Self {
        Self { context, node, at, path, index: None }
    }

    pub fn element(context: &'a Context, node: &'a Node, path: &'a Path<'a>, index: usize) -> Self {
        Self { context, node, at: node.at, path, index: Some(index) }
    }

    /// Gives an error this place, unless it has one further inside.
    pub fn locate(&self, error: Error) -> Error {
        let at = match self.node.value() {
            Value::Scalar { .. } => self.node.at,
            _ => self.at,
        };
        error.at(self.path, at, address(self.node))
    }

    fn wrong(&self, expected: &str) -> Error {
        let found = match self.node.value() {
            Value::Mapping(_) => "a mapping is not".to_owned(),
            Value::Sequence(_) => "a list is not".to_owned(),
            Value::Scalar { text, plain: true } if classify(text) == Scalar::Null => "null is not".to_owned(),
            Value::Scalar { .. } if self.context.secret => "the value is not".to_owned(),
            Value::Scalar { text, .. } => format!("`{}` is not", shorten(text)),
        };
        self.locate(Error::invalid(format!("{found} {expected}"), None))
    }

    /// The text of a scalar that is one: `5` and `true` must be quoted, as Kubernetes demands.
    fn text(&self) -> Result<&'a str, Error> {
        let Value::Scalar { text, plain } = self.node.value() else { return Err(self.wrong("a text")) };
        let what = match classify(text) {
            Scalar::Text | Scalar::Null => return Ok(if *plain && self.node.is_null() { "" } else { text }),
            _ if !plain => return Ok(text),
            Scalar::Bool(_) => "a boolean",
            Scalar::Int(_) | Scalar::Float(_) => "a number",
        };
        let help = Some("put it in quotes".to_owned());
        if self.context.secret {
            return Err(self.locate(Error::invalid(format!("the value is {what}, not a text"), help)));
        }
        Err(self.locate(Error::invalid(format!("`{text}` is {what}, not a text"), help)))
    }

    /// A whole number in a range, also quoted or written as `1e3` (protojson).
    fn integer(&self, min: i128, max: i128) -> Result<i128, Error> {
        let expected = || format!("a whole number from {min} to {max}");
        let Value::Scalar { text, .. } = self.node.value() else { return Err(self.wrong(&expected())) };
        let value = match classify(text) {
            Scalar::Int(value) => Some(value),
            // Floats below 2^53 hold whole numbers exactly.
            Scalar::Float(value) if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 => {
                Some(value as i128)
            }
            _ => None,
        };
        value.filter(|value| (min..=max).contains(value)).ok_or_else(|| self.wrong(&expected()))
    }
}

/// Enough of a value to find it.
fn shorten(text: &str) -> String {
    const LENGTH: usize = 80;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.integer(i128::from(<$type>::MIN), i128::from(<$type>::MAX))?;
            // The range was checked.
            <$type>::try_from(value).map_err(|_| self.wrong("a whole number")).and_then(|value| visitor.$visit(value))
        })*
    };
}

impl<'de> Deserializer<'de> for Source<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let visited = match self.node.value() {
            Value::Sequence(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
            Value::Scalar { text, plain: false } => visitor.visit_str(text),
            Value::Scalar { text, plain: true } => match classify(text) {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::Text => visitor.visit_str(text),
                Scalar::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_u64(value),
                    (_, Ok(value)) => visitor.visit_i64(value),
                    _ => visitor.visit_i128(value),
                },
            },
        };
        visited.map_err(|error| self.locate(error))
    }

    integers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value() {
            Value::Scalar { text, plain: true } => {
                visitor.visit_bool(boolean(text).ok_or_else(|| self.wrong("`true` or `false`"))?)
            }
            _ => Err(self.wrong("`true` or `false` without quotes")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Scalar { text, .. } = self.node.value() else { return Err(self.wrong("a number")) };
        match classify(text) {
            Scalar::Int(value) => visitor.visit_f64(value as f64),
            Scalar::Float(value) => visitor.visit_f64(value),
            _ => Err(self.wrong("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text()?).map_err(|error| self.locate(error))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == PART { visitor.visit_seq(Attempts::new(self)) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value() {
            Value::Sequence(items) => visitor.visit_seq(Elements::new(self, items)),
            _ => Err(self.wrong("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value() {
            Value::Mapping(entries) => visitor.visit_map(Fields::any(self, entries)),
            _ => Err(self.wrong("a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Mapping(entries) = self.node.value() else { return Err(self.wrong("a mapping")) };
        visitor.visit_map(Fields::of(self, entries, fields, self.index)).map_err(|error| {
            let reported = error.missing().is_some_and(|name| Fields::skips(self, entries, name));
            let error = self.locate(error);
            if reported { error.silent() } else { error }
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text = self.text()?;
        if variants.contains(&text) {
            return visitor.visit_enum(StrDeserializer::new(text));
        }
        let help = suggestion(text, variants.iter().copied(), "allowed");
        Err(self.locate(Error::invalid(format!("`{}` is not a value of this field", shorten(text)), help)))
    }

    serde::forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple tuple_struct }
}

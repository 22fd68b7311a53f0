//! One reason why a value cannot be read, with its place.

use std::fmt::{self, Display};

use serde::de::{Expected, Unexpected};

use super::super::yaml::Mark;
use super::{Finding, FindingKind};

#[derive(Debug)]
pub(super) struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: FindingKind,
    message: String,
    help: Option<String>,
    /// Of a missing field.
    name: Option<&'static str>,
    place: Option<Place>,
    /// The user knows already: the field is missing because its value was wrong.
    silent: bool,
}

#[derive(Debug)]
struct Place {
    field: String,
    at: Mark,
    culprit: usize,
}

impl Error {
    pub fn invalid(message: impl Into<String>, help: Option<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { kind: FindingKind::Invalid, message, help, name: None, place: None, silent: false }))
    }

    /// Gives it a place, unless a place further inside is known.
    pub fn at(mut self, field: impl Display, at: Mark, culprit: usize) -> Self {
        if self.0.place.is_none() {
            let field = match self.0.name {
                Some(name) => join(&field.to_string(), name),
                None => field.to_string(),
            };
            self.0.place = Some(Place { field, at, culprit });
        }
        self
    }

    /// The field that is missing, if that is the error and its place is not known yet.
    pub fn missing(&self) -> Option<&'static str> {
        if self.0.place.is_none() { self.0.name } else { None }
    }

    pub fn silent(mut self) -> Self {
        self.0.silent = true;
        self
    }

    /// The finding (none: it was reported before) and the address of the node to skip. None: the place is not known,
    /// which cannot happen to an error that went through a [`Source`](super::Source).
    pub fn into_finding(self) -> Option<(Option<Finding>, usize)> {
        let Inner { kind, message, help, place, silent, .. } = *self.0;
        let place = place?;
        let finding = Finding { kind, field: place.field, at: place.at, message, help };
        Some(((!silent).then_some(finding), place.culprit))
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self::invalid(message.to_string(), None)
    }

    fn missing_field(name: &'static str) -> Self {
        let mut error = Self::invalid(format!("the field `{name}` is required"), None);
        error.0.kind = FindingKind::Missing;
        error.0.name = Some(name);
        error
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(format!("{} is not {expected}", shown(unexpected)), None)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(unexpected, expected)
    }
}

fn shown(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Unsigned(number) => format!("`{number}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        Unexpected::Float(number) => format!("`{number}`"),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Map => "a mapping".into(),
        Unexpected::Seq => "a list".into(),
        other => other.to_string(),
    }
}

/// Which of the known names may have been meant, and all of them if they are few.
pub(super) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone, all: &str) -> Option<String> {
    const FEW: usize = 16;
    let nearest = nearest(name, known.clone());
    let names: Vec<&str> = known.take(FEW + 1).collect();
    let list = (!names.is_empty() && names.len() <= FEW).then(|| format!("{all}: `{}`", names.join("`, `")));
    match (nearest, list) {
        (Some(nearest), Some(list)) => Some(format!("did you mean `{nearest}`? {list}")),
        (Some(nearest), None) => Some(format!("did you mean `{nearest}`?")),
        (None, list) => list,
    }
}

/// The known name that is one spelling mistake away, or a few in a long name.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let wanted = plain(name);
    known
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (name.chars().count() / 3).max(1))
        .map(|(_, candidate)| candidate)
}

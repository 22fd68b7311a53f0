//! Where every field of an object was written.

use std::collections::HashMap;
use std::sync::Arc;

use crate::object::Position;

/// Line and column by field path. Kept per object, because what is wrong with a field is often only known once other
/// objects are. Empty for objects that do not come from a file.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    file: Arc<str>,
    fields: Arc<HashMap<Box<str>, (u32, u32)>>,
}

impl Positions {
    pub fn new(file: Arc<str>, fields: HashMap<Box<str>, (u32, u32)>) -> Self {
        Self { file, fields: Arc::new(fields) }
    }

    /// The field's place, or the place of the nearest field around it; `""` is the object.
    pub fn get(&self, field: &str) -> Option<Position> {
        let mut path = field;
        loop {
            if let Some((line, column)) = self.fields.get(path) {
                return Some(Position { file: self.file.clone(), line: *line, column: *column });
            }
            if path.is_empty() {
                return None;
            }
            path = path.rfind(['.', '[']).and_then(|end| path.get(..end)).unwrap_or("");
        }
    }

    /// Whether exactly this field was written.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }
}

/// Positions say nothing about meaning: an object that only moved in its file is the same object.
impl PartialEq for Positions {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

//! Where every field of an object was written. Kept per object, because what is wrong with a field is often only known
//! once other objects are.

use std::collections::HashMap;
use std::sync::Arc;

use crate::object::Position;

use super::decode::camel_case;
use super::yaml::{Mark, Node, Value};

/// Line and column by field path. Empty for objects that do not come from a file. A clone is cheap.
#[derive(Clone, Default)]
pub struct Positions {
    file: Arc<str>,
    table: Arc<Table>,
}

/// A tree in one array: the children of a field lie side by side, so that `http[70000]` is found at once and a field
/// costs 20 bytes, not a path.
#[derive(Default)]
struct Table {
    fields: Vec<Field>,
    names: Vec<Box<str>>,
}

#[derive(Clone, Copy)]
struct Field {
    name: u32,
    line: u32,
    column: u32,
    first_child: u32,
    children: u32,
}

/// Name of an element of a list.
const ELEMENT: u32 = u32::MAX;

impl Positions {
    pub(super) fn new(file: Arc<str>, object: &Node) -> Self {
        let mut table = Table { fields: vec![Field::new(ELEMENT, object.at)], names: Vec::new() };
        let mut names: HashMap<&str, u32> = HashMap::new();
        let mut queue = vec![(0_usize, object)];
        while let Some((parent, node)) = queue.pop() {
            let first = table.fields.len();
            match node.value() {
                Value::Scalar { .. } => continue,
                Value::Sequence(items) => {
                    for item in items {
                        queue.push((table.fields.len(), item));
                        table.fields.push(Field::new(ELEMENT, item.at));
                    }
                }
                Value::Mapping(entries) => {
                    for entry in entries {
                        let name = *names.entry(&entry.key).or_insert_with(|| table.name(&entry.key));
                        let at = match entry.value.value() {
                            Value::Scalar { .. } => entry.value.at,
                            _ => entry.key_at,
                        };
                        queue.push((table.fields.len(), &entry.value));
                        table.fields.push(Field::new(name, at));
                    }
                }
            }
            let children = table.fields.len() - first;
            if let Some(field) = table.fields.get_mut(parent) {
                field.first_child = index(first);
                field.children = index(children);
            }
        }
        table.fields.shrink_to_fit();
        Self { file, table: Arc::new(table) }
    }

    /// The place of a field (a scalar's value, else its key), or of the nearest field around it; `""` is the object.
    pub fn get(&self, field: &str) -> Option<Position> {
        let (found, _) = self.table.find(field)?;
        Some(Position { file: self.file.clone(), line: found.line, column: found.column })
    }

    /// Whether exactly this field was written.
    pub fn has(&self, field: &str) -> bool {
        self.table.find(field).is_some_and(|(_, rest)| rest.is_empty())
    }
}

impl Table {
    fn name(&mut self, name: &str) -> u32 {
        self.names.push(name.into());
        index(self.names.len() - 1)
    }

    /// The field that a path leads to, as far as it leads, and the rest of the path.
    fn find<'p>(&self, path: &'p str) -> Option<(Field, &'p str)> {
        let mut field = *self.fields.first()?;
        let mut rest = path;
        while !rest.is_empty() {
            match self.step(field, rest) {
                Some((child, tail)) => (field, rest) = (child, tail),
                None => break,
            }
        }
        Some((field, rest))
    }

    /// One `[3]` or `.name`. A name may hold dots (labels), so the longest one that fits counts.
    fn step<'p>(&self, field: Field, path: &'p str) -> Option<(Field, &'p str)> {
        let first = field.first_child as usize;
        let children = self.fields.get(first..first.checked_add(field.children as usize)?)?;
        if let Some(tail) = path.strip_prefix('[') {
            let (number, tail) = tail.split_once(']')?;
            let child = children.get(number.parse::<usize>().ok()?)?;
            return (child.name == ELEMENT).then_some((*child, tail));
        }
        let path = path.strip_prefix('.').unwrap_or(path);
        let fit = |name: &str| {
            let tail = path.strip_prefix(name)?;
            (tail.is_empty() || tail.starts_with(['.', '['])).then_some(tail)
        };
        children
            .iter()
            .filter_map(|child| {
                let name = self.names.get(child.name as usize)?;
                let tail = fit(name).or_else(|| if name.contains('_') { fit(&camel_case(name)) } else { None })?;
                Some((*child, tail))
            })
            .min_by_key(|(_, tail)| tail.len())
    }
}

impl Field {
    fn new(name: u32, at: Mark) -> Self {
        Self { name, line: at.line, column: at.column, first_child: 0, children: 0 }
    }
}

/// Texts of more than 4 GiB are not read.
fn index(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Positions say nothing about meaning: an object that only moved in its file is the same object.
impl PartialEq for Positions {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Positions({}, {} fields)", self.file, self.table.fields.len())
    }
}

#[cfg(test)]
#[path = "positions_tests.rs"]
mod tests;

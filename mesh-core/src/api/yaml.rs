//! YAML (and so JSON) text to trees of nodes that know their place. Decides: documents, anchors, merge keys, limits.
//! Must not know: kinds and types; a plain scalar stays text until someone asks for a number.
//!
//! `granit-parser` is the scanner under serde-saphyr. Its events are used directly, because a serde value has no place
//! for each of its fields, and one deserialisation can report only one error.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span};

/// Nodes that aliases and merge keys may add to a document: a few lines of nested anchors can mean billions.
const MAX_ALIASED_NODES: usize = 100_000;
/// Levels of nesting, aliases followed. No object of the API comes near; the readers recurse.
const MAX_DEPTH: usize = 200;

/// Line and column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mark {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it starts; for an alias, where the alias is.
    pub at: Mark,
    body: Rc<Body>,
}

#[derive(Debug)]
struct Body {
    value: Value,
    /// Nodes in it, aliases expanded.
    size: usize,
    depth: usize,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar {
        text: String,
        /// Not quoted, not a block, no `!!str`: may mean a number, a boolean or null.
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_at: Mark,
    pub value: Node,
    /// The same key came before, there. Both entries are kept: whoever reads the mapping reports it.
    pub first: Option<Mark>,
}

impl Node {
    fn new(at: Mark, value: Value) -> Self {
        let (size, depth) = match &value {
            Value::Scalar { .. } => (1, 1),
            Value::Sequence(items) => measure(items.iter()),
            Value::Mapping(entries) => measure(entries.iter().map(|entry| &entry.value)),
        };
        Self { at, body: Rc::new(Body { value, size, depth }) }
    }

    /// `{}`
    pub fn empty(at: Mark) -> Self {
        Self::new(at, Value::Mapping(Vec::new()))
    }

    pub fn value(&self) -> &Value {
        &self.body.value
    }

    /// Absent, `null` or `~`.
    pub fn is_null(&self) -> bool {
        matches!(self.value(), Value::Scalar { text, plain: true } if is_null(text))
    }

    /// The value of a key, if this is a mapping that has it and it is not null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match self.value() {
            Value::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|node| !node.is_null())
            }
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self.value() {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

fn measure<'a>(children: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    children.fold((1, 1), |(size, depth), child| {
        (size.saturating_add(child.body.size), depth.max(child.body.depth.saturating_add(1)))
    })
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Why a document could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub at: Mark,
    pub message: String,
}

/// All documents of a text, in order. Empty ones are left out; after one that is not YAML, reading goes on at the next
/// document marker.
pub(super) fn documents(text: &str) -> Vec<Result<Node, SyntaxError>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    // JSON may have a long key; a line of YAML too.
    options.simple_key_max_lookahead = 64 * 1024;
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut found = Vec::new();
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let step = event.map_err(|error| scan_error(&error)).and_then(|(event, span)| builder.event(event, span));
        match step {
            Ok(None) => {}
            Ok(Some(document)) if document.is_null() => {}
            Ok(Some(document)) => found.push(Ok(document)),
            Err(error) => {
                found.push(Err(error));
                builder = Builder::default();
                match parser.proceed_next_document() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        found.push(Err(scan_error(&error)));
                        break;
                    }
                }
            }
        }
    }
    found
}

fn scan_error(error: &ScanError) -> SyntaxError {
    let at = Mark { line: number(error.marker().line()), column: number(error.marker().col() + 1) };
    let message = match error.kind() {
        // What `hosts: [*.example]` comes to.
        ErrorKind::UnknownAnchor | ErrorKind::MissingAnchorOrAliasName => {
            "`*` and `&` name anchors of YAML, and this one is not known; write a wildcard in quotes: `\"*\"`".into()
        }
        _ => error.info(),
    };
    SyntaxError { at, message }
}

fn mark(span: &Span) -> Mark {
    Mark { line: number(span.start.line()), column: number(span.start.col() + 1) }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A collection that is not closed yet.
struct Frame {
    at: Mark,
    anchor: usize,
    value: Value,
    /// A mapping's key that waits for its value.
    key: Option<(String, Mark)>,
    /// Place of each key of a long mapping, where a scan would be quadratic; empty for a short one.
    keys: HashMap<String, Mark>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
}

impl Builder {
    /// The document's node, once it is complete.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<Option<Node>, SyntaxError> {
        let at = mark(&span);
        match event {
            Event::DocumentStart(..) => {
                *self = Self::default();
                Ok(None)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let string = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let plain = style == ScalarStyle::Plain && !string;
                self.complete(Node::new(at, Value::Scalar { text: text.into_owned(), plain }), anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(at, anchor, Value::Sequence(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.open(at, anchor, Value::Mapping(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.open.pop() else { return Ok(None) };
                let value = match frame.value {
                    Value::Mapping(entries) => Value::Mapping(self.merge(entries)?),
                    value => value,
                };
                self.complete(Node::new(frame.at, value), frame.anchor)
            }
            Event::Alias(anchor) => {
                let node = self.alias(at, anchor)?;
                self.complete(node, 0)
            }
            _ => Ok(None),
        }
    }

    fn open(&mut self, at: Mark, anchor: usize, value: Value) -> Result<Option<Node>, SyntaxError> {
        if self.open.last().is_some_and(|frame| matches!(frame.value, Value::Mapping(_)) && frame.key.is_none()) {
            return Err(SyntaxError { at, message: "a key must be a text, not a list or a mapping".into() });
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.open.push(Frame { at, anchor, value, key: None, keys: HashMap::new() });
        Ok(None)
    }

    fn alias(&mut self, at: Mark, anchor: usize) -> Result<Node, SyntaxError> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(SyntaxError { at, message: "this alias is inside of the value that it names".into() });
        };
        let node = Node { at, body: target.body.clone() };
        self.spend(at, node.body.size)?;
        if self.open.len().saturating_add(node.body.depth) > MAX_DEPTH {
            return Err(too_deep(at));
        }
        Ok(node)
    }

    fn spend(&mut self, at: Mark, nodes: usize) -> Result<(), SyntaxError> {
        self.aliased = self.aliased.saturating_add(nodes);
        if self.aliased > MAX_ALIASED_NODES {
            let message = format!("the aliases of this document stand for more than {MAX_ALIASED_NODES} values");
            return Err(SyntaxError { at, message });
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<Option<Node>, SyntaxError> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.open.last_mut() else { return Ok(Some(node)) };
        match (&mut frame.value, frame.key.take()) {
            (Value::Sequence(items), _) => items.push(node),
            (Value::Mapping(entries), Some((key, key_at))) => {
                let first = first_place(&mut frame.keys, entries, &key, key_at);
                entries.push(Entry { key, key_at, value: node, first });
            }
            (Value::Mapping(_), None) => match node.value() {
                Value::Scalar { text, .. } => frame.key = Some((text.clone(), node.at)),
                _ => {
                    let message = "a key must be a text, not a list or a mapping".into();
                    return Err(SyntaxError { at: node.at, message });
                }
            },
            (Value::Scalar { .. }, _) => {}
        }
        Ok(None)
    }

    /// `<<: *defaults` (YAML 1.1): the entries of the named mappings, unless the mapping has the key itself.
    fn merge(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, SyntaxError> {
        if !entries.iter().any(|entry| entry.key == "<<") {
            return Ok(entries);
        }
        let (merges, mut kept): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == "<<");
        for merge in merges {
            let sources: &[Node] = match merge.value.value() {
                Value::Sequence(items) => items,
                _ => std::slice::from_ref(&merge.value),
            };
            for source in sources {
                let Value::Mapping(more) = source.value() else {
                    let message = "`<<` takes a mapping or a list of mappings".into();
                    return Err(SyntaxError { at: merge.key_at, message });
                };
                self.spend(merge.key_at, source.body.size)?;
                for entry in more {
                    if !kept.iter().any(|own| own.key == entry.key) {
                        kept.push(entry.clone());
                    }
                }
            }
        }
        Ok(kept)
    }
}

/// Where the key was given before, if it was.
fn first_place(keys: &mut HashMap<String, Mark>, entries: &[Entry], key: &str, at: Mark) -> Option<Mark> {
    const SHORT: usize = 24;
    if entries.len() < SHORT {
        return entries.iter().find(|entry| entry.key == key).map(|entry| entry.key_at);
    }
    if keys.is_empty() {
        keys.extend(entries.iter().rev().map(|entry| (entry.key.clone(), entry.key_at)));
    }
    let first = keys.get(key).copied();
    if first.is_none() {
        keys.insert(key.to_owned(), at);
    }
    first
}

fn too_deep(at: Mark) -> SyntaxError {
    SyntaxError { at, message: format!("more than {MAX_DEPTH} levels of nesting") }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;

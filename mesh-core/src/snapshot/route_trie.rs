//! A radix trie over paths. Every node on the way of a path names the rules whose prefix ends there, and the last one
//! also the rules for exactly that path, so that a walk costs what the path is long, however many rules there are.
//!
//! Nodes are shared between generations: an edit copies the nodes on its way and no others.

use std::sync::Arc;

use foldhash::fast::RandomState;
use http::HeaderName;
use smallvec::SmallVec;

use super::PatternSet;

/// A rule in a list: its slot, and whether the path is all that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(u32);

const UNCONDITIONAL: u32 = 1 << 31;

impl Entry {
    pub(crate) fn new(slot: u32, unconditional: bool) -> Entry {
        Entry(if unconditional { slot | UNCONDITIONAL } else { slot })
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 & !UNCONDITIONAL
    }

    pub(crate) fn unconditional(self) -> bool {
        self.0 & UNCONDITIONAL != 0
    }
}

/// Rules in their order.
pub(crate) type List = SmallVec<[Entry; 4]>;

/// Which list of a node a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Prefix,
    Exact,
    Regex,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// What leads here from the parent.
    label: SmallVec<[u8; 16]>,
    /// First bytes of the children's labels.
    firsts: SmallVec<[u8; 16]>,
    children: Vec<Arc<Node>>,
    pub(crate) prefix: List,
    pub(crate) exact: List,
    pub(crate) rare: Option<Arc<Rare>>,
}

/// What few nodes have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    /// Rules with a regex all of whose matches begin with the path to this node.
    pub(crate) regex: Vec<Entry>,
    /// Their patterns, in the same order.
    pub(crate) patterns: Arc<PatternSet>,
    pub(crate) prefix_buckets: Option<Buckets>,
    pub(crate) exact_buckets: Option<Buckets>,
}

/// A long list, sorted by the value of a header that many of its rules ask for.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    pub(crate) header: HeaderName,
    pub(crate) by_value: std::collections::HashMap<Box<[u8]>, List, RandomState>,
    /// Rules that do not ask for it.
    pub(crate) rest: Vec<Entry>,
}

impl Node {
    /// Calls `visit` for the nodes on the way of `path`, from the root on; true for the node where it ends. With `FOLD`
    /// the trie holds lower-case paths, and the path is compared in any case.
    pub(crate) fn walk<'a, const FOLD: bool>(&'a self, path: &[u8], mut visit: impl FnMut(&'a Node, bool)) {
        let mut node = self;
        let mut rest = path;
        loop {
            visit(node, rest.is_empty());
            let Some(first) = rest.first() else { return };
            let first = if FOLD { first.to_ascii_lowercase() } else { *first };
            let Some(child) = node.child(first) else { return };
            let Some((start, behind)) = rest.split_at_checked(child.label.len()) else { return };
            let same = if FOLD { start.eq_ignore_ascii_case(&child.label) } else { start == child.label.as_slice() };
            if !same {
                return;
            }
            node = child;
            rest = behind;
        }
    }

    fn child(&self, first: u8) -> Option<&Arc<Node>> {
        self.children.get(memchr::memchr(first, &self.firsts)?)
    }

    /// Edits the node of this key, which is made if it is not there. Shared nodes on the way are copied.
    pub(crate) fn edit<T>(&mut self, key: &[u8], edit: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let mut node = self;
        let mut rest = key;
        while let Some(first) = rest.first() {
            let at = match memchr::memchr(*first, &node.firsts) {
                Some(at) => at,
                None => {
                    node.firsts.push(*first);
                    let mut child = Node::default();
                    child.label.extend_from_slice(rest);
                    node.children.push(Arc::new(child));
                    node.children.len() - 1
                }
            };
            let child = node.children.get_mut(at)?;
            let child = Arc::make_mut(child);
            let common = child.label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if common < child.label.len() {
                child.split(common);
            }
            node = child;
            rest = rest.get(common..).unwrap_or(&[]);
        }
        Some(edit(node))
    }

    /// Puts a node between this one and its parent, which keeps the first bytes of the label.
    fn split(&mut self, at: usize) {
        let mut lower = std::mem::take(self);
        self.label = SmallVec::from_slice(lower.label.get(..at).unwrap_or(&[]));
        lower.label.drain(..at);
        self.firsts.extend(lower.label.first().copied());
        self.children.push(Arc::new(lower));
    }

    /// Takes away nodes on the way of `key` that hold no rule any more and lead to at most one other.
    pub(crate) fn prune(&mut self, key: &[u8]) {
        while self.prune_once(key) {}
    }

    fn prune_once(&mut self, key: &[u8]) -> bool {
        let mut node = self;
        let mut rest = key;
        loop {
            let Some(at) = rest.first().and_then(|first| memchr::memchr(*first, &node.firsts)) else { return false };
            let Some(child) = node.children.get(at) else { return false };
            let Some(behind) = rest.strip_prefix(child.label.as_slice()) else { return false };
            if !child.holds_rules() && child.children.is_empty() {
                node.children.swap_remove(at);
                node.firsts.swap_remove(at);
                return true;
            }
            let Some(child) = node.children.get_mut(at).map(Arc::make_mut) else { return false };
            if !child.holds_rules() && child.children.len() == 1 {
                child.swallow_child();
                return true;
            }
            node = child;
            rest = behind;
        }
    }

    fn holds_rules(&self) -> bool {
        let regexes = self.rare.as_ref().is_some_and(|rare| !rare.regex.is_empty());
        regexes || !self.prefix.is_empty() || !self.exact.is_empty()
    }

    /// A node without rules and with one child is that child, with a longer label.
    fn swallow_child(&mut self) {
        let Some(child) = self.children.pop() else { return };
        let mut child = Arc::unwrap_or_clone(child);
        child.label.insert_from_slice(0, &self.label);
        std::mem::swap(self, &mut child);
    }

    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        Arc::make_mut(self.rare.get_or_insert_with(Arc::default))
    }
}

/// Node by node: a recursion as deep as a chain of nested prefixes is long could end the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut orphans = std::mem::take(&mut self.children);
        while let Some(orphan) = orphans.pop() {
            if let Some(mut node) = Arc::into_inner(orphan) {
                orphans.append(&mut node.children);
            }
        }
    }
}

#[cfg(test)]
#[path = "route_trie_tests.rs"]
mod tests;

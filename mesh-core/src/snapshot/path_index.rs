//! From a path to the rules whose path condition it fulfils.
//!
//! A hash table of all prefixes and exact paths, asked once for every length at which some prefix ends, and once for the
//! whole path. The hash of each of these beginnings follows from that of the one before, so the path is read once. What a
//! look-up costs is bounded by the path's length and does not depend on how many rules there are; it touches far less
//! memory than a walk down a trie would.
//!
//! The nodes lie in pieces that generations share: an edit copies one piece of them and the plain table of numbers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::HeaderName;
use smallvec::SmallVec;

use super::{PatternSet, Pieces};

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

/// All rules about one prefix or exact path.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    key: SmallVec<[u8; 32]>,
    /// Another node with the same hash.
    next: u32,
    pub(crate) prefix: List,
    pub(crate) exact: List,
    pub(crate) rare: Option<Arc<Rare>>,
}

/// What few nodes have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    /// Rules with a regex all of whose matches begin with the node's key.
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
    pub(crate) by_value: HashMap<Box<[u8]>, List, RandomState>,
    /// Rules that do not ask for it.
    pub(crate) rest: Vec<Entry>,
}

/// No node.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(crate) struct PathIndex {
    /// Keys are lower case, and paths are compared in any case.
    any_case: bool,
    /// First node by hash.
    heads: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    nodes: Pieces<Node>,
    /// Nodes without key.
    free: Vec<u32>,
    /// Lengths of keys that paths may go on behind, ascending, with the number of such keys.
    lengths: Vec<(usize, u32)>,
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl PathIndex {
    pub(crate) fn new(any_case: bool) -> PathIndex {
        let nodes = Pieces::default();
        PathIndex { any_case, heads: HashMap::default(), nodes, free: Vec::new(), lengths: Vec::new() }
    }

    /// Calls `visit` for the node of every beginning of `path`, the shortest first; true for that of the whole path.
    pub(crate) fn visit<'a>(&'a self, path: &[u8], mut visit: impl FnMut(&'a Node, bool)) {
        let mut beginnings = Beginnings::new(path, self.any_case);
        for (length, _) in &self.lengths {
            if *length >= path.len() {
                break;
            }
            if let Some(node) = self.find(beginnings.hash(*length), path.get(..*length).unwrap_or(path)) {
                visit(node, false);
            }
        }
        if let Some(node) = self.find(beginnings.hash(path.len()), path) {
            visit(node, true);
        }
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<&Node> {
        let mut number = *self.heads.get(&hash)?;
        loop {
            let node = self.nodes.get(number)?;
            let same = if self.any_case { node.key.eq_ignore_ascii_case(key) } else { node.key.as_slice() == key };
            if same {
                return Some(node);
            }
            number = node.next;
        }
    }

    /// Edits the node of this key, which is made if it is not there, and dropped if no rule is left in it.
    pub(crate) fn edit<T>(&mut self, key: &[u8], edit: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let hash = Beginnings::new(key, false).hash(key.len());
        let number = self.number(hash, key).unwrap_or_else(|| self.make(hash, key));
        let node = self.nodes.get_mut(number)?;
        let before = node.goes_on();
        let result = edit(node);
        let (after, holds_rules) = (node.goes_on(), node.holds_rules());
        if before != after {
            self.count(key.len(), after);
        }
        if !holds_rules {
            self.unmake(hash, number);
        }
        Some(result)
    }

    fn number(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let mut number = *self.heads.get(&hash)?;
        loop {
            let node = self.nodes.get(number)?;
            if node.key.as_slice() == key {
                return Some(number);
            }
            number = node.next;
        }
    }

    fn make(&mut self, hash: u64, key: &[u8]) -> u32 {
        let next = self.heads.get(&hash).copied().unwrap_or(NONE);
        let node = Node { key: SmallVec::from_slice(key), next, prefix: List::new(), exact: List::new(), rare: None };
        let number = self.free.pop().unwrap_or_else(|| self.nodes.len());
        self.nodes.put(number, node);
        self.heads.insert(hash, number);
        number
    }

    /// Takes a node out of the chain of its hash.
    fn unmake(&mut self, hash: u64, number: u32) {
        let Some(node) = self.nodes.get_mut(number) else { return };
        let next = std::mem::replace(&mut node.next, NONE);
        node.key.clear();
        node.rare = None;
        self.free.push(number);
        if self.heads.get(&hash) != Some(&number) {
            let mut at = self.heads.get(&hash).copied().unwrap_or(NONE);
            while let Some(node) = self.nodes.get(at) {
                if node.next == number {
                    break;
                }
                at = node.next;
            }
            if let Some(before) = self.nodes.get_mut(at) {
                before.next = next;
            }
        } else if next == NONE {
            self.heads.remove(&hash);
        } else {
            self.heads.insert(hash, next);
        }
    }

    /// One key more or less of this length that paths may go on behind.
    fn count(&mut self, length: usize, more: bool) {
        match self.lengths.binary_search_by_key(&length, |(length, _)| *length) {
            Ok(at) => {
                let Some((_, count)) = self.lengths.get_mut(at) else { return };
                *count = if more { *count + 1 } else { *count - 1 };
                if *count == 0 {
                    self.lengths.remove(at);
                }
            }
            Err(at) => self.lengths.insert(at, (length, 1)),
        }
    }
}

impl Node {
    /// The path may go on behind the key.
    fn goes_on(&self) -> bool {
        !self.prefix.is_empty() || self.rare.as_ref().is_some_and(|rare| !rare.regex.is_empty())
    }

    fn holds_rules(&self) -> bool {
        self.goes_on() || !self.exact.is_empty()
    }

    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        Arc::make_mut(self.rare.get_or_insert_with(Arc::default))
    }
}

/// Hashes of the beginnings of a text, for ascending lengths.
struct Beginnings<'a> {
    text: &'a [u8],
    fold: bool,
    /// Hash of the whole words before `word`.
    state: u64,
    /// The word at `at`, and its position in bytes.
    word: u64,
    at: usize,
}

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const STEP: u64 = 0xD6E8_FEB8_6659_FD93;
const END: u64 = 0xA076_1D64_78BD_642F;

impl<'a> Beginnings<'a> {
    fn new(text: &'a [u8], fold: bool) -> Beginnings<'a> {
        let mut beginnings = Beginnings { text, fold, state: SEED, word: 0, at: 0 };
        beginnings.word = beginnings.load();
        beginnings
    }

    /// Hash of the first `length` bytes. Lengths may not become shorter from call to call.
    fn hash(&mut self, length: usize) -> u64 {
        while self.at + 8 <= length {
            self.state = fold_multiply(self.state ^ self.word, STEP);
            self.at += 8;
            self.word = self.load();
        }
        let bits = 8 * (length - self.at) as u32;
        let tail = self.word & !u64::MAX.wrapping_shl(bits);
        let hash = fold_multiply(self.state ^ tail, END ^ length as u64);
        // So that the unit tests meet many keys with the same hash.
        if cfg!(test) { hash & 0x3F } else { hash }
    }

    /// The next eight bytes, padded with zeros.
    fn load(&self) -> u64 {
        let rest = self.text.get(self.at..).unwrap_or(&[]);
        let word = match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        if self.fold { lower_case(word) } else { word }
    }
}

fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Eight bytes at once: ASCII capitals become small.
fn lower_case(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7F * EACH);
    let above_z = low + (0x7F - u64::from(b'Z')) * EACH;
    let from_a = low + (0x80 - u64::from(b'A')) * EACH;
    let capitals = (from_a ^ above_z) & !word & (0x80 * EACH);
    word | capitals >> 2
}

#[cfg(test)]
#[path = "path_index_tests.rs"]
mod tests;

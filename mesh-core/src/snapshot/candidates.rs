//! Several ordered lists of rules, read as one: lowest rank first.

use smallvec::SmallVec;

use super::Request;
use super::path_index::{Buckets, Entry, Node, Rare};

/// A list and how far it was read.
struct Cursor<'a> {
    /// Rank of the first entry.
    rank: u32,
    entries: &'a [Entry],
}

/// The lists that a request's path leads to. A rule that asks for nothing but its path needs no test: it bounds all
/// that comes behind it, and in most tables nothing else is left.
pub(super) struct Candidates<'a> {
    ranks: &'a [u32],
    /// The best rule that matches without a test.
    best: Option<Entry>,
    /// Its rank, if it was needed yet: a lone candidate's is not.
    bound: Option<u32>,
    /// A heap, lowest rank first, once `heapify` was called.
    cursors: SmallVec<[Cursor<'a>; 12]>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(ranks: &'a [u32]) -> Candidates<'a> {
        Candidates { ranks, best: None, bound: None, cursors: SmallVec::new() }
    }

    /// All lists of a node that hold for the path.
    pub(super) fn visit(&mut self, node: &'a Node, at_end: bool, request: &Request<'_>) {
        match node.rare.as_deref() {
            None => {
                self.offer(&node.prefix);
                if at_end {
                    self.offer(&node.exact);
                }
            }
            Some(rare) => self.visit_rare(node, rare, at_end, request),
        }
    }

    fn visit_rare(&mut self, node: &'a Node, rare: &'a Rare, at_end: bool, request: &Request<'_>) {
        self.offer_buckets(&node.prefix, rare.prefix_buckets.as_ref(), request);
        if at_end {
            self.offer_buckets(&node.exact, rare.exact_buckets.as_ref(), request);
        }
        if !rare.regex.is_empty() {
            rare.patterns.matches(request.path.as_bytes(), |index| {
                self.offer(rare.regex.get(index..=index).unwrap_or(&[]));
            });
        }
    }

    fn offer_buckets(&mut self, list: &'a [Entry], buckets: Option<&'a Buckets>, request: &Request<'_>) {
        let Some(buckets) = buckets else { return self.offer(list) };
        self.offer(&buckets.rest);
        for line in request.headers.get_all(&buckets.header) {
            if let Some(list) = buckets.by_value.get(line.as_bytes()) {
                self.offer(list);
            }
        }
    }

    fn offer(&mut self, entries: &'a [Entry]) {
        let Some(first) = entries.first() else { return };
        if self.best.is_none() && first.unconditional() {
            self.best = Some(*first);
            return;
        }
        let rank = self.rank(*first);
        if rank >= self.bound() {
            return;
        }
        if first.unconditional() {
            self.best = Some(*first);
            self.bound = Some(rank);
        } else {
            self.cursors.push(Cursor { rank, entries });
        }
    }

    fn bound(&mut self) -> u32 {
        let bound = self.bound.unwrap_or_else(|| self.best.map_or(u32::MAX, |best| self.rank(best)));
        if self.best.is_some() {
            self.bound = Some(bound);
        }
        bound
    }

    fn rank(&self, entry: Entry) -> u32 {
        self.ranks.get(entry.slot() as usize).copied().unwrap_or(u32::MAX)
    }

    /// The first rule in order that passes; `test` is asked only of rules that have more conditions.
    pub(super) fn first(mut self, mut test: impl FnMut(Entry) -> bool) -> Option<Entry> {
        if self.cursors.is_empty() {
            return self.best;
        }
        let bound = self.bound();
        self.cursors.retain(|cursor| cursor.rank < bound);
        for at in (0..self.cursors.len() / 2).rev() {
            self.sift(at);
        }
        while let Some(top) = self.cursors.first() {
            let Some((entry, rest)) = top.entries.split_first() else { break };
            if entry.unconditional() || test(*entry) {
                return Some(*entry);
            }
            let next = rest.first().map_or(u32::MAX, |next| self.rank(*next));
            if next < bound {
                if let Some(top) = self.cursors.first_mut() {
                    *top = Cursor { rank: next, entries: rest };
                }
            } else {
                self.cursors.swap_remove(0);
            }
            self.sift(0);
        }
        self.best
    }

    /// Moves the cursor down to where none below it is lower.
    fn sift(&mut self, mut at: usize) {
        let rank = |cursors: &[Cursor<'_>], at: usize| cursors.get(at).map_or(u32::MAX, |cursor| cursor.rank);
        loop {
            let left = 2 * at + 1;
            let right = left + 1;
            let lower = if rank(&self.cursors, right) < rank(&self.cursors, left) { right } else { left };
            if rank(&self.cursors, lower) >= rank(&self.cursors, at) {
                return;
            }
            self.cursors.swap(lower, at);
            at = lower;
        }
    }
}

/// Calls `tell` for every entry whose path holds, in no particular order.
pub(super) fn every(node: &Node, at_end: bool, path: &str, tell: &mut impl FnMut(Entry)) {
    node.prefix.iter().for_each(|entry| tell(*entry));
    if at_end {
        node.exact.iter().for_each(|entry| tell(*entry));
    }
    if let Some(rare) = node.rare.as_deref().filter(|rare| !rare.regex.is_empty()) {
        rare.patterns.matches(path.as_bytes(), |index| {
            if let Some(entry) = rare.regex.get(index) {
                tell(*entry);
            }
        });
    }
}

//! What becomes of each rule of one host: whether a request reaches it, which rules leave it none, and what an earlier one takes away.

use crate::model::{Rule, VirtualHost};
use crate::reach::{Conjunction, Example, Outcome, Place, Space};
use crate::snapshot::HostTable;

use super::table::reached;

/// Rules of a host that are looked at.
pub(super) const RULES: usize = 2_000;
/// Rules of a host up to which pairs of them are.
const PAIRS: usize = 200;

/// What becomes of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A request reaches it.
    Alive,
    /// So does one; and an earlier rule that is not the narrower one takes requests that it matches, like this one.
    Overtaken { by: usize, example: Example },
    /// None does. Positions of rules that take all of its requests, and one of these; no rules: nothing is like what it asks
    /// for.
    Dead { by: Vec<usize>, example: Option<Example> },
    /// A limit was hit.
    Unknown,
}

/// For each rule of a host, in order. Every example was asked of the table. `fuel` is what is left of the work that may be done.
pub(super) fn verdicts(host: &VirtualHost, place: Place, table: &HostTable, fuel: &mut u64) -> Vec<Verdict> {
    let mut space = Space::new(place, *fuel);
    let rules = host.rules.as_slice();
    let all: Vec<Conjunction> = rules.iter().take(RULES).map(|rule| space.conjunction(&rule.predicate)).collect();
    let mut look = Look { rules, all: &all, table, space: &mut space };
    let verdicts = (0..rules.len()).map(|at| look.verdict(at)).collect();
    *fuel = space.left();
    verdicts
}

struct Look<'a> {
    rules: &'a [Rule],
    all: &'a [Conjunction],
    table: &'a HostTable,
    space: &'a mut Space,
}

impl Look<'_> {
    fn verdict(&mut self, at: usize) -> Verdict {
        let Some(rule) = self.all.get(at).filter(|_| self.space.left() > 0) else { return Verdict::Unknown };
        if rule.is_none() {
            // Its pattern is refused, or asks for what cannot be: said elsewhere, or by the search.
            return Verdict::Dead { by: Vec::new(), example: None };
        }
        let before: Vec<&Conjunction> = self.all.iter().take(at).collect();
        match self.space.find(&[rule], &before) {
            Outcome::Unknown => Verdict::Unknown,
            Outcome::Example(example) if self.reaches(&example, at) => match self.overtaken(at) {
                Some((by, example)) => Verdict::Overtaken { by, example },
                None => Verdict::Alive,
            },
            // The table is right.
            Outcome::Example(_) => Verdict::Unknown,
            Outcome::Nothing(by) => {
                let example = match self.space.find(&[rule], &[]) {
                    Outcome::Example(example) => Some(*example),
                    _ => None,
                };
                // One of the others may take this request before them; that is no contradiction.
                let is_taken = |example: &Example| !self.reaches(example, at) && reached(self.table, example).is_some();
                match (by.is_empty(), example) {
                    (false, Some(example)) if is_taken(&example) => Verdict::Dead { by, example: Some(example) },
                    (true, None) => Verdict::Dead { by, example: None },
                    (_, _) => Verdict::Unknown,
                }
            }
        }
    }

    /// Whether the table gives the request to the rule.
    fn reaches(&self, example: &Example, at: usize) -> bool {
        let source = self.rules.get(at).map(|rule| &rule.source);
        reached(self.table, example).is_some_and(|reached| reached.as_ref() == source)
    }

    /// The first earlier rule that takes requests of this one without being the narrower, and does something else with them.
    fn overtaken(&mut self, at: usize) -> Option<(usize, Example)> {
        if at >= PAIRS {
            return None;
        }
        let (rule, own) = (self.rules.get(at)?, self.all.get(at)?);
        for (by, other) in self.rules.iter().enumerate().take(at) {
            if self.space.left() == 0 {
                return None;
            }
            let Some(taking) = self.all.get(by).filter(|other| other.is_some()) else { continue };
            let same_rule = other.source.object == rule.source.object && other.source.http == rule.source.http;
            if same_rule || (other.action == rule.action && other.headers == rule.headers) {
                continue;
            }
            let before: Vec<&Conjunction> = self.all.iter().take(by).collect();
            let is_narrower =
                |space: &mut Space| matches!(space.find(&[taking], &[own]), Outcome::Nothing(_) | Outcome::Unknown);
            if !self.space.may_meet(taking, own) || is_narrower(self.space) {
                continue;
            }
            if let Outcome::Example(example) = self.space.find(&[taking, own], &before)
                && self.reaches(&example, by)
            {
                return Some((by, *example));
            }
        }
        None
    }
}

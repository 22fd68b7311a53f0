//! The search: a cell is narrowed by one failed condition of each rule that must be missed.

use std::collections::BTreeSet;

use super::cell::{Bounds, Cell};
use super::example::Example;
use super::field::{Change, Condition, Field, Narrowing};
use super::space::{Answer, Conjunction, Lines, Space};

/// Cells that are looked at in one search.
const CELLS: u32 = 4_000;

/// What a search comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Such a request.
    Example(Box<Example>),
    /// There is none. Positions of predicates that must not match and leave none; if there are none of those, what must match
    /// never does.
    Nothing(Vec<usize>),
    /// A limit was hit.
    Unknown,
}

enum Step {
    Cell(Cell),
    Nothing,
    Unknown,
}

/// How a rule stands to a cell.
enum Relation<'c> {
    /// No request of the cell matches.
    Apart,
    /// Every one does.
    Covers,
    /// What makes it fail.
    Ways(Vec<&'c Change>),
}

impl Space {
    /// A request that all of `must` match, and none of `but`.
    pub fn find(&mut self, must: &[&Conjunction], but: &[&Conjunction]) -> Outcome {
        self.refuel();
        let Some(must) = must.iter().map(|all| all.as_ref()).collect::<Option<Vec<_>>>() else {
            return Outcome::Nothing(Vec::new());
        };
        let but: Vec<(usize, &[Condition])> =
            but.iter().enumerate().filter_map(|(at, all)| Some((at, all.as_deref()?))).collect();
        match self.search(&must, &but, Lines::One) {
            // A header may have several lines.
            (Outcome::Nothing(_), true) => self.search(&must, &but, Lines::Any).0,
            (outcome, _) => outcome,
        }
    }

    /// The same, and whether headers with several lines could change the answer. `Nothing` names few of `but`.
    fn search(&mut self, must: &[&Vec<Condition>], but: &[(usize, &[Condition])], lines: Lines) -> (Outcome, bool) {
        let several = |conditions: &[Condition]| conditions.iter().any(|condition| self.has_lines(condition));
        let matters =
            lines == Lines::One && (must.iter().any(|all| several(all)) || but.iter().any(|(_, all)| several(all)));
        let mut core = BTreeSet::new();
        let outcome = match self.attempt(must, but, lines, &mut core) {
            Step::Cell(cell) => {
                self.example(&cell, lines).map_or(Outcome::Unknown, |example| Outcome::Example(Box::new(example)))
            }
            Step::Unknown => Outcome::Unknown,
            Step::Nothing if matters => Outcome::Nothing(Vec::new()),
            Step::Nothing => Outcome::Nothing(self.fewest(must, but, lines, core)),
        };
        (outcome, matters)
    }

    fn has_lines(&self, condition: &Condition) -> bool {
        let mut changes = condition.holds.iter().chain(&condition.fails);
        changes.any(|change| matches!(self.field_of(change.field), Some(Field::Header(_) | Field::Claim(_))))
    }

    fn attempt(
        &mut self,
        must: &[&Vec<Condition>],
        but: &[(usize, &[Condition])],
        lines: Lines,
        core: &mut BTreeSet<usize>,
    ) -> Step {
        let mut cell = Cell::default();
        for change in must.iter().flat_map(|all| all.iter()).flat_map(|condition| &condition.holds) {
            if !cell.narrow(*change) {
                return Step::Nothing;
            }
        }
        let mut cells = CELLS;
        match self.is_empty(&cell, lines) {
            Some(true) => Step::Nothing,
            _ => self.descend(cell, but.to_vec(), lines, core, &mut cells),
        }
    }

    /// None: unknown.
    fn is_empty(&mut self, cell: &Cell, lines: Lines) -> Option<bool> {
        let mut unknown = false;
        for (field, bounds) in cell.iter() {
            match self.values(field, bounds, lines) {
                Answer::Nothing => return Some(true),
                Answer::Unknown => unknown = true,
                Answer::Values(_) => {}
            }
        }
        (!unknown).then_some(false)
    }

    fn descend(
        &mut self,
        mut cell: Cell,
        mut open: Vec<(usize, &[Condition])>,
        lines: Lines,
        core: &mut BTreeSet<usize>,
        cells: &mut u32,
    ) -> Step {
        let (ways, rest) = loop {
            if *cells == 0 || self.fuel == 0 {
                return Step::Unknown;
            }
            *cells -= 1;
            let mut still = Vec::new();
            let mut fewest: Option<(usize, Vec<Change>)> = None;
            let mut forced = Vec::new();
            for (at, conditions) in open {
                match self.relation(&cell, conditions, lines) {
                    Relation::Apart => continue,
                    Relation::Covers => {
                        core.insert(at);
                        return Step::Nothing;
                    }
                    Relation::Ways(ways) => match ways.as_slice() {
                        [only] => {
                            core.insert(at);
                            forced.push(**only);
                            continue;
                        }
                        _ if fewest.as_ref().is_none_or(|(_, known)| ways.len() < known.len()) => {
                            fewest = Some((at, ways.into_iter().copied().collect()));
                        }
                        _ => {}
                    },
                }
                still.push((at, conditions));
            }
            if forced.is_empty() {
                let Some((at, ways)) = fewest else { return Step::Cell(cell) };
                core.insert(at);
                still.retain(|(known, _)| *known != at);
                break (ways, still);
            }
            if !forced.into_iter().all(|change| cell.narrow(change)) || self.is_empty(&cell, lines) == Some(true) {
                return Step::Nothing;
            }
            open = still;
        };
        let mut unknown = false;
        for way in ways {
            let mut narrower = cell.clone();
            if !narrower.narrow(way) {
                continue;
            }
            match self.descend(narrower, rest.clone(), lines, core, cells) {
                Step::Cell(cell) => return Step::Cell(cell),
                Step::Nothing => {}
                Step::Unknown => unknown = true,
            }
        }
        if unknown { Step::Unknown } else { Step::Nothing }
    }

    fn relation<'c>(&mut self, cell: &Cell, conditions: &'c [Condition], lines: Lines) -> Relation<'c> {
        self.fuel = self.fuel.saturating_sub(1);
        for change in conditions.iter().flat_map(|condition| &condition.holds) {
            if let (Some(bounds), Narrowing::Some(set)) = (cell.bounds(change.field), change.to)
                && self.is_single(*change, lines)
                && self.is_apart(bounds, set)
            {
                return Relation::Apart;
            }
        }
        let mut within = cell.clone();
        for change in conditions.iter().flat_map(|condition| &condition.holds) {
            self.fuel = self.fuel.saturating_sub(10);
            if !within.narrow(*change) {
                return Relation::Apart;
            }
            let bounds = within.bounds(change.field).cloned().unwrap_or_default();
            if self.values(change.field, &bounds, lines) == Answer::Nothing {
                return Relation::Apart;
            }
        }
        let mut ways = Vec::new();
        for change in conditions.iter().flat_map(|condition| &condition.fails) {
            let Some(bounds) = cell.narrowed(*change) else { continue };
            if self.values(change.field, &bounds, lines) != Answer::Nothing {
                ways.push(change);
            }
        }
        if ways.is_empty() { Relation::Covers } else { Relation::Ways(ways) }
    }

    /// Whether the field has one value at most.
    pub(super) fn is_single(&self, change: Change, lines: Lines) -> bool {
        lines == Lines::One || !matches!(self.field_of(change.field), Some(Field::Header(_) | Field::Claim(_)))
    }

    /// As few as are enough, tried in ever smaller parts.
    fn fewest(
        &mut self,
        must: &[&Vec<Condition>],
        but: &[(usize, &[Condition])],
        lines: Lines,
        core: BTreeSet<usize>,
    ) -> Vec<usize> {
        let mut kept: Vec<(usize, &[Condition])> = but.iter().filter(|(at, _)| core.contains(at)).copied().collect();
        let mut part = kept.len().div_ceil(2);
        while part > 0 && self.fuel > 0 {
            let mut from = 0;
            while from < kept.len() && self.fuel > 0 {
                let end = (from + part).min(kept.len());
                let without: Vec<_> = kept.iter().take(from).chain(kept.iter().skip(end)).copied().collect();
                if matches!(self.attempt(must, &without, lines, &mut BTreeSet::new()), Step::Nothing) {
                    kept = without;
                } else {
                    from = end;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
        kept.into_iter().map(|(at, _)| at).collect()
    }

    /// A request of the cell. None: it could not be made.
    fn example(&mut self, cell: &Cell, lines: Lines) -> Option<Example> {
        let mut example =
            Example { method: "GET".to_owned(), scheme: self.place.scheme.to_owned(), ..Example::default() };
        let (mut path, mut target) = (Bounds::default(), Bounds::default());
        let mut pairs: Vec<String> = Vec::new();
        for (field, bounds) in cell.iter() {
            let Answer::Values(values) = self.values(field, bounds, lines) else { return None };
            let mut values: Vec<String> = values.into_iter().map(String::from_utf8).collect::<Result<_, _>>().ok()?;
            match self.field_of(field)?.clone() {
                Field::Path => path = bounds.clone(),
                Field::Target => target = bounds.clone(),
                Field::Method => example.method = values.pop()?,
                Field::Scheme => example.scheme = values.pop()?,
                Field::Authority => example.authority = values.pop()?,
                Field::Header(name) => {
                    example.headers.extend(values.into_iter().map(|value| (name.to_string(), value)));
                }
                Field::Query(name) => pairs.extend(values.into_iter().map(|value| format!("{name}={value}"))),
                Field::Claim(names) => {
                    if !values.is_empty() {
                        example.claims.push((names.to_vec(), values));
                    }
                }
            }
        }
        example.query = (!pairs.is_empty()).then(|| pairs.join("&"));
        if example.authority.is_empty() {
            example.authority = self.place.authority()?;
        }
        let mut queries = vec![example.query.clone()];
        if example.query.is_none() {
            queries.extend(self.queries(&target).into_iter().map(Some));
        }
        queries.into_iter().find_map(|query| {
            let path = self.path(&path, &target, query.as_deref())?;
            Some(Example { path: String::from_utf8(path).ok()?, query, ..example.clone() })
        })
    }
}

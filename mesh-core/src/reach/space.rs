//! The fields and sets that the rules of one place speak of, and which values a field has left within bounds.

use std::collections::HashMap;

use regex_syntax::hir::Hir;

use super::cell::{Bounds, Cell, There};
use super::field::{Condition, Field, FieldId, Narrowing, Read, SetId, header, holds_of_missing, is_query_name};
use super::find::{Found, Term, find};
use super::machine::{Machine, SIZE_LIMIT};
use super::universe::{self, Place};
use crate::model::{HeaderMatch, PathMatch, Predicate, StringMatch};
use crate::re2;

/// What one search may cost, in steps of automata.
const FUEL: u64 = 5_000_000;
/// What the automata of expressions may take together, in bytes. One that is too large counts as the largest.
const MEMORY: usize = 32 << 20;

/// Values that are tried first, for they are what clients send.
const USUAL_METHODS: [&[u8]; 7] = [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS"];

/// A predicate; none: it can never hold.
pub type Conjunction = Option<Vec<Condition>>;

/// How many values a header of a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lines {
    One,
    Any,
}

/// The values of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// None of them: the field is absent.
    Values(Vec<Vec<u8>>),
    Nothing,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Text {
    All,
    Exact(String, bool),
    Prefix(String, bool),
    Regex(String),
    /// In the syntax of `regex-syntax`.
    Universe(String),
}

/// See the module.
#[derive(Debug)]
pub struct Space {
    pub(super) place: Place,
    fields: Vec<Field>,
    sets: Vec<Option<Machine>>,
    known: HashMap<Text, SetId>,
    answers: HashMap<(FieldId, Bounds, Lines), Answer>,
    /// What is left of the work that this search may make.
    pub(super) fuel: u64,
    /// What this search was given.
    granted: u64,
    /// What is left for all searches, this one included.
    left: u64,
    /// What is left for automata of expressions.
    memory: usize,
}

impl Space {
    /// `fuel`: what all searches together may cost, and the automata that they need, in steps of automata.
    #[must_use]
    pub fn new(place: Place, fuel: u64) -> Space {
        let (fields, sets, known, answers) = (Vec::new(), Vec::new(), HashMap::new(), HashMap::new());
        let granted = FUEL.min(fuel);
        Space { place, fields, sets, known, answers, fuel: granted, granted, left: fuel, memory: MEMORY }
    }

    /// A predicate as conditions on fields, the path first.
    pub fn conjunction(&mut self, predicate: &Predicate) -> Conjunction {
        let mut all = Vec::new();
        let path = match &predicate.path {
            PathMatch::Any => None,
            PathMatch::Exact { value, ignore_case } => Some(Text::Exact(value.clone(), *ignore_case)),
            PathMatch::Prefix { value, ignore_case } => Some(Text::Prefix(value.clone(), *ignore_case)),
            PathMatch::Regex(text) => Some(Text::Regex(text.clone())),
        };
        if let Some(path) = path {
            all.push(Condition::positive(self.field(Field::Path), self.set(path)?));
        }
        let always = [
            (Field::Method, &predicate.method),
            (Field::Scheme, &predicate.scheme),
            (Field::Authority, &predicate.authority),
        ];
        for (field, value) in always {
            if let Some(value) = value {
                all.push(Condition::positive(self.field(field), self.set(text(value))?));
            }
        }
        for header in &predicate.headers {
            all.extend(self.header(header)?);
        }
        for query in &predicate.query {
            let field = Some(&query.name).filter(|name| is_query_name(name))?;
            all.push(Condition::positive(
                self.field(Field::Query(field.as_str().into())),
                self.set(text(&query.value))?,
            ));
        }
        for claim in &predicate.claims {
            let (field, set) = (self.field(Field::Claim(claim.claim.clone().into())), self.set(text(&claim.value))?);
            all.push(if claim.invert { Condition::negative(field, set) } else { Condition::positive(field, set) });
        }
        Some(all)
    }

    /// None: it never holds. An empty list: it always does.
    fn header(&mut self, wanted: &HeaderMatch) -> Option<Vec<Condition>> {
        let set = self.set(text(&wanted.value))?;
        let has_empty = match self.machine(set) {
            Some(machine) => machine.contains(b""),
            None => may_be_empty(&wanted.value),
        };
        let field = match header(wanted) {
            Read::Field(field) => field,
            Read::Nothing => {
                return (wanted.invert && holds_of_missing(&wanted.value, has_empty)).then(Vec::new);
            }
        };
        let missing_counts =
            wanted.invert && !holds_of_missing(&wanted.value, has_empty) && matches!(field, Field::Header(_));
        let field = self.field(field);
        Some(vec![match (wanted.invert, missing_counts) {
            (false, _) => Condition::positive(field, set),
            (true, false) => Condition::negative(field, set),
            (true, true) => Condition::negative_with_missing(field, set),
        }])
    }

    pub(super) fn field(&mut self, field: Field) -> FieldId {
        let number = |at: usize| FieldId::try_from(at).unwrap_or(FieldId::MAX);
        if let Some(at) = self.fields.iter().position(|known| *known == field) {
            return number(at);
        }
        self.fields.push(field);
        number(self.fields.len() - 1)
    }

    pub(super) fn field_of(&self, field: FieldId) -> Option<&Field> {
        self.fields.get(field as usize)
    }

    /// None: a pattern that is refused, which nothing matches.
    fn set(&mut self, text: Text) -> Option<SetId> {
        if let Some(known) = self.known.get(&text) {
            return Some(*known);
        }
        let machine = match &text {
            Text::All => Some(Machine::All),
            Text::Exact(value, any_case) => Some(Machine::exact(value, *any_case)),
            Text::Prefix(value, any_case) => Some(Machine::prefix(value, *any_case)),
            Text::Regex(pattern) => {
                let hir = re2::parse(pattern).ok()?;
                self.pattern(&hir)
            }
            Text::Universe(pattern) => universe::machine(pattern),
        };
        let number = SetId::try_from(self.sets.len()).ok()?;
        self.sets.push(machine);
        self.known.insert(text, number);
        Some(number)
    }

    /// None: it is too large, or nothing is left to make it of.
    fn pattern(&mut self, hir: &Hir) -> Option<Machine> {
        if self.memory == 0 || self.left == 0 {
            return None;
        }
        let machine = Machine::of_pattern(hir);
        let size = machine.as_ref().map_or(SIZE_LIMIT, Machine::size);
        self.memory = self.memory.saturating_sub(size);
        // A step for each transition of four bytes.
        self.left = self.left.saturating_sub(size as u64 / 4);
        machine
    }

    fn machine(&self, set: SetId) -> Option<&Machine> {
        self.sets.get(set as usize)?.as_ref()
    }

    /// Whether it is plain that no value is in the set and within bounds, too.
    pub(super) fn is_apart(&self, bounds: &Bounds, set: SetId) -> bool {
        let Some(machine) = self.machine(set) else { return false };
        bounds.some.iter().filter_map(|other| self.machine(*other)).any(|other| other.is_apart(machine))
    }

    /// Which values a field may have.
    pub(super) fn values(&mut self, field: FieldId, bounds: &Bounds, lines: Lines) -> Answer {
        let key = (field, bounds.clone(), lines);
        if let Some(known) = self.answers.get(&key) {
            return known.clone();
        }
        let answer = self.solve(field, bounds, lines);
        if self.fuel > 0 {
            self.answers.insert(key, answer.clone());
        }
        answer
    }

    fn solve(&mut self, field: FieldId, bounds: &Bounds, lines: Lines) -> Answer {
        let Some(field) = self.field_of(field).cloned() else { return Answer::Unknown };
        let always = matches!(field, Field::Path | Field::Target | Field::Method | Field::Scheme | Field::Authority);
        if !always && bounds.there != There::Yes {
            return Answer::Values(Vec::new());
        }
        let apart = lines == Lines::Any && matches!(field, Field::Header(_) | Field::Claim(_));
        if !apart || bounds.some.is_empty() {
            return one(self.text(&field, &bounds.some, &bounds.none));
        }
        let mut values = Vec::new();
        for set in &bounds.some {
            match self.text(&field, &[*set], &bounds.none) {
                Found::Text(text) => values.push(text),
                Found::Nothing => return Answer::Nothing,
                Found::Unknown => return Answer::Unknown,
            }
        }
        values.dedup();
        Answer::Values(values)
    }

    /// A value of the field.
    fn text(&mut self, field: &Field, some: &[SetId], none: &[SetId]) -> Found {
        let (mut all, mut but) = (some.to_vec(), none.to_vec());
        let universe = match field {
            Field::Path => universe::paths(self.place.normalization),
            Field::Target => universe::targets(self.place.normalization),
            Field::Method => universe::METHODS.to_owned(),
            Field::Scheme => universe::SCHEMES.to_owned(),
            Field::Authority => return self.authority(all, but),
            Field::Header(_) => universe::HEADER_VALUES.to_owned(),
            Field::Query(_) => universe::QUERY_VALUES.to_owned(),
            Field::Claim(_) => universe::CLAIM_TEXTS.to_owned(),
        };
        all.extend(self.set(Text::Universe(universe)));
        let usual: &[&[u8]] = match field {
            Field::Method => &USUAL_METHODS,
            Field::Scheme if self.place.scheme == "https" => &[b"https"],
            Field::Header(_) | Field::Query(_) | Field::Claim(_) => &[b"1"],
            _ => &[],
        };
        if *field == Field::Method {
            but.extend(
                universe::NEVER_METHODS.iter().filter_map(|name| self.set(Text::Exact((*name).to_owned(), false))),
            );
        }
        self.product(&all, &but, usual)
    }

    /// Of the host, and of no other one.
    fn authority(&mut self, mut all: Vec<SetId>, mut but: Vec<SetId>) -> Found {
        let either: Vec<String> = self.place.hosts.iter().map(universe::authorities).collect();
        all.extend(self.set(Text::Universe(format!("(?:{})", either.join("|")))));
        let others: Vec<String> = self.place.others.iter().map(universe::authorities).collect();
        if !others.is_empty() {
            but.extend(self.set(Text::Universe(format!("(?:{})", others.join("|")))));
        }
        self.product(&all, &but, &[])
    }

    /// A text in all of some sets and in none of others; one of the usual ones if they fit.
    fn product(&mut self, all: &[SetId], none: &[SetId], usual: &[&[u8]]) -> Found {
        let mut fuel = self.fuel;
        let machines = |sets: &[SetId]| -> Option<Vec<Term<'_>>> {
            sets.iter().map(|set| self.machine(*set).map(|machine| (machine, b"".as_slice()))).collect()
        };
        let found = match (machines(all), machines(none)) {
            (Some(all), Some(none)) => {
                let has = |sets: &[Term<'_>], text: &[u8]| sets.iter().filter(|(set, _)| set.contains(text)).count();
                let fits = |text: &&&[u8]| has(&all, text) == all.len() && has(&none, text) == 0;
                match usual.iter().find(fits) {
                    Some(text) => Found::Text(text.to_vec()),
                    None => find(&all, &none, &mut fuel),
                }
            }
            // Without the sets that are too large: if nothing is left, nothing is with them.
            _ => {
                let known = |sets: &[SetId]| -> Vec<Term<'_>> {
                    sets.iter().filter_map(|set| Some((self.machine(*set)?, b"".as_slice()))).collect()
                };
                match find(&known(all), &known(none), &mut fuel) {
                    Found::Nothing => Found::Nothing,
                    Found::Text(_) | Found::Unknown => Found::Unknown,
                }
            }
        };
        self.fuel = fuel;
        found
    }

    /// A path within bounds that has these bounds with a query behind it, too.
    pub(super) fn path(&mut self, path: &Bounds, target: &Bounds, query: Option<&str>) -> Option<Vec<u8>> {
        let behind = query.map(|query| format!("?{query}")).unwrap_or_default();
        let universe = self.set(Text::Universe(universe::paths(self.place.normalization)))?;
        let mut fuel = self.fuel;
        let terms = |path: &[SetId], target: &[SetId]| -> Option<Vec<Term<'_>>> {
            let path = path.iter().map(|set| Some((self.machine(*set)?, b"".as_slice())));
            path.chain(target.iter().map(|set| Some((self.machine(*set)?, behind.as_bytes())))).collect()
        };
        let mut some = path.some.clone();
        some.push(universe);
        let found = find(&terms(&some, &target.some)?, &terms(&path.none, &target.none)?, &mut fuel);
        self.fuel = fuel;
        match found {
            Found::Text(text) => Some(text),
            Found::Nothing | Found::Unknown => None,
        }
    }

    /// Queries that sets of targets ask for letter by letter.
    pub(super) fn queries(&self, target: &Bounds) -> Vec<String> {
        let certain = target.some.iter().filter_map(|set| self.machine(*set)).map(Machine::certain);
        certain
            .filter_map(|text| std::str::from_utf8(text).ok()?.split_once('?').map(|(_, query)| query.to_owned()))
            .collect()
    }

    /// A new search begins.
    pub(super) fn refuel(&mut self) {
        self.left = self.left.saturating_sub(self.granted.saturating_sub(self.fuel));
        self.granted = FUEL.min(self.left);
        self.fuel = self.granted;
    }

    /// Work of another kind, in steps. False: nothing is left.
    pub fn work(&mut self, steps: u64) -> bool {
        self.left = self.left.saturating_sub(steps);
        self.left > 0
    }

    /// What is left for further searches.
    pub fn left(&mut self) -> u64 {
        self.refuel();
        self.left
    }

    /// Whether it is not plain that no request matches both.
    #[must_use]
    pub fn may_meet(&self, a: &Conjunction, b: &Conjunction) -> bool {
        let (Some(a), Some(b)) = (a, b) else { return false };
        let mut cell = Cell::default();
        let fits = a.iter().flat_map(|condition| &condition.holds).all(|change| cell.narrow(*change));
        fits && !b.iter().flat_map(|condition| &condition.holds).any(|change| {
            match (cell.bounds(change.field), change.to) {
                // Two lines of a header may be in sets that have nothing in common.
                (Some(bounds), Narrowing::Some(set)) => {
                    self.is_single(*change, Lines::Any) && self.is_apart(bounds, set)
                }
                _ => false,
            }
        })
    }
}

/// Of an expression whose automaton is too large: as far as its form tells.
fn may_be_empty(value: &StringMatch) -> bool {
    let StringMatch::Regex(pattern) = value else { return true };
    re2::parse(pattern).is_ok_and(|hir| hir.properties().minimum_len() == Some(0))
}

fn one(found: Found) -> Answer {
    match found {
        Found::Text(text) => Answer::Values(vec![text]),
        Found::Nothing => Answer::Nothing,
        Found::Unknown => Answer::Unknown,
    }
}

fn text(value: &StringMatch) -> Text {
    match value {
        StringMatch::Exact(text) => Text::Exact(text.clone(), false),
        StringMatch::Prefix(text) => Text::Prefix(text.clone(), false),
        StringMatch::Regex(text) => Text::Regex(text.clone()),
        StringMatch::Present => Text::All,
    }
}

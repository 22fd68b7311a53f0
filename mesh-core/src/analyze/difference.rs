//! Which requests have another outcome in another configuration. For every pair of an old and a new rule with different effects
//! a request is looked for that the one wins before and the other afterwards; it is asked of both tables before it is told.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Side;
use super::door::{Behind, Door, doors};
use super::outcome::{Effect, Outcome, aspects};
use super::table::{is_within, reached};
use super::verdict::RULES;
use crate::model::{HostPattern, RuleSource, VirtualHost};
use crate::reach::{self, Conjunction, Example, Place, Space};
use crate::snapshot::HostTable;

/// What one comparison may cost, in steps of automata: some seconds.
const FUEL: u64 = 1_000_000_000;
/// What it costs to see that two rules have nothing in common.
const PAIR: u64 = 10;

/// What two configurations do not share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    pub changes: Vec<Change>,
    /// Where a limit was hit, so that there may be more: listener and host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// Requests that one rule wins before, and another one afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// One of them, which both tables were asked.
    pub request: Asked,
    /// Port that the Gateway names.
    pub port: u16,
    pub listener: String,
    pub old: Outcome,
    pub new: Outcome,
    /// `destinations`, `timeout`, `headers`, ...
    pub differs_in: Vec<&'static str>,
    /// Other hosts for which the same is true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_for: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Asked {
    Request(Example),
    /// Bytes that are not looked into.
    Connection {
        #[serde(skip_serializing_if = "Option::is_none")]
        sni: Option<String>,
    },
}

/// See the module.
#[must_use]
pub fn differences(old: &Side<'_>, new: &Side<'_>) -> Differences {
    let mut found = Found { old, new, fuel: FUEL, changes: BTreeMap::new(), unknown: BTreeSet::new() };
    for (door, names) in doors(old, new) {
        for name in &names {
            let others = names.iter().filter(|other| *other != name && is_within(other, name));
            found.name(&door, name, others.cloned().collect());
        }
    }
    Differences { changes: found.changes.into_values().collect(), unknown: found.unknown.into_iter().collect() }
}

type Pair = (Door, Option<RuleKey>, Option<RuleKey>, Outcome, Outcome);
type RuleKey = (String, u32, Option<u32>);

struct Found<'a> {
    old: &'a Side<'a>,
    new: &'a Side<'a>,
    fuel: u64,
    changes: BTreeMap<Pair, Change>,
    unknown: BTreeSet<String>,
}

/// A host on one side.
#[derive(Clone, Copy)]
struct Half<'a> {
    /// None: it answers as `otherwise` says, whatever is asked.
    host: Option<&'a VirtualHost>,
    table: Option<&'a HostTable>,
    otherwise: Effect<'a>,
}

impl<'a> Half<'a> {
    fn http(behind: Behind<'a>, authority: &str) -> Half<'a> {
        let plain = |otherwise| Half { host: None, table: None, otherwise };
        match behind {
            Behind::Nothing | Behind::Bytes { .. } => plain(Effect::NotOpen),
            Behind::NoServer => plain(Effect::NoHandshake),
            Behind::Http(table) => match table.entry(authority) {
                None => Half { host: None, table: Some(table), otherwise: Effect::NotFound },
                Some(entry) if entry.https_redirect => {
                    Half { host: None, table: Some(table), otherwise: Effect::HttpsRedirect }
                }
                Some(entry) => Half { host: Some(&entry.model), table: Some(table), otherwise: Effect::NotFound },
            },
        }
    }

    /// Its rules, and behind them what is done with what none of them matches.
    fn effects(&self) -> Vec<Effect<'a>> {
        let rules = self.host.into_iter().flat_map(|host| host.rules.iter().map(Effect::Rule));
        rules.chain([self.otherwise]).collect()
    }

    /// Whether the request has this effect.
    fn has(&self, example: &Example, effect: &Effect<'_>) -> bool {
        match self.table {
            None => effect.source().is_none(),
            Some(table) => reached(table, example).is_some_and(|reached| reached.as_ref() == effect.source()),
        }
    }
}

impl<'a> Found<'a> {
    fn name(&mut self, door: &Door, name: &HostPattern, others: Vec<HostPattern>) {
        let (_, normalization) = door.of(self.old, self.new);
        let place = Place { hosts: vec![name.clone()], others, scheme: door.scheme(), normalization };
        let Some(authority) = place.authority() else { return self.not_known(door, name) };
        let behind = (door.behind(self.old, &authority), door.behind(self.new, &authority));
        if let (Behind::Bytes { .. }, _) | (_, Behind::Bytes { .. }) = behind {
            self.bytes(door, name, &authority, behind);
        }
        if let (Behind::Http(_), _) | (_, Behind::Http(_)) = behind {
            let (old, new) = (Half::http(behind.0, &authority), Half::http(behind.1, &authority));
            self.requests(door, name, place, (old, new));
        }
    }

    /// Connections that are not looked into.
    fn bytes(&mut self, door: &Door, name: &HostPattern, authority: &str, behind: (Behind<'a>, Behind<'a>)) {
        let effect = |behind: Behind<'a>| match behind {
            Behind::Bytes { table, named } => {
                table.tcp(named.then_some(authority)).map_or(Effect::Closed, Effect::Bytes)
            }
            Behind::NoServer => Effect::NoHandshake,
            Behind::Nothing | Behind::Http(_) => Effect::NotOpen,
        };
        let (old, new) = (effect(behind.0), effect(behind.1));
        let asked = Asked::Connection { sni: door.tls.then(|| authority.to_owned()) };
        self.note(door, name, asked, &old, &new);
    }

    fn requests(&mut self, door: &Door, name: &HostPattern, place: Place, (old, new): (Half<'a>, Half<'a>)) {
        let (old_effects, new_effects) = (old.effects(), new.effects());
        let rules = |half: &Half<'a>| half.host.map(|host| host.rules.as_slice()).unwrap_or_default();
        let equal = rules(&old).iter().zip(rules(&new)).take_while(|(old, new)| old.predicate == new.predicate);
        let same = equal.count();
        // What wins a rule that stands in both at the same place, behind nothing else, does so before and afterwards.
        let others = |i: usize| if i < same { i..i + 1 } else { same..new_effects.len() };
        let differs = |i: usize, j: usize| match (old_effects.get(i), new_effects.get(j)) {
            (Some(before), Some(after)) => !aspects((before, self.old), (after, self.new)).is_empty(),
            _ => false,
        };
        if !(0..old_effects.len()).any(|i| others(i).any(|j| differs(i, j))) {
            return;
        }
        if old_effects.len().max(new_effects.len()) - same > RULES {
            return self.not_known(door, name);
        }
        let mut space = Space::new(place, self.fuel);
        let mut read = |half: &Half<'_>| -> Vec<Conjunction> {
            let rules = half.host.map(|host| host.rules.as_slice()).unwrap_or_default();
            rules.iter().map(|rule| space.conjunction(&rule.predicate)).collect()
        };
        let (before, after) = (read(&old), read(&new));
        for (i, old_effect) in old_effects.iter().enumerate() {
            for (j, new_effect) in others(i).filter_map(|j| Some((j, new_effects.get(j)?))) {
                if !space.work(PAIR) {
                    self.fuel = 0;
                    return self.not_known(door, name);
                }
                let must: Vec<&Conjunction> = before.get(i).into_iter().chain(after.get(j)).collect();
                if let [one, other] = must.as_slice()
                    && !space.may_meet(one, other)
                {
                    continue;
                }
                if aspects((old_effect, self.old), (new_effect, self.new)).is_empty() {
                    continue;
                }
                let but: Vec<&Conjunction> = before.iter().take(i).chain(after.iter().take(j)).collect();
                let found = space.find(&must, &but);
                self.fuel = space.left();
                if self.fuel == 0 {
                    return self.not_known(door, name);
                }
                match found {
                    reach::Outcome::Nothing(_) => {}
                    reach::Outcome::Example(example)
                        if old.has(&example, old_effect) && new.has(&example, new_effect) =>
                    {
                        self.note(door, name, Asked::Request(*example), old_effect, new_effect);
                    }
                    reach::Outcome::Example(_) | reach::Outcome::Unknown => self.not_known(door, name),
                }
            }
        }
        self.fuel = space.left();
    }

    fn not_known(&mut self, door: &Door, name: &HostPattern) {
        self.unknown.insert(format!("{} {name}", door.listener));
    }

    fn note(&mut self, door: &Door, name: &HostPattern, request: Asked, old: &Effect<'_>, new: &Effect<'_>) {
        let differs_in = aspects((old, self.old), (new, self.new));
        if differs_in.is_empty() {
            return;
        }
        let key =
            |source: Option<&RuleSource>| source.map(|source| (source.object.to_string(), source.http, source.r#match));
        let outcomes = (old.describe(self.old), new.describe(self.new));
        let pair = (door.clone(), key(old.source()), key(new.source()), outcomes.0.clone(), outcomes.1.clone());
        let (port, _) = door.of(self.old, self.new);
        match self.changes.get_mut(&pair) {
            Some(known) => known.also_for.push(name.to_string()),
            None => {
                let (listener, also_for) = (door.listener.to_string(), Vec::new());
                let change = Change { request, port, listener, old: outcomes.0, new: outcomes.1, differs_in, also_for };
                self.changes.insert(pair, change);
            }
        }
    }
}

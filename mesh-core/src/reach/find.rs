//! The shortest text that is in some sets and not in others, by a breadth-first walk over the product of their automata.

use std::collections::HashSet;

use super::machine::{DEAD, FULL, Machine};

/// Combined states that are looked at for one text.
const STATES: usize = 20_000;

/// A set, and what stands behind the text when it is asked whether it is in the set.
pub(super) type Term<'m> = (&'m Machine, &'m [u8]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Text(Vec<u8>),
    Nothing,
    /// A limit was hit.
    Unknown,
}

/// Where the automata stand. Of those that must not accept only those that still may.
type State = (Box<[u32]>, Box<[(u32, u32)]>);

struct Node {
    parent: usize,
    byte: u8,
    state: State,
}

/// `fuel` is what steps may cost.
pub(super) fn find(all: &[Term<'_>], none: &[Term<'_>], fuel: &mut u64) -> Found {
    let holds = |text: &[u8]| {
        let has = |(machine, behind): &Term<'_>| {
            let at = machine.walk(machine.start(), text);
            machine.accepts(machine.walk(at, behind))
        };
        all.iter().all(has) && !none.iter().any(has)
    };
    let exact = all.iter().find_map(|term| match term {
        (Machine::Exact { text, any_case: false }, []) => Some(text),
        _ => None,
    });
    if let Some(text) = exact {
        *fuel = fuel.saturating_sub((text.len() * (all.len() + none.len())) as u64);
        return if holds(text) { Found::Text(text.to_vec()) } else { Found::Nothing };
    }
    let certain = all.iter().filter(|(_, behind)| behind.is_empty()).map(|(machine, _)| machine.certain());
    let begin = certain.max_by_key(|text| text.len()).unwrap_or_default();
    search(all, none, begin, fuel)
}

fn search(all: &[Term<'_>], none: &[Term<'_>], begin: &[u8], fuel: &mut u64) -> Found {
    let walked = |(machine, _): &Term<'_>| machine.walk(machine.start(), begin);
    let required: Box<[u32]> = all.iter().map(walked).collect();
    let forbidden = none.iter().zip(0..).map(|(term, index)| (index, walked(term))).filter(|(_, at)| *at != DEAD);
    let start: State = (required, forbidden.collect());
    if is_lost(&start) {
        return Found::Nothing;
    }
    let alphabet = alphabet(all, none);
    let mut nodes = vec![Node { parent: 0, byte: 0, state: start.clone() }];
    let mut seen = HashSet::from([start]);
    let mut next = 0;
    while let Some(node) = nodes.get(next) {
        if is_goal(all, none, &node.state) {
            return Found::Text(text(&nodes, next, begin));
        }
        let cost = (node.state.0.len() + node.state.1.len() + 1) * alphabet.len();
        if nodes.len() > STATES || *fuel < cost as u64 {
            *fuel = fuel.saturating_sub(cost as u64);
            return Found::Unknown;
        }
        *fuel -= cost as u64;
        let mut fresh = Vec::new();
        for byte in &alphabet {
            let state = advance(all, none, &node.state, *byte);
            if !is_lost(&state) && seen.insert(state.clone()) {
                fresh.push(Node { parent: next, byte: *byte, state });
            }
        }
        nodes.extend(fresh);
        next += 1;
    }
    Found::Nothing
}

/// No text that begins so will do.
fn is_lost((required, forbidden): &State) -> bool {
    required.contains(&DEAD) || forbidden.iter().any(|(_, at)| *at == FULL)
}

fn is_goal(all: &[Term<'_>], none: &[Term<'_>], (required, forbidden): &State) -> bool {
    let ends = |(machine, behind): &Term<'_>, at: u32| machine.accepts(machine.walk(at, behind));
    all.iter().zip(required).all(|(term, at)| ends(term, *at))
        && !forbidden.iter().any(|(index, at)| none.get(*index as usize).is_some_and(|term| ends(term, *at)))
}

fn advance(all: &[Term<'_>], none: &[Term<'_>], (required, forbidden): &State, byte: u8) -> State {
    let required = all.iter().zip(required).map(|((machine, _), at)| machine.next(*at, byte));
    let forbidden = forbidden.iter().filter_map(|(index, at)| {
        let (machine, _) = none.get(*index as usize)?;
        Some((*index, machine.next(*at, byte))).filter(|(_, at)| *at != DEAD)
    });
    (required.collect(), forbidden.collect())
}

fn text(nodes: &[Node], mut at: usize, begin: &[u8]) -> Vec<u8> {
    let mut tail = Vec::new();
    while let Some(node) = nodes.get(at).filter(|_| at > 0) {
        tail.push(node.byte);
        at = node.parent;
    }
    begin.iter().copied().chain(tail.into_iter().rev()).collect()
}

/// One byte of each class that the automata do not tell apart, those first that read well.
fn alphabet(all: &[Term<'_>], none: &[Term<'_>]) -> Vec<u8> {
    let mut single = [false; 256];
    let mut classes = [0_u16; 256];
    all.iter().chain(none).for_each(|(machine, _)| machine.tell_apart(&mut single, &mut classes));
    let readable = b"abcdefghijklmnopqrstuvwxyz0123456789/-._~ABCDEFGHIJKLMNOPQRSTUVWXYZ".iter().copied();
    let rest = (0x21..=0x7e).chain(0..=0x20).chain(0x7f..=0xff);
    let mut letters: Vec<u8> = readable.collect();
    let others: Vec<u8> = rest.filter(|byte| !letters.contains(byte)).collect();
    letters.extend(others);
    let mut taken = HashSet::new();
    let is_new = |byte: &u8| {
        let at = usize::from(*byte);
        single.get(at) == Some(&true) || classes.get(at).is_some_and(|class| taken.insert(*class))
    };
    letters.into_iter().filter(is_new).collect()
}

//! Rules of `tls` and `tcp` that an earlier one of their VirtualService leaves no connection, because it has the same conditions or
//! none.

use crate::api::{L4Match, TlsMatch, VirtualService};
use crate::diag::{self, Code, Diagnostic};
use crate::object::ObjectRef;
use crate::world::{Entry, World};

/// A rule: its index, and its alternatives. Without any it is for all connections.
type Conditions<'a, M> = (usize, &'a [M]);

pub(super) fn connection_rules(world: &World, about: Option<&ObjectRef>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let services = world.virtual_services().filter(|entry| about.is_none_or(|about| *about == entry.reference));
    for entry in services {
        let tls: Vec<Conditions<'_, TlsMatch>> =
            entry.spec.tls.iter().map(|rule| (rule.index, rule.r#match.as_slice())).collect();
        let tcp: Vec<Conditions<'_, L4Match>> =
            entry.spec.tcp.iter().map(|rule| (rule.index, rule.r#match.as_slice())).collect();
        repeated(entry, "tls", &tls, &mut found);
        repeated(entry, "tcp", &tcp, &mut found);
    }
    found
}

fn repeated<M: PartialEq + Default>(
    entry: &Entry<VirtualService>,
    list: &str,
    rules: &[Conditions<'_, M>],
    found: &mut Vec<Diagnostic>,
) {
    let mut say = |code: Code, field: String, by: String| {
        let message = format!("{by} takes all connections that this asks for");
        let help = "rules are tried in order: remove this one, or say what is different about it";
        let diagnostic = Diagnostic::new(code, message).object(&entry.reference).at(entry.position(&field));
        found.push(diagnostic.field(field).help(help));
    };
    let everything = M::default();
    // Conditions that were seen, and where.
    let mut seen: Vec<(&M, String)> = Vec::new();
    for (index, alternatives) in rules {
        let field = format!("spec.{list}[{index}]");
        let own = if alternatives.is_empty() { std::slice::from_ref(&everything) } else { alternatives };
        let mut taken = Vec::new();
        for (number, one) in own.iter().enumerate() {
            let place = if alternatives.is_empty() { field.clone() } else { format!("{field}.match[{number}]") };
            match seen.iter().find(|(other, _)| **other == *one || **other == everything) {
                Some((_, by)) => taken.push((place, by.clone())),
                None => seen.push((one, place)),
            }
        }
        if taken.len() == own.len()
            && let Some((_, by)) = taken.first()
        {
            say(diag::RULE_UNREACHABLE, field, by.clone());
        } else {
            taken.into_iter().for_each(|(place, by)| say(diag::MATCH_INEFFECTIVE, place, by));
        }
    }
}

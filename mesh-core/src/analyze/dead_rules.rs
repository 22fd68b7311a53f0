//! Rules that no request reaches, whichever others take all of theirs; and those from which an earlier rule, which is not the
//! narrower one, takes some. In a table rules are tried in order, and nothing sorts them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::table::{arrivals, place};
use super::verdict::{Verdict, verdicts};
use crate::diag::{self, Code, Diagnostic};
use crate::model::{ResourceSet, Rule, RuleSource, VirtualHost};
use crate::object::ObjectRef;
use crate::reach::Example;
use crate::snapshot::Snapshot;
use crate::world::World;

/// Rules that are told of as taking all of another's requests.
const TOLD: usize = 4;

/// A rule at one host.
struct Seen {
    host: String,
    verdict: Told,
}

/// A verdict whose rules have names.
#[derive(Clone)]
enum Told {
    Alive,
    Unknown,
    Dead { by: Vec<RuleSource>, example: Option<Example> },
    Overtaken { by: RuleSource, example: Example },
}

impl Told {
    fn is_dead(&self) -> bool {
        matches!(self, Told::Dead { .. })
    }
}

/// Every alternative of every rule, with what became of it at each host.
type Rules = BTreeMap<(ObjectRef, u32, Option<u32>), Vec<Seen>>;

/// A user's rule.
#[derive(Default)]
struct Whole<'r> {
    /// Alternatives that are dead anywhere.
    dead: Vec<(Option<u32>, &'r [Seen])>,
    /// Anything of it is not dead somewhere.
    lives: bool,
    /// Its alternatives are those of a delegate, each joined with several of the rule that delegates: they have no names.
    joined: bool,
}

/// See the module. Rules that translation left out are not in the set, and translation has said so.
pub(super) fn dead_rules(
    world: &World,
    set: &ResourceSet,
    snapshot: &Snapshot,
    about: Option<&ObjectRef>,
    fuel: &mut u64,
) -> Vec<Diagnostic> {
    if about.is_some_and(|about| &*about.kind != "VirtualService") {
        return Vec::new();
    }
    let mut found: Vec<Diagnostic> = Vec::new();
    let rules = look(set, snapshot, about, fuel);
    let mut wholes: BTreeMap<(&ObjectRef, u32), Whole<'_>> = BTreeMap::new();
    let mut unknown: BTreeMap<&ObjectRef, Vec<String>> = BTreeMap::new();
    for ((object, http, alternative), seen) in &rules {
        let say = Say { world, object, http: *http, alternative: *alternative, joined: false };
        let whole = wholes.entry((object, *http)).or_default();
        whole.lives |= !seen.iter().all(|seen| seen.verdict.is_dead());
        whole.joined |= alternative.is_some_and(|index| index as usize >= say.alternatives());
        if seen.iter().any(|seen| seen.verdict.is_dead()) {
            whole.dead.push((*alternative, seen));
        }
        found.extend(seen.iter().find_map(|seen| match &seen.verdict {
            Told::Overtaken { by, example } => say.overtaken(by, example),
            _ => None,
        }));
        if seen.iter().any(|seen| matches!(seen.verdict, Told::Unknown)) {
            unknown.entry(object).or_default().push(say.field());
        }
    }
    found.extend(unknown.iter().filter_map(|(object, fields)| {
        Say { world, object, http: 0, alternative: None, joined: false }.unknown(fields)
    }));
    for ((object, http), whole) in &wholes {
        let joined = whole.joined;
        let say = |alternative| Say { world, object, http: *http, alternative, joined };
        let is_all = !whole.lives && say(None).alternatives() <= whole.dead.len();
        match whole.dead.as_slice() {
            // One finding for the whole rule, if nothing is left of it anywhere.
            [(first, seen), rest @ ..] if is_all => {
                let say = |alternative| Say { joined: false, ..say(alternative) };
                let mut sources: Vec<&Seen> = seen.iter().collect();
                sources.extend(rest.iter().flat_map(|(_, seen)| seen.iter()));
                found.extend(say(*first).dead(diag::RULE_UNREACHABLE, &format!("spec.http[{http}]"), &sources));
            }
            all => found.extend(all.iter().filter_map(|(alternative, seen)| {
                let say = say(*alternative);
                let code =
                    if joined || say.alternatives() > 1 { diag::MATCH_INEFFECTIVE } else { diag::RULE_UNREACHABLE };
                say.dead(code, &say.field(), &seen.iter().collect::<Vec<_>>())
            })),
        }
    }
    found
}

/// Asks for every rule of every table.
fn look(set: &ResourceSet, snapshot: &Snapshot, about: Option<&ObjectRef>, fuel: &mut u64) -> Rules {
    let arrivals = arrivals(set);
    let mut rules = Rules::new();
    // Hosts of a VirtualService have the same rules, if not the same delegates with other conditions.
    let mut known: HashMap<Vec<RuleSource>, (&VirtualHost, Arc<[Told]>)> = HashMap::new();
    for (key, routes) in &set.routes {
        let Some(table) = snapshot.tables.get(key) else { continue };
        let concerns =
            |host: &VirtualHost| about.is_none_or(|about| host.rules.iter().any(|rule| rule.source.object == *about));
        for host in routes.virtual_hosts.iter().filter(|host| asks(host) && concerns(host)) {
            let same: Vec<RuleSource> = host.rules.iter().map(|rule| rule.source.clone()).collect();
            let is_alike = !host.rules.iter().any(speaks_of_authority);
            let equal = |other: &VirtualHost| {
                let mut pairs = other.rules.iter().zip(&host.rules);
                is_alike && pairs.all(|(one, other)| one.predicate == other.predicate)
            };
            let verdicts = match known.get(&same) {
                Some((other, told)) if equal(other) => Arc::clone(told),
                _ => {
                    let verdicts = verdicts(host, place(&arrivals, routes, host), table, fuel);
                    let told: Arc<[Told]> = verdicts.into_iter().map(|verdict| tell(host, verdict)).collect();
                    known.insert(same, (host, Arc::clone(&told)));
                    told
                }
            };
            note(host, &verdicts, &mut rules);
        }
    }
    rules
}

/// The same rule of a delegate may stand in a host several times: it is dead there if all of it is.
fn note(host: &VirtualHost, verdicts: &[Told], rules: &mut Rules) {
    let mut here: BTreeMap<_, Vec<&Told>> = BTreeMap::new();
    for (rule, verdict) in host.rules.iter().zip(verdicts) {
        let source = &rule.source;
        if &*source.object.kind == "VirtualService" {
            here.entry((source.object.clone(), source.http, source.r#match)).or_default().push(verdict);
        }
    }
    for (name, told) in here {
        let lives = !told.iter().all(|told| told.is_dead());
        let told = told.into_iter().filter(|told| !lives || !told.is_dead());
        let seen = told.map(|told| Seen { host: host.host.to_string(), verdict: told.clone() });
        rules.entry(name).or_default().extend(seen);
    }
}

/// A rule for everything is reached, if it is the only one.
fn asks(host: &VirtualHost) -> bool {
    !host.https_redirect && host.rules.iter().any(|rule| rule.predicate != crate::model::Predicate::default())
}

fn speaks_of_authority(rule: &Rule) -> bool {
    let named = |name: &str| matches!(name, ":authority" | "host");
    rule.predicate.authority.is_some() || rule.predicate.headers.iter().any(|header| named(&header.name))
}

fn tell(host: &VirtualHost, verdict: Verdict) -> Told {
    let source = |at: usize| host.rules.get(at).map(|rule| rule.source.clone());
    match verdict {
        Verdict::Alive => Told::Alive,
        Verdict::Unknown => Told::Unknown,
        Verdict::Dead { by, example } => Told::Dead { by: by.into_iter().filter_map(source).collect(), example },
        Verdict::Overtaken { by, example } => match source(by) {
            Some(by) => Told::Overtaken { by, example },
            None => Told::Unknown,
        },
    }
}

/// What is said of a rule.
struct Say<'a> {
    world: &'a World,
    object: &'a ObjectRef,
    http: u32,
    alternative: Option<u32>,
    /// Where the alternative has no name of its own, the rule is told of.
    joined: bool,
}

impl Say<'_> {
    fn field(&self) -> String {
        field(self.http, self.alternative.filter(|_| !self.joined))
    }

    fn what(&self) -> &'static str {
        if self.joined {
            "one of its alternatives asks for, as part of the rule that delegates"
        } else {
            "this asks for"
        }
    }

    /// How many alternatives the user's rule has.
    fn alternatives(&self) -> usize {
        let service = self.world.virtual_service(&self.object.namespace, &self.object.name);
        let rules = service.map(|entry| entry.spec.http.as_slice()).unwrap_or_default();
        let rule = rules.iter().find(|rule| u32::try_from(rule.index) == Ok(self.http));
        rule.map_or(1, |rule| rule.r#match.len().max(1))
    }

    fn say(&self, code: Code, field: &str, message: String, help: &str) -> Option<Diagnostic> {
        let entry = self.world.virtual_service(&self.object.namespace, &self.object.name)?;
        Some(Diagnostic::new(code, message).object(self.object).field(field).at(entry.position(field)).help(help))
    }

    fn dead(&self, code: Code, field: &str, seen: &[&Seen]) -> Option<Diagnostic> {
        let mut dead = seen.iter().filter_map(|seen| match &seen.verdict {
            Told::Dead { by, example } => Some((&seen.host, by, example)),
            _ => None,
        });
        let (host, by, example) = dead.next()?;
        let mut others: Vec<&String> = dead.map(|(host, ..)| host).filter(|other| *other != host).collect();
        others.sort_unstable();
        others.dedup();
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        if by.is_empty() {
            let message = format!("no request for host `{host}`{more} is what {}", self.what());
            let help = "its conditions exclude each other, or ask for what no request has: paths are compared in their \
                        canonical form, without their query";
            return self.say(code, field, message, help);
        }
        let takes = if by.len() == 1 { "takes" } else { "together take" };
        let message = format!(
            "for host `{host}`{more}, {} {takes} all requests that {}{}",
            self.names(by),
            self.what(),
            example.as_ref().map(|example| format!(", like {example}")).unwrap_or_default()
        );
        self.say(code, field, message, "rules are tried in order: put the narrower one first, or remove this one")
    }

    fn overtaken(&self, by: &RuleSource, example: &Example) -> Option<Diagnostic> {
        let message = format!(
            "{} takes some of the requests that this asks for, like {example}",
            self.names(std::slice::from_ref(by))
        );
        let help =
            "rules are tried in order, and neither of these is the narrower one: make sure that the order is meant";
        self.say(diag::RULE_OVERTAKEN, &self.field(), message, help)
    }

    /// Once for all rules of an object.
    fn unknown(&self, fields: &[String]) -> Option<Diagnostic> {
        let (field, what) = match fields {
            [one] => (one.as_str(), "this".to_owned()),
            all => ("spec.http", format!("{} of these", all.len())),
        };
        let message =
            format!("whether a request reaches {what} is not known: expressions, or the table, are too large");
        self.say(diag::REACH_UNKNOWN, field, message, "`explain` tells where a given request goes")
    }

    /// `rule default/a[0] (a.yaml:7:5) and default/b[1] match[2]`
    fn names(&self, rules: &[RuleSource]) -> String {
        let name = |rule: &RuleSource| {
            let entry = self.world.virtual_service(&rule.object.namespace, &rule.object.name);
            let position = entry.and_then(|entry| entry.position(&field(rule.http, rule.r#match)));
            let at = position.filter(|position| !position.file.is_empty());
            let at = at.map(|position| format!(" ({position})")).unwrap_or_default();
            let alternative = rule.r#match.map(|index| format!(" match[{index}]")).unwrap_or_default();
            format!("{rule}{alternative}{at}")
        };
        let mut names: Vec<String> = rules.iter().take(TOLD).map(name).collect();
        if rules.len() > TOLD {
            names.push(format!("{} more", rules.len() - TOLD));
        }
        let last = names.pop().unwrap_or_default();
        let word = if rules.len() == 1 { "rule" } else { "rules" };
        if names.is_empty() { format!("{word} {last}") } else { format!("{word} {} and {last}", names.join(", ")) }
    }
}

/// `spec.http[0].match[1]`
pub(super) fn field(http: u32, alternative: Option<u32>) -> String {
    match alternative {
        Some(index) => format!("spec.http[{http}].match[{index}]"),
        None => format!("spec.http[{http}]"),
    }
}

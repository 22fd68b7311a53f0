//! The tables against a naive reading of the model: every rule in turn, every condition as the model says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use regex_automata::meta::Regex;

use super::sample_tests::*;
use crate::compile::compile;
use crate::model::*;
use crate::snapshot::{Decision, Request, Snapshot};

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    method: &'static str,
    authority: &'static str,
    path: String,
    query: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Sample {
    pub(crate) fn headers(&self) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        self.headers.iter().map(line).collect()
    }

    pub(crate) fn request<'a>(&'a self, headers: &'a HeaderMap) -> Request<'a> {
        let (method, authority) = (self.method, self.authority);
        Request { method, scheme: "http", authority, path: &self.path, query: self.query, headers, token: None }
    }
}

thread_local! {
    static REGEXES: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn regex_holds(pattern: &str, text: &str) -> bool {
    let regex = || Regex::new(&format!("^(?:{pattern})$")).unwrap();
    REGEXES.with_borrow_mut(|known| known.entry(pattern.to_owned()).or_insert_with(regex).is_match(text))
}

fn text_holds(value: &StringMatch, text: &str) -> bool {
    match value {
        StringMatch::Exact(wanted) => text == wanted,
        StringMatch::Prefix(wanted) => text.starts_with(wanted),
        StringMatch::Regex(pattern) => regex_holds(pattern, text),
        StringMatch::Present => true,
    }
}

fn header_holds(header: &HeaderMatch, request: &Request<'_>) -> bool {
    let target = match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    };
    let lines: Vec<&str> = match header.name.as_str() {
        ":method" => vec![request.method],
        ":authority" | "host" => vec![request.authority],
        ":path" => vec![&target],
        name => request.headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect(),
    };
    if header.invert && lines.is_empty() && header.value != StringMatch::Present {
        return !text_holds(&header.value, "");
    }
    lines.iter().any(|line| text_holds(&header.value, line)) != header.invert
}

pub(crate) fn rule_holds(predicate: &Predicate, request: &Request<'_>) -> bool {
    let path = request.path;
    let fold = |text: &str, ignore: bool| if ignore { text.to_ascii_lowercase() } else { text.to_owned() };
    let path_holds = match &predicate.path {
        PathMatch::Any => true,
        PathMatch::Exact { value, ignore_case } => fold(path, *ignore_case) == fold(value, *ignore_case),
        PathMatch::Prefix { value, ignore_case } => fold(path, *ignore_case).starts_with(&fold(value, *ignore_case)),
        PathMatch::Regex(pattern) => regex_holds(pattern, path),
    };
    let query = |name: &str| {
        let first = request.query?.split('&').find(|pair| pair.split('=').next() == Some(name))?;
        Some(first.split_once('=').map_or("", |(_, value)| value))
    };
    path_holds
        && predicate.method.iter().all(|value| text_holds(value, request.method))
        && predicate.authority.iter().all(|value| text_holds(value, request.authority))
        && predicate.headers.iter().all(|header| header_holds(header, request))
        && predicate.query.iter().all(|wanted| query(&wanted.name).is_some_and(|text| text_holds(&wanted.value, text)))
}

fn naive(rules: &[Rule], request: &Request<'_>) -> Option<u32> {
    rules.iter().find(|rule| rule_holds(&rule.predicate, request)).map(|rule| rule.source.http)
}

fn path_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!["a", "b", "A", "/", "ab", "é"]), 0..6)
        .prop_map(|parts| format!("/{}", parts.concat()))
}

fn path_regex() -> impl Strategy<Value = String> {
    prop_oneof![
        path_text().prop_map(|text| format!("{text}.*")),
        path_text().prop_map(|text| format!("^{text}.+$")),
        path_text().prop_map(|text| format!(".*{text}")),
        path_text().prop_map(|text| format!("{text}|/b")),
        path_text().prop_map(|text| format!("(?i){text}[ab]?")),
        path_text().prop_map(|text| format!("({text})+/?")),
        path_text(),
        Just("/[a-b]+(/.)?".to_owned()),
    ]
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        1 => Just(PathMatch::Any),
        4 => (path_text(), any::<bool>()).prop_map(|(value, ignore_case)| PathMatch::Exact { value, ignore_case }),
        6 => (path_text(), any::<bool>()).prop_map(|(value, ignore_case)| PathMatch::Prefix { value, ignore_case }),
        3 => path_regex().prop_map(PathMatch::Regex),
    ]
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "1", "2", "12"]).prop_map(|text| StringMatch::Exact(text.to_owned())),
        1 => prop::sample::select(vec!["", "1", "2"]).prop_map(|text| StringMatch::Prefix(text.to_owned())),
        1 => prop::sample::select(vec!["1|2", ".*", "[12]+", ""]).prop_map(|text| StringMatch::Regex(text.to_owned())),
        1 => Just(StringMatch::Present),
    ]
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    let name = prop::sample::select(vec!["x", "x", "y", ":method", ":path", ":authority", "host"]);
    (name, string_match(), prop::bool::weighted(0.2)).prop_map(|(name, value, invert)| HeaderMatch {
        name: name.to_owned(),
        value,
        invert,
    })
}

pub(crate) fn predicate() -> impl Strategy<Value = Predicate> {
    let method = prop::option::weighted(0.2, prop::sample::select(vec!["GET", "POST"]));
    let query = (prop::sample::select(vec!["k", "q"]), string_match());
    (
        path_match(),
        method,
        prop_oneof![
            3 => Just(Vec::new()).boxed(),
            2 => proptest::collection::vec(header_match(), 1..3).boxed(),
        ],
        prop::option::weighted(0.15, query),
    )
        .prop_map(|(path, method, headers, query)| Predicate {
            path,
            method: method.map(|method| StringMatch::Exact(method.to_owned())),
            headers,
            query: query.into_iter().map(|(name, value)| QueryMatch { name: name.to_owned(), value }).collect(),
            ..Predicate::default()
        })
}

/// Few paths, many headers: long lists for one path.
pub(crate) fn crowded_predicate() -> impl Strategy<Value = Predicate> {
    let path = prop_oneof![
        Just(prefix("/")),
        Just(exact("/a")),
        Just(PathMatch::Regex("/a?".to_owned())),
        Just(PathMatch::Prefix { value: "/A".to_owned(), ignore_case: true })
    ];
    (path, proptest::collection::vec(header_match(), 0..3)).prop_map(|(path, headers)| Predicate {
        path,
        headers,
        ..Predicate::default()
    })
}

pub(crate) fn sample() -> impl Strategy<Value = Sample> {
    let line = (prop::sample::select(vec!["x", "y"]), prop::sample::select(vec!["", "1", "2", "12", "3"]));
    (
        prop::sample::select(vec!["GET", "POST"]),
        prop::sample::select(vec!["h", "H:80", "1"]),
        path_text(),
        prop::option::of(prop::sample::select(vec!["", "k", "k=1", "q=2&k=12", "k=&k=1", "kk=1"])),
        proptest::collection::vec(line, 0..4),
    )
        .prop_map(|(method, authority, path, query, headers)| Sample { method, authority, path, query, headers })
}

pub(crate) fn numbered(predicates: Vec<Predicate>) -> Vec<Rule> {
    let action = Arc::new(forward(vec![split("d", 1)]));
    let each = predicates.into_iter().zip(0_u32..);
    each.map(|(predicate, number)| Rule { action: action.clone(), ..rule(number, predicate, forward(Vec::new())) })
        .collect()
}

fn agree(rules: Vec<Rule>, samples: &[Sample]) -> Result<(), TestCaseError> {
    let set = set(vec![virtual_host("*", rules.clone())], &["d"]);
    let compiled = compile(&set, None, 1);
    prop_assert!(compiled.diagnostics.is_empty(), "{:?}", compiled.diagnostics);
    for sample in samples {
        let headers = sample.headers();
        let request = sample.request(&headers);
        prop_assert_eq!(winner(http_table(&compiled.snapshot), &request), naive(&rules, &request), "{:?}", sample);
        let explained = compiled.snapshot.explain("0.0.0.0:80", None, &request);
        let told = explained.rules.iter().find(|rule| rule.matched).map(|rule| rule.http);
        prop_assert_eq!(told, naive(&rules, &request), "explain {:?}", sample);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn route_table_is_a_linear_search(
        predicates in proptest::collection::vec(predicate(), 0..30),
        samples in proptest::collection::vec(sample(), 20),
    ) {
        agree(numbered(predicates), &samples)?;
    }

    #[test]
    fn long_lists_are_a_linear_search(
        predicates in proptest::collection::vec(crowded_predicate(), 0..200),
        samples in proptest::collection::vec(sample(), 20),
    ) {
        agree(numbered(predicates), &samples)?;
    }
}

/// One change to a list of rules.
#[derive(Clone, Debug)]
enum Edit {
    Insert(prop::sample::Index, Box<Predicate>),
    Remove(prop::sample::Index),
    Move(prop::sample::Index, prop::sample::Index),
    Replace(prop::sample::Index, Box<Predicate>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), predicate()).prop_map(|(at, predicate)| Edit::Insert(at, Box::new(predicate))),
        index().prop_map(Edit::Remove),
        (index(), index()).prop_map(|(from, to)| Edit::Move(from, to)),
        (index(), crowded_predicate()).prop_map(|(at, predicate)| Edit::Replace(at, Box::new(predicate))),
    ]
}

fn apply(rules: &mut Vec<Rule>, edit: Edit, number: u32) {
    let new = |predicate: Predicate| rule(number, predicate, forward(vec![split(&format!("d{}", number % 3), 1)]));
    match edit {
        Edit::Insert(at, predicate) => rules.insert(at.index(rules.len() + 1), new(*predicate)),
        _ if rules.is_empty() => {}
        Edit::Remove(at) => {
            rules.remove(at.index(rules.len()));
        }
        Edit::Move(from, to) => {
            let rule = rules.remove(from.index(rules.len()));
            rules.insert(to.index(rules.len() + 1), rule);
        }
        Edit::Replace(at, predicate) => {
            let at = at.index(rules.len());
            rules[at] = new(*predicate);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was there before, the tables are those that a compile from nothing gives.
    #[test]
    fn with_previous_is_without_previous(
        predicates in proptest::collection::vec(prop_oneof![predicate(), crowded_predicate()], 0..80),
        rounds in proptest::collection::vec((proptest::collection::vec(edit(), 1..4), any::<bool>()), 1..8),
        samples in proptest::collection::vec(sample(), 12),
    ) {
        let mut rules = numbered(predicates);
        let mut number = 1000;
        let mut previous = None;
        for (edits, more_destinations) in rounds {
            for edit in edits {
                apply(&mut rules, edit, number);
                number += 1;
            }
            let destinations: &[&str] = if more_destinations { &["c", "d", "d0", "d1", "d2"] } else { &["d", "d1"] };
            let set = set(vec![virtual_host("h", vec![]), virtual_host("*", rules.clone())], destinations);
            let edited = compile(&set, previous.as_ref(), number.into());
            let fresh = compile(&set, None, number.into());
            prop_assert_eq!(&edited.diagnostics, &fresh.diagnostics);
            let keys = |snapshot: &Snapshot| {
                let indexes = snapshot.cluster_indexes.iter();
                indexes.map(|(key, index)| (key.clone(), snapshot.clusters[*index as usize].clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(edited.snapshot.clusters.len(), fresh.snapshot.clusters.len());
            prop_assert_eq!(keys(&edited.snapshot), keys(&fresh.snapshot));
            prop_assert!(keys(&edited.snapshot).iter().all(|(key, cluster)| *key == cluster.key));
            for sample in &samples {
                let headers = sample.headers();
                let request = sample.request(&headers);
                let [a, b] = [&edited, &fresh].map(|compiled| {
                    let decision = http_table(&compiled.snapshot).route(&request, &mut |_| 0);
                    let cluster = match &decision {
                        Decision::Forward { cluster, .. } => cluster.map(|at| &compiled.snapshot.clusters[at as usize].key),
                        _ => None,
                    };
                    let cluster = cluster.cloned();
                    let decision = format!("{decision:?}");
                    // The slot of a split is private to its table.
                    let slot = decision.find("slot: ").unwrap_or(decision.len());
                    let after = decision[slot..].find('}').unwrap_or(0);
                    // So is the index of a cluster to its snapshot.
                    let rest = decision.rfind("cluster: ").map_or(0, |_| decision.len());
                    let explained = compiled.snapshot.explain("0.0.0.0:80", None, &request);
                    let told = serde_json::to_string(&explained).unwrap();
                    ((cluster, decision[rest..].to_owned()), after, winner(http_table(&compiled.snapshot), &request), told)
                });
                prop_assert_eq!(&a.0, &b.0);
                prop_assert_eq!(a.2, b.2);
                prop_assert_eq!(a.3, b.3);
            }
            previous = Some(edited.snapshot);
        }
    }

    /// Exact, then the longest suffix, then `*`.
    #[test]
    fn host_table_is_a_linear_search(
        patterns in proptest::collection::btree_set(
            prop::sample::select(vec![
                "*", "a", "a.b", "b", "c.a.b", "*.a", "*.b", "*.a.b", "*.b.a.b", "[::1]", "10.0.0.1", "*.0.0.1",
            ]), 0..8),
        labels in proptest::collection::vec(prop::sample::select(vec!["a", "b", "c", "A", "B", ""]), 0..5),
        port in prop::sample::select(vec!["", ":80", ":", ":x", "."]),
        literal in prop::option::weighted(0.2, prop::sample::select(vec!["[::1]", "10.0.0.1", "[::1"])),
    ) {
        let host = literal.map_or_else(|| labels.join("."), str::to_owned);
        let authority = format!("{host}{port}");
        let hosts = patterns.iter().zip(0..).map(|(host, number)| {
            virtual_host(host, vec![rule(number, on_path(PathMatch::Any), forward(vec![split("d", 1)]))])
        });
        let compiled = compile(&set(hosts.collect(), &["d"]), None, 1);
        let headers = HeaderMap::new();
        let found = winner(http_table(&compiled.snapshot), &get(&authority, "/", &headers));
        let after_literal = if authority.starts_with('[') { authority.find(']').unwrap_or(0) } else { 0 };
        let end = authority[after_literal..].find(':').map_or(authority.len(), |at| after_literal + at);
        let lower = authority[..end].to_ascii_lowercase();
        let rank = |pattern: &str| match pattern.strip_prefix('*') {
            Some("") => Some(0),
            Some(suffix) => (lower.len() > suffix.len() && lower.ends_with(suffix)).then_some(suffix.len()),
            None => (lower == pattern).then_some(usize::MAX),
        };
        let best = patterns.iter().zip(0_u32..).filter_map(|(pattern, number)| Some((rank(pattern)?, number))).max();
        prop_assert_eq!(found, best.map(|(_, number)| number), "{} in {:?}", authority, patterns);
    }
}

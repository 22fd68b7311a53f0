use std::sync::Arc;

use http::HeaderMap;

use super::sample_tests::*;
use super::{Compiled, compile};
use crate::model::*;
use crate::snapshot::{CompiledProtocol, Decision, Snapshot};

fn without_trouble(set: &ResourceSet, previous: Option<&Snapshot>) -> Snapshot {
    let compiled = compile(set, previous, 1);
    assert!(compiled.diagnostics.is_empty(), "{:?}", compiled.diagnostics);
    compiled.snapshot
}

fn host(name: &str, number: u32) -> Arc<VirtualHost> {
    virtual_host(name, vec![rule(number, on_path(prefix("/")), forward(vec![split("d", 1)]))])
}

#[test]
fn what_did_not_change_is_the_same_object() {
    let before = set(vec![host("a", 1), host("b", 2)], &["d"]);
    let first = without_trouble(&before, None);
    // Equal by value, not by pointer: as after a restart of the controller.
    let after = set(vec![host("a", 1), host("b", 3)], &["d"]);
    let second = without_trouble(&after, Some(&first));
    let (old, new) = (http_table(&first), http_table(&second));
    assert!(Arc::ptr_eq(&old.hosts[0], &new.hosts[0]));
    assert!(!Arc::ptr_eq(&old.hosts[1], &new.hosts[1]));
    assert!(Arc::ptr_eq(&first.clusters[0], &second.clusters[0]));

    let third = without_trouble(&after, Some(&second));
    let listener = |snapshot: &Snapshot| snapshot.listeners["0.0.0.0:80"].clone();
    assert!(Arc::ptr_eq(&listener(&second), &listener(&third)));
}

#[test]
fn an_edited_rule_leaves_the_others() {
    let rules = |edited: u32| {
        (0..1000)
            .map(|number| {
                let path = format!("/{number}");
                let action = forward(vec![split("d", if number == 500 { edited } else { 1 })]);
                rule(number, on_path(prefix(&path)), action)
            })
            .collect()
    };
    let first = without_trouble(&set(vec![virtual_host("*", rules(1))], &["d"]), None);
    let second = without_trouble(&set(vec![virtual_host("*", rules(2))], &["d"]), Some(&first));
    let same = |slot: u32| {
        let [a, b] = [&first, &second]
            .map(|snapshot| http_table(snapshot).hosts[0].table.rules.get(slot).unwrap().action.clone());
        Arc::ptr_eq(&a, &b)
    };
    assert_eq!((0..1000).filter(|slot| !same(*slot)).collect::<Vec<_>>(), [500]);
}

#[test]
fn indexes_follow_the_clusters() {
    let headers = HeaderMap::new();
    let request = get("a", "/", &headers);
    let cluster = |snapshot: &Snapshot| match http_table(snapshot).route(&request, &mut |_| 0) {
        Decision::Forward { cluster, split, .. } => {
            assert_eq!(&*split.key, "outbound|80||d");
            cluster
        }
        other => panic!("{other:?}"),
    };
    let hosts = || vec![host("a", 1)];
    let first = without_trouble(&set(hosts(), &["d"]), None);
    assert_eq!(cluster(&first), Some(0));
    let second = without_trouble(&set(hosts(), &["b", "c", "d"]), Some(&first));
    assert_eq!(cluster(&second), Some(0), "others that come do not move it");
    assert!(Arc::ptr_eq(&http_table(&first).hosts[0].table, &http_table(&second).hosts[0].table));
    // The destination went before the rule did: 503 NC.
    let third = without_trouble(&set(hosts(), &["b"]), Some(&second));
    assert_eq!(cluster(&third), None);
    assert_eq!(cluster(&first), Some(0), "the old snapshot is as it was");
    // The last takes the place of one that goes; and what comes back is found again.
    let fourth = without_trouble(&set(hosts(), &["b", "d"]), Some(&third));
    assert_eq!(cluster(&fourth), Some(1));
    let fifth = without_trouble(&set(hosts(), &["d"]), Some(&fourth));
    assert_eq!((cluster(&fifth), fifth.clusters.len()), (Some(0), 1));
}

#[test]
fn a_refused_regex_silences_one_rule() {
    let header = |value: &str, invert| Predicate {
        headers: vec![HeaderMatch { name: "x".into(), value: StringMatch::Regex(value.into()), invert }],
        ..Predicate::default()
    };
    let rules = vec![
        rule(0, on_path(PathMatch::Regex("/a(".into())), forward(vec![split("d", 1)])),
        rule(1, header("*", false), forward(vec![split("d", 1)])),
        // Fails closed: not "no line matches, so the rule does".
        rule(2, header("(?=x)", true), forward(vec![split("d", 1)])),
        rule(3, on_path(prefix("/")), forward(vec![split("d", 1)])),
    ];
    let set = set(vec![virtual_host("*", rules.clone()), virtual_host("a", rules)], &["d"]);
    let compiled = compile(&set, None, 1);
    let told: Vec<_> = compiled.diagnostics.iter().map(|told| (told.code, told.field.as_str())).collect();
    assert_eq!(
        told,
        [
            ("MESH0201", "spec.http[0].match[0].uri.regex"),
            ("MESH0201", "spec.http[1].match[0].headers[x].regex"),
            ("MESH0201", "spec.http[2].match[0].withoutHeaders[x].regex"),
        ],
        "once, though two hosts have the rules"
    );
    let headers = HeaderMap::new();
    assert_eq!(winner(http_table(&compiled.snapshot), &get("x", "/a(", &headers)), Some(3));
    let explained = compiled.snapshot.explain("0.0.0.0:80", None, &get("x", "/a(", &headers));
    assert_eq!(explained.rules[0].failed.as_deref(), Some("uri: regex \"/a(\" is refused, so the rule never matches"));
    let again: Compiled = compile(&set, Some(&compiled.snapshot), 2);
    assert_eq!(again.diagnostics, compiled.diagnostics, "what is reused still tells");
}

#[test]
fn a_listener_without_routes_answers_404() {
    let mut set = set(vec![], &[]);
    set.routes.clear();
    let compiled = compile(&set, None, 1);
    assert_eq!(compiled.diagnostics[0].code, "MESH0203");
    assert_eq!(winner(http_table(&compiled.snapshot), &get("x", "/", &HeaderMap::new())), None);
}

#[test]
fn many_regexes_are_few_automata() {
    let rules = |count: u32| -> Vec<Rule> {
        let pattern = |number| PathMatch::Regex(format!("/[a-z]+/item{number}/[0-9]+"));
        (0..count).map(|number| rule(number, on_path(pattern(number)), forward(vec![split("d", 1)]))).collect()
    };
    let compiled = without_trouble(&set(vec![virtual_host("*", rules(300))], &["d"]), None);
    let headers = HeaderMap::new();
    for number in [0, 17, 299] {
        let path = format!("/abc/item{number}/42");
        assert_eq!(winner(http_table(&compiled), &get("x", &path, &headers)), Some(number));
    }
    assert_eq!(winner(http_table(&compiled), &get("x", "/abc/item300/42", &headers)), None);
}

/// Patterns whose product explodes still compile quickly and answer rightly.
#[test]
fn hostile_regexes_are_bounded() {
    let pattern = |number: u32| PathMatch::Regex(format!(".*[ab]{number}.{{0,20}}[cd].{{1,30}}x{number}.*"));
    let rules = (0..40).map(|number| rule(number, on_path(pattern(number)), forward(vec![split("d", 1)]))).collect();
    let started = std::time::Instant::now();
    let compiled = without_trouble(&set(vec![virtual_host("*", rules)], &["d"]), None);
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    let headers = HeaderMap::new();
    assert_eq!(winner(http_table(&compiled), &get("x", "/a7__c_x7", &headers)), Some(7));
}

#[test]
fn tls_servers_are_found_by_name() {
    let server = |hosts: &[&str], index| TlsServer {
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
        serves: Serves::Http,
        tls: TlsTermination::default(),
        routes: "http.80".into(),
        origin: origin(),
        server_index: index,
    };
    let mut set = set(vec![host("a", 1)], &["d"]);
    let listener = Arc::make_mut(set.listeners.get_mut("0.0.0.0:80").unwrap());
    listener.protocol = ListenerProtocol::Tls {
        servers: vec![
            server(&["*.example.com", "a.test"], 0),
            server(&["*.b.example.com"], 1),
            server(&["x.b.example.com"], 2),
        ],
    };
    let snapshot = without_trouble(&set, None);
    let CompiledProtocol::Tls(table) = &snapshot.listeners["0.0.0.0:80"].protocol else { panic!() };
    let found = |name: &str| table.server(Some(name)).map(|server| server.server.server_index);
    assert_eq!(found("A.Test."), Some(0));
    assert_eq!(found("y.example.com"), Some(0));
    assert_eq!(found("y.b.example.com"), Some(1));
    assert_eq!(found("x.b.example.com"), Some(2));
    assert_eq!(found("example.com"), None);
    assert_eq!(found(".example.com"), None);
    assert!(table.server(None).is_none());
    assert_eq!(table.servers().count(), 3);
}

use http::HeaderMap;

use crate::compile::compile;
use crate::compile::sample_tests::*;
use crate::model::*;

#[test]
fn hosts_are_found_as_at_a_gateway() {
    let hosts = ["a.com", "*.a.com", "*.b.a.com", "*", "[2001:db8::1]", "10.0.0.1", "x.m.com", "*.m.com"];
    let rules = |number: u32, host: &str| {
        // The exact host has no rule for this path: no fall-through.
        let path = if host == "x.m.com" { exact("/only") } else { PathMatch::Any };
        vec![rule(number, on_path(path), forward(vec![split("d", 1)]))]
    };
    let hosts = hosts.iter().zip(0..).map(|(host, number)| virtual_host(host, rules(number, host))).collect();
    let compiled = compile(&set(hosts, &["d"]), None, 1);
    let table = http_table(&compiled.snapshot);
    let headers = HeaderMap::new();
    let long = format!("{}.a.com", "x".repeat(300));
    for (authority, wanted) in [
        ("a.com", Some(0)),
        ("A.Com:8080", Some(0)),
        ("a.com:", Some(0)),
        ("a.com:x", Some(0)),
        ("b.a.com", Some(1)),
        ("c.b.a.com", Some(2)),
        ("d.c.b.a.com:1", Some(2)),
        (".a.com", Some(3)),
        (".b.a.com", Some(1)),
        ("a.com.", Some(3)),
        ("a.com.:80", Some(3)),
        ("", Some(3)),
        (":80", Some(3)),
        ("u@a.com", Some(3)),
        ("[2001:DB8::1]", Some(4)),
        ("[2001:db8::1]:80", Some(4)),
        ("[2001:db8::2]:80", Some(3)),
        ("[2001:db8::1", Some(3)),
        ("10.0.0.1:80", Some(5)),
        ("x.m.com", None),
        ("y.m.com", Some(7)),
        (&long, Some(3)),
    ] {
        assert_eq!(winner(table, &get(authority, "/", &headers)), wanted, "{authority:?}");
        assert!(table.has_host(authority));
    }
    let connect = crate::snapshot::Request { method: "CONNECT", ..get("a.com", "", &headers) };
    assert_eq!(winner(table, &connect), None);
}

#[test]
fn weights_share_out_requests() {
    let splits = vec![split("a", 1), split("b", 0), split("c", 3)];
    let hosts = vec![virtual_host("*", vec![rule(0, Predicate::default(), forward(splits))])];
    let compiled = compile(&set(hosts, &["a", "b", "c"]), None, 1);
    let headers = HeaderMap::new();
    let chosen: Vec<String> = (0..4)
        .map(|ticket| {
            let mut random = |below| {
                assert_eq!(below, 4);
                ticket
            };
            match http_table(&compiled.snapshot).route(&get("x", "/", &headers), &mut random) {
                crate::snapshot::Decision::Forward { split, .. } => split.key.to_string(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(chosen, ["outbound|80||a", "outbound|80||c", "outbound|80||c", "outbound|80||c"]);
}

#[test]
fn huge_weights_do_not_overflow() {
    let splits = vec![split("a", u32::MAX), split("b", u32::MAX), split("c", u32::MAX)];
    let hosts = vec![virtual_host("*", vec![rule(0, Predicate::default(), forward(splits))])];
    let compiled = compile(&set(hosts, &["a", "b", "c"]), None, 1);
    let headers = HeaderMap::new();
    let mut random = |below: u32| below - 1;
    match http_table(&compiled.snapshot).route(&get("x", "/", &headers), &mut random) {
        crate::snapshot::Decision::Forward { split, .. } => assert_eq!(&*split.key, "outbound|80||c"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn aliases_mean_their_host_unless_they_are_the_name_of_another() {
    let named = |number: u32, host: &str, aliases: &[&str]| {
        let rules = vec![rule(number, Predicate::default(), forward(vec![split("d", 1)]))];
        let mut host = virtual_host(host, rules);
        std::sync::Arc::make_mut(&mut host).aliases = aliases.iter().map(|alias| pattern(alias)).collect();
        host
    };
    let hosts = |aliases: &[&str]| {
        vec![
            named(0, "a.ns.svc", &["a", "b.ns", "10.0.0.1"]),
            named(1, "b.ns", &["a", "*.b.ns"]),
            named(2, "c.ns.svc", aliases),
        ]
    };
    let compiled = compile(&set(hosts(&["c"]), &["d"]), None, 1).snapshot;
    let headers = HeaderMap::new();
    let winner =
        |snapshot: &crate::snapshot::Snapshot, host: &str| winner(http_table(snapshot), &get(host, "/", &headers));
    let wanted = [("A:80", Some(0)), ("b.ns", Some(1)), ("10.0.0.1:8", Some(0)), ("x.b.ns", Some(1)), ("c", Some(2))];
    for (host, wanted) in wanted {
        assert_eq!(winner(&compiled, host), wanted, "{host}");
    }
    // Names come and go although the rules stay.
    let next = compile(&set(hosts(&["c2"]), &["d"]), Some(&compiled), 2).snapshot;
    assert_eq!((winner(&next, "c"), winner(&next, "c2"), winner(&next, "a")), (None, Some(2), Some(0)));
}

use super::*;

fn verdicts(check: impl Fn(&str) -> Check, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(check(text).is_ok(), "{text}: {:?}", check(text));
    }
    for text in bad {
        assert!(check(text).is_err(), "{text}");
    }
}

#[test]
fn hosts() {
    let long = "a".repeat(64);
    let good =
        ["a", "a.example", "A.Example", "a-b.c", "example.", "*", "*.a.example", "*-a.example", "*a.example", "1.a"];
    let bad = [
        "", "a..b", ".a", "-a.b", "a-.b", "a_b.c", "a.*.b", "a.*", "**.a", "a b", "1.2.3", "a.1", &long, "a/b",
        "http://a",
    ];
    verdicts(wildcard_host, &good, &bad);
    verdicts(host_name, &["a", "a.example", "a.example."], &["*.a", "*", "1.2.3.4", "::1", &"a.".repeat(200)]);
    verdicts(no_partial_wildcard, &["*", "*.a", "a.b"], &["*a.b", "a*.b", "*-a.b"]);
}

#[test]
fn addresses() {
    verdicts(
        subnet,
        &["1.2.3.4", "::1", "10.0.0.0/8", "fe80::/10"],
        &["1.2.3", "1.2.3.4/33", "::/129", "a/8", "1.2.3.4/", "/8"],
    );
    verdicts(subnet, &[], &["1.2.3.4/+8", "1.2.3.4/8/8", ""]);
    verdicts(unix_path, &["/a/b", "@abstract"], &["", "a/b", "/a/"]);
}

#[test]
fn ports_durations_and_shares() {
    assert!(port(1).is_ok() && port(65535).is_ok() && port(0).is_err() && port(65536).is_err());
    let ms = |text| duration(Duration::parse(text).unwrap());
    assert!(
        ms("1ms").is_ok() && ms("1h").is_ok() && ms("0s").is_err() && ms("1500us").is_err() && ms("999us").is_err()
    );
    assert!(percentage(0.0).is_ok() && percentage(100.0).is_ok() && percentage(0.0001).is_ok());
    assert!(percentage(0.00001).is_err() && percentage(-1.0).is_err() && percentage(100.1).is_err());
    assert!(percent(100).is_ok() && percent(101).is_err() && percent(-1).is_err());
}

#[test]
fn durations_of_both_forms() {
    let parse = |text| Duration::parse(text).map(|d| d.get());
    let millis = |ms| Some(std::time::Duration::from_millis(ms));
    for (text, expected) in [
        ("0", 0),
        ("0s", 0),
        ("1.5s", 1500),
        ("100ms", 100),
        ("1h1m1s", 3_661_000),
        ("+2s", 2000),
        (".5s", 500),
        ("1.s", 1000),
    ] {
        assert_eq!(parse(text), millis(expected), "{text}");
    }
    assert_eq!(parse("1us").map(|d| d.as_nanos()), Some(1000));
    assert_eq!(parse("1µs").map(|d| d.as_nanos()), Some(1000));
    for text in
        ["", "5", "s", "-1s", "1 s", "1.2.3s", ".s", "1d", "1S", "99999999999999999999999h", "315576000001s", "1e3s"]
    {
        assert_eq!(parse(text), None, "{text}");
    }
}

#[test]
fn label_maps() {
    let one = |key: &str, value: &str| labels(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
    assert!(one("app", "a").is_ok() && one("a.example/b_c", "").is_ok() && one("version", "v1.2_3").is_ok());
    assert!(one("", "a").is_err() && one("a b", "a").is_err() && one("/a", "a").is_err() && one("a", "-").is_err());
    assert!(one("a", "x y").is_err() && one(&"a".repeat(64), "x").is_err());
    assert!(selector(&BTreeMap::from([("a".to_owned(), "*".to_owned())])).is_err());
}

#[test]
fn regular_expressions() {
    verdicts(
        regex,
        &["a.*", "(?i)a", r"\d+", "^/a(/|$)", "[[:alpha:]]", r"\p{Greek}", "/users/{id}", r"\Qa.b\E", "[a&&b]"],
        &["", "(", "a{2,1}", "(?=a)", r"(a)\1", "*"],
    );
    assert!(regex(&"a".repeat(1025)).is_err());
    assert!(regex("(").unwrap_err().message.contains("unclosed group"));
}

use super::Patterns;

fn matches(pattern: &str, text: &str) -> bool {
    Patterns::default().single(pattern).unwrap_or_else(|reason| panic!("{pattern}: {reason}")).is_match(text.as_bytes())
}

#[test]
fn means_what_re2_means() {
    for (pattern, yes, no) in [
        (r"/a/\d+", "/a/12", "/a/x"),
        (r"\d", "7", "٣"),
        (r"\w+", "aZ_9", "é"),
        (r"[\w-]+", "a-b", "a.b"),
        (r"[\D]", "x", "1"),
        (r"[^\s]", "x", " "),
        ("/users/{id}", "/users/{id}", "/users/1"),
        ("a{2}", "aa", "a{2}"),
        ("a{2,}", "aaaa", "a"),
        ("a{1,2}b", "aab", "aaab"),
        ("a{,2}", "a{,2}", "aa"),
        ("a{", "a{", "a"),
        ("a}", "a}", "a"),
        ("[a&&b]+", "a&b", "c"),
        ("[[a]+", "[a[", "b"),
        ("[+--]", ",", "."),
        ("[]a]+", "]a", "b"),
        ("[^]a]", "b", "]"),
        ("[a-]+", "a-", "b"),
        ("[[:alpha:]]+", "ab", "a1"),
        (r"\Qa.b\E.", "a.bc", "axbc"),
        (r"\.", ".", "x"),
        (r"\<a\>", "<a>", "a"),
        (r"\x41", "A", "x41"),
        (r"\x{41}", "A", "a"),
        (r"\101", "A", "a"),
        (r"\pL", "é", "1"),
        (r"\p{Greek}", "α", "a"),
        ("(?i)/abc", "/ABC", "/abd"),
        ("/a|/b", "/b", "/ab"),
        ("^/a$", "/a", "/ab"),
        ("/x.*", "/x/y", "/y"),
        (r"a\b.", "a!", "ab"),
        ("é.", "éü", "é"),
        ("(?P<n>a)(?:b)", "ab", "a"),
        ("a # b", "a # b", "a"),
        ("", "", "a"),
        ("a*?", "aaa", "b"),
    ] {
        assert!(matches(pattern, yes), "{pattern} should match {yes}");
        assert!(!matches(pattern, no), "{pattern} should not match {no}");
    }
}

#[test]
fn refuses_what_re2_refuses() {
    for pattern in ["*", "a(", "a)", "[a", r"(a)\1", r"\", r"\y", "(?=a)", "a**b)", "((((a{1000}){1000}){1000}){1000})"]
    {
        assert!(Patterns::default().single(pattern).is_err(), "{pattern} should be refused");
    }
}

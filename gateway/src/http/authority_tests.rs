use proptest::prelude::*;

use super::*;

/// What Envoy takes as a host, and where we are stricter.
#[test]
fn accepted() {
    for (text, host, port) in [
        ("a.example.com", "a.example.com", None),
        ("A.Example.COM:8080", "A.Example.COM", Some(8080)),
        ("a.example.com.", "a.example.com.", None),
        ("a..b", "a..b", None),
        ("_", "_", None),
        ("%2e", "%2e", None),
        ("[::1]", "[::1]", None),
        ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
        ("[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", None),
        ("127.0.0.1:1", "127.0.0.1", Some(1)),
        ("x:65535", "x", Some(65535)),
        ("x:00080", "x", Some(80)),
        ("*.a", "*.a", None),
    ] {
        assert_eq!(parse(text.as_bytes()), Ok(Authority { text, host, port }));
    }
    let long = "a".repeat(300);
    assert_eq!(parse(long.as_bytes()).map(|authority| authority.host), Ok(long.as_str()));
}

#[test]
fn refused() {
    assert_eq!(parse(b""), Err(AuthorityError::Missing));
    assert_eq!(AuthorityError::Missing.detail(), "missing_host_header");
    assert_eq!(AuthorityError::Invalid.detail(), "http.invalid_authority");
    for text in [
        ":9",
        ":",
        "x:",
        "x:x",
        "x:99999",
        "x:65536",
        "x:0",
        "x:000080",
        "x:+80",
        "x:-1",
        "x: 80",
        "x:80:80",
        "u@host",
        "u:p@host",
        "@",
        "a b",
        " a",
        "a ",
        "a/b",
        "a?b",
        "a#b",
        "a\"b",
        "a<b",
        "a>b",
        "a\\b",
        "a^b",
        "a`b",
        "a{b}",
        "a|b",
        "x,x",
        "x,y",
        "é",
        "%",
        "%2",
        "%zz",
        "a%",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:",
        "[::1]:x",
        "[]",
        "[",
        "[v1.x]",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "a[b",
        "a]",
        "a\tb",
        "a\x7f",
        "a\0",
    ] {
        assert_eq!(parse(text.as_bytes()), Err(AuthorityError::Invalid), "{text:?}");
    }
    assert_eq!(parse(b"\xff"), Err(AuthorityError::Invalid));
}

proptest! {
    #[test]
    fn parts_make_the_whole(value in "[a-zA-Z0-9:.%\\[\\]@,-]{0,12}") {
        if let Ok(authority) = parse(value.as_bytes()) {
            prop_assert!(!authority.host.is_empty());
            let rest = authority.text.strip_prefix(authority.host).unwrap();
            match authority.port {
                Some(port) => prop_assert_eq!(rest.trim_start_matches(':').parse::<u16>(), Ok(port)),
                None => prop_assert_eq!(rest, ""),
            }
        }
    }

    #[test]
    fn never_panics(value in prop::collection::vec(any::<u8>(), 0..24)) {
        let _ = parse(&value);
    }
}

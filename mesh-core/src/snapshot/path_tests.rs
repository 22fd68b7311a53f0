use std::borrow::Cow;

use crate::model::PathNormalization::{self, Base, DecodeAndMergeSlashes, MergeSlashes, None as Off};
use proptest::prelude::*;

use super::*;

const MODES: [PathNormalization; 4] = [Off, Base, MergeSlashes, DecodeAndMergeSlashes];

#[track_caller]
fn check(mode: PathNormalization, input: &str, expected: &str) {
    assert_eq!(normalize(input, mode).as_deref(), Ok(expected), "{mode:?} {input}");
}

/// Envoy's path normalization, observed.
#[test]
fn base_as_observed() {
    for (input, expected) in [
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/..;/b", "/b"),
        ("/a/..;x=1/b", "/b"),
        ("/a/.;/b", "/a/b"),
        ("//a//b", "//a//b"),
        ("//rbac", "//rbac"),
        ("/../../etc", "/etc"),
        ("/a/..", "/"),
        ("/%2e", "/"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%5Cb", "/a%5Cb"),
        ("/%252e", "/%252e"),
        ("/a%0d%0ab", "/a%0d%0ab"),
        ("/a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/%41%7e", "/A~"),
        ("/rba%63", "/rbac"),
        ("/a/%2e%2e%2fb", "/a/..%2fb"),
        ("/a#f", "/a"),
        ("/a?x#f", "/a?x"),
        ("/a\"<>{}|^`", "/a%22%3C%3E%7B%7D%7C%5E%60"),
        ("/a?x=/../y", "/a?x=/../y"),
        ("/a/../b?x=/../y\\%zz", "/b?x=/../y\\%zz"),
        ("/a?", "/a?"),
        ("/é", "/%C3%A9"),
        ("/a;p=1", "/a;p=1"),
        ("/%20", "/%20"),
        ("/+", "/+"),
        // RFC 3986 section 5.2.4 and corners.
        ("/", "/"),
        ("/.", "/"),
        ("/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/./b/../../c", "/c"),
        ("/a/../../b", "/b"),
        ("/a//../b", "/a/b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/..a/.b/c..", "/..a/.b/c.."),
        ("/.../a", "/.../a"),
        ("/.%2e/a", "/a"),
        ("/a/..?q", "/?q"),
        ("/a;/../b", "/b"),
        ("/a b\u{7f}", "/a%20b%7F"),
        ("/!$&'()*+,;=:@[]", "/!$&'()*+,;=:@[]"),
    ] {
        check(Base, input, expected);
    }
}

/// The four modes of MeshConfig's `pathNormalization`.
#[test]
fn modes_as_observed() {
    let input = "//a//b/../c/%41%2f%2F/./d";
    check(Off, input, input);
    check(Base, input, "//a//c/A%2f%2F/d");
    check(MergeSlashes, input, "/a/c/A%2f%2F/d");
    check(DecodeAndMergeSlashes, input, "/a/c/A/d");
    check(DecodeAndMergeSlashes, "/a%5c%5Cb", "/a/b");
    check(DecodeAndMergeSlashes, "/a/%2e%2e%2fb", "/b");
    check(DecodeAndMergeSlashes, "/a%252fb", "/a%252fb");
    check(MergeSlashes, "///", "/");
    check(MergeSlashes, "/a//?b//c", "/a/?b//c");
    // Dots are resolved before slashes are merged.
    check(MergeSlashes, "/a//../b", "/a/b");
    check(MergeSlashes, "/a\\\\b", "/a/b");
    for input in ["/a\\b", "/%zz", "/%00", "/\"", "/a/../b"] {
        check(Off, input, input);
    }
    check(Off, "/a?b#c", "/a?b");
}

#[test]
fn refused() {
    for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
        for (input, error) in [
            ("/%zz", PathError::Percent),
            ("/%", PathError::Percent),
            ("/%4", PathError::Percent),
            ("/%4?1", PathError::Percent),
            ("/a/%", PathError::Percent),
            ("/%00", PathError::Nul),
            ("/\0", PathError::Nul),
            ("/a/../%00", PathError::Nul),
            ("a", PathError::NotAbsolute),
            ("", PathError::NotAbsolute),
            ("?a=b", PathError::NotAbsolute),
            ("#/", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
        ] {
            assert_eq!(normalize(input, mode), Err(error), "{mode:?} {input}");
            assert_eq!(error.detail(), "path_normalization_failed");
        }
    }
}

#[test]
fn canonical_paths_are_borrowed() {
    for input in ["/", "/a/b/c?d=e", "/.well-known/a", "/...", "/a%20b", "/x..y/.z", "/a#f", "/a%2Fb?%zz"] {
        for mode in [Off, Base] {
            assert!(matches!(normalize(input, mode), Ok(Cow::Borrowed(_))), "{mode:?} {input}");
        }
    }
}

#[test]
fn query_is_split_at_the_first_mark() {
    assert_eq!(split_query("/p"), ("/p", None));
    assert_eq!(split_query("/p?"), ("/p", Some("")));
    assert_eq!(split_query("/p?a?b"), ("/p", Some("a?b")));
}

#[test]
fn what_no_uri_holds_is_encoded() {
    for (target, expected) in [
        ("/a?b=\"<c>\"&d=[e]%zz?", "/a?b=%22%3Cc%3E%22&d=[e]%zz?"),
        ("/a\\b`c|{}^#é \t", "/a%5Cb%60c%7C%7B%7D%5E%23%C3%A9%20%09"),
        ("a", "/a"),
        ("", "/"),
        ("/a/../b//", "/a/../b//"),
    ] {
        assert_eq!(encode_for_uri(target), expected);
        assert!(http::uri::PathAndQuery::try_from(expected).is_ok());
    }
}

/// Pieces that matter, in any order, so that random strings reach the interesting states.
fn target() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("."),
        Just(".."),
        Just("\\"),
        Just(";"),
        Just("%2e"),
        Just("%2F"),
        Just("%5c"),
        Just("%25"),
        Just("%41"),
        Just("%"),
        Just("%00"),
        Just("?"),
        Just("#"),
        Just("a"),
        Just("é"),
        Just("\""),
        Just("%zz"),
    ];
    prop_oneof![
        prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat())),
        any::<String>(),
        any::<String>().prop_map(|text| format!("/{text}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn normal_paths_stay(input in target()) {
        for mode in MODES {
            let Ok(once) = normalize(&input, mode) else { continue };
            let twice = normalize(&once, mode);
            prop_assert_eq!(twice.as_deref(), Ok(&*once), "{:?}", mode);
            prop_assert!(matches!(twice, Ok(Cow::Borrowed(_))));
        }
    }

    #[test]
    fn every_target_can_be_sent_over_http_2(input in target()) {
        let encoded = encode_for_uri(&input);
        prop_assert!(http::uri::PathAndQuery::try_from(encoded.as_str()).is_ok(), "{}", encoded);
    }

    #[test]
    fn no_dot_segment_is_left(input in target()) {
        for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
            let Ok(normal) = normalize(&input, mode) else { continue };
            let (path, query) = split_query(&normal);
            prop_assert!(path.is_ascii() && path.starts_with('/') && !path.contains('\\'));
            for segment in path.split('/') {
                let name = segment.split(';').next().unwrap_or_default();
                prop_assert!(name != "." && name != "..", "{}", normal);
            }
            if mode != Base {
                prop_assert!(!path.contains("//"));
            }
            let before = input.split('#').next().unwrap_or_default();
            prop_assert_eq!(query, split_query(before).1);
        }
    }
}

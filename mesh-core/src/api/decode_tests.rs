use serde::Deserialize;

use super::super::scope;
use super::super::yaml::documents;
use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sample {
    text: Option<String>,
    number: Option<i32>,
    big: Option<u64>,
    share: Option<f64>,
    flag: Option<bool>,
    long_name: Option<u8>,
    #[serde(default, deserialize_with = "scope::list")]
    parts: Vec<Part>,
    #[serde(default, deserialize_with = "scope::block")]
    block: Option<Part>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Part {
    #[serde(default, rename = "$index")]
    index: usize,
    a: u8,
    b: Option<u8>,
}

fn read(text: &str) -> (Option<Sample>, Vec<String>) {
    let document = documents(text).remove(0).unwrap();
    let context = Context::new(Strictness::All, false);
    let sample = context.read(&document, document.at, "spec");
    let findings = context.into_findings();
    let brief = |f: &Finding| format!("{:?} {} {}:{}", f.kind, f.field, f.at.line, f.at.column);
    (sample, findings.iter().map(brief).collect())
}

fn good(text: &str) -> Sample {
    let (sample, findings) = read(text);
    assert_eq!(findings, Vec::<String>::new(), "{text}");
    sample.unwrap()
}

#[test]
fn numbers_may_be_texts_and_whole_floats() {
    for (text, number) in
        [("5", 5), ("'5'", 5), ("-5", -5), ("+5", 5), ("5.0", 5), ("1e3", 1000), ("0x10", 16), ("0o17", 15)]
    {
        assert_eq!(good(&format!("number: {text}")).number, Some(number), "{text}");
    }
    assert_eq!(good("big: 18446744073709551615").big, Some(u64::MAX));
    assert_eq!(good("share: 1").share, Some(1.0));
    assert_eq!(good("share: '.5'").share, Some(0.5));
    for text in [
        "number: 2147483648",
        "number: 1.5",
        "number: five",
        "number: ''",
        "number: [1]",
        "number: true",
        "big: -1",
        "share: .inf",
        "share: .nan",
        "share: x",
        "number: 0x",
        "number: 1e99",
        "big: 99999999999999999999999999999999999999999",
    ] {
        let (sample, findings) = read(text);
        assert!(sample.is_none() && findings.len() == 1, "{text}: {findings:?}");
    }
}

#[test]
fn texts_and_booleans_are_what_they_look_like() {
    for text in ["yes", "1.2.3", "2001-01-01", "'5'", "\"true\"", "!!str 5", "a b", "1_000", "::1", "0x"] {
        assert!(good(&format!("text: {text}")).text.is_some(), "{text}");
    }
    for text in ["5", "true", "1e3", "-.5", "0x1F", "[a]", "{}", "123456789012345678901234567890123456789012345"] {
        let (sample, findings) = read(&format!("text: {text}"));
        assert!(sample.is_none() && findings.len() == 1, "{text}: {findings:?}");
    }
    for (text, flag) in [("true", true), ("False", false), ("on", true), ("NO", false)] {
        assert_eq!(good(&format!("flag: {text}")).flag, Some(flag));
    }
    assert_eq!(read("flag: 'true'").1, ["Invalid spec.flag 1:7"]);
    assert_eq!(read("flag: 1").1, ["Invalid spec.flag 1:7"]);
}

#[test]
fn null_is_absent_and_names_have_two_forms() {
    assert_eq!(good("{text: ~, number: null, flag: , parts: null, block: }"), Sample::default());
    assert_eq!(good("long_name: 1").long_name, Some(1));
    assert_eq!(good("longName: 1").long_name, Some(1));
    assert_eq!(read("{longName: 1, long_name: 2}").1, ["Invalid spec.long_name 1:15"]);
    assert_eq!(
        read("{$index: 1, parts: [{a: 1, $index: 7}]}").1,
        ["Unknown spec.$index 1:2", "Unknown spec.parts[0].$index 1:28"]
    );
}

#[test]
fn only_the_wrong_part_is_left_out() {
    let (sample, findings) =
        read("{parts: [{a: 1}, {b: 1}, {a: 2, b: x}, {a: 3}], block: {a: x, b: y, c: z}, number: 1}");
    let sample = sample.unwrap();
    assert_eq!(sample.parts, [Part { index: 0, a: 1, b: None }, Part { index: 3, a: 3, b: None }]);
    assert_eq!((sample.block, sample.number), (None, Some(1)));
    assert_eq!(
        findings,
        [
            "Missing spec.parts[1].a 1:18",
            "Invalid spec.parts[2].b 1:36",
            "Invalid spec.block.a 1:60",
            "Invalid spec.block.b 1:66",
            "Unknown spec.block.c 1:69",
        ]
    );
}

#[test]
fn all_errors_of_a_whole_are_found_and_once() {
    let (sample, findings) = read("{number: x, flag: y, parts: [{a: z}], text: 5}");
    assert!(sample.is_none());
    assert_eq!(
        findings,
        [
            "Invalid spec.number 1:10",
            "Invalid spec.flag 1:19",
            "Invalid spec.parts[0].a 1:34",
            "Invalid spec.text 1:45",
        ]
    );
    assert_eq!(read("[1]").1, ["Invalid spec 1:1"]);
    assert_eq!(read("5").1, ["Invalid spec 1:1"]);
}

#[test]
fn suggestions() {
    let known = ["regex", "prefix", "exact"];
    let one = |name| suggestion(name, known.iter().copied(), "fields").unwrap();
    assert_eq!(one("regx"), "did you mean `regex`? fields: `regex`, `prefix`, `exact`");
    assert_eq!(one("something"), "fields: `regex`, `prefix`, `exact`");
    assert_eq!(nearest("Re-Gex", known.iter().copied()), Some("regex"));
}

#[test]
fn a_number_where_a_text_is_wanted_wants_quotes() {
    let document = documents("text: 5").remove(0).unwrap();
    for (secret, message) in [(false, "`5` is a number, not a text"), (true, "the value is a number, not a text")] {
        let context = Context::new(Strictness::All, secret);
        context.read::<Sample>(&document, document.at, "spec");
        let findings = context.into_findings();
        assert_eq!(findings.len(), 1);
        assert_eq!((&*findings[0].message, findings[0].help.as_deref()), (message, Some("put it in quotes")));
    }
}

use super::*;

fn dump(node: &Node) -> String {
    let at = format!("@{}:{}", node.at.line, node.at.column);
    match node.value() {
        Value::Scalar { text, plain } => format!("{}{text:?}{at}", if *plain { "" } else { "'" }),
        Value::Sequence(items) => format!("[{}]{at}", items.iter().map(dump).collect::<Vec<_>>().join(", ")),
        Value::Mapping(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|e| {
                    let first = e.first.map_or(String::new(), |m| format!("!{}", m.line));
                    format!("{}@{}:{}{first}: {}", e.key, e.key_at.line, e.key_at.column, dump(&e.value))
                })
                .collect();
            format!("{{{}}}{at}", entries.join(", "))
        }
    }
}

fn read(text: &str) -> Vec<String> {
    documents(text)
        .iter()
        .map(|document| match document {
            Ok(node) => dump(node),
            Err(error) => format!("error@{}:{}", error.at.line, error.at.column),
        })
        .collect()
}

#[test]
fn block_style_has_the_place_of_each_key_and_value() {
    let text = "a: 1\nb:\n  - x: y\n    z: 'q'\n  - - 2\nc: |\n  text\n  more\n";
    assert_eq!(
        read(text),
        [
            r#"{a@1:1: "1"@1:4, b@2:1: [{x@3:5: "y"@3:8, z@4:5: '"q"@4:8}@3:5, ["2"@5:7]@5:5]@3:3, c@6:1: '"text\nmore\n"@7:3}@1:1"#
        ]
    );
}

#[test]
fn flow_style_and_json() {
    assert_eq!(
        read("{a: [1, 'b'], c: {d: ~}}"),
        [r#"{a@1:2: ["1"@1:6, '"b"@1:9]@1:5, c@1:15: {d@1:19: "~"@1:22}@1:18}@1:1"#]
    );
    assert_eq!(
        read("{\n\t\"a\": \"\\ud83d\\ude00\",\n\t\"b\": [1,\n 2]}"),
        [r#"{a@2:2: '"😀"@2:7, b@3:2: ["1"@3:8, "2"@4:2]@3:7}@1:1"#]
    );
}

#[test]
fn carriage_returns_do_not_shift_lines() {
    assert_eq!(
        read("a: 1\r\nb:\r\n  c: 2\r\n---\r\nd: 3\r\n"),
        [r#"{a@1:1: "1"@1:4, b@2:1: {c@3:3: "2"@3:6}@3:3}@1:1"#, r#"{d@5:1: "3"@5:4}@5:1"#]
    );
    assert_eq!(read("\u{feff}a: 1\n"), [r#"{a@1:1: "1"@1:4}@1:1"#]);
}

#[test]
fn an_alias_stands_where_it_is_written_and_its_content_where_the_anchor_is() {
    assert_eq!(read("a: &x\n  b: 1\nc: *x\n"), [r#"{a@1:1: {b@2:3: "1"@2:6}@2:3, c@3:1: {b@2:3: "1"@2:6}@3:4}@1:1"#]);
}

#[test]
fn merge_keys_give_what_is_not_there() {
    assert_eq!(
        read("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n"),
        [r#"{a@1:1: {b@1:8: "1"@1:11, c@1:14: "2"@1:17}@1:7, d@2:1: {c@4:3: "3"@4:6, b@1:8: "1"@1:11}@3:3}@1:1"#]
    );
    assert_eq!(read("a:\n  <<: 5\n"), ["error@2:3"]);
}

#[test]
fn a_duplicate_key_knows_the_first() {
    assert_eq!(read("a: 1\nb: 2\na: 3\n"), [r#"{a@1:1: "1"@1:4, b@2:1: "2"@2:4, a@3:1!1: "3"@3:4}@1:1"#]);
}

#[test]
fn a_duplicate_key_is_found_in_a_long_mapping() {
    let lines: String = (0..100).map(|i| format!("k{i}: {i}\n")).collect();
    let found = documents(&format!("{lines}k0: x\nk99: x\n"));
    let Value::Mapping(entries) = found[0].as_ref().unwrap().value() else { panic!() };
    let places: Vec<_> = entries.iter().filter_map(|entry| Some((entry.key.as_str(), entry.first?.line))).collect();
    assert_eq!(places, [("k0", 1), ("k99", 100)]);
}

#[test]
fn documents_without_content_are_left_out() {
    assert_eq!(read(""), Vec::<String>::new());
    assert_eq!(read("# nothing\n"), Vec::<String>::new());
    assert_eq!(read("---\n---\na: 1\n---\n# end\n"), [r#"{a@3:1: "1"@3:4}@3:1"#]);
}

#[test]
fn a_broken_document_leaves_the_others() {
    for broken in [
        "b: [1, 2",
        "b: \"open",
        "b: 'open",
        "b: 1\n  c: 2",
        "b: *nowhere",
        "b:\n\t- 1\n\tc: 2",
        "b: @x",
        "b: {",
        "- a\nb: 1",
        "? [a]\n: 1",
        "b: &x [*x]",
        "key: value: other",
        "b: |\n  text\n x",
    ] {
        let text = format!("a: 1\n---\n{broken}\n---\nz: 3\n");
        let found = read(&text);
        assert!(found.first().is_some_and(|first| first.starts_with("{a")), "{broken:?}: {found:?}");
        assert!(found.iter().any(|one| one.starts_with("error")), "{broken:?}: {found:?}");
        assert!(found.last().is_some_and(|last| last.starts_with("{z")), "{broken:?}: {found:?}");
        let line = 4 + broken.matches('\n').count() + 1;
        assert!(found.last().is_some_and(|last| last.contains(&format!("z@{line}:1"))), "{broken:?}: {found:?}");
    }
}

#[test]
fn markers_inside_of_a_block_scalar_are_text() {
    assert_eq!(
        read("a: |\n  ---\n  x\n---\nb: |\n  ...\n"),
        [r#"{a@1:1: '"---\nx\n"@2:3}@1:1"#, r#"{b@5:1: '"...\n"@6:3}@5:1"#]
    );
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
    }
    let found = documents(&text);
    assert_eq!(found.len(), 1);
    assert!(found[0].as_ref().is_err_and(|error| error.message.contains("aliases")), "{found:?}");
}

#[test]
fn nesting_is_bounded() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
        assert!(documents(&text).iter().all(Result::is_err));
    }
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..1000 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(documents(&text).iter().all(Result::is_err));
}

#[test]
fn an_unquoted_wildcard_is_explained() {
    for text in ["hosts: [*]", "hosts:\n- *\n", "hosts: [*.example]", "hosts:\n- *.example\n"] {
        let found = documents(text);
        assert!(found[0].as_ref().is_err_and(|error| error.message.contains("in quotes")), "{text}: {found:?}");
    }
}

use super::super::yaml::documents;
use super::*;

fn positions(text: &str) -> Positions {
    Positions::new("f.yaml".into(), documents(text).first().unwrap().as_ref().unwrap())
}

fn at(positions: &Positions, field: &str) -> (u32, u32) {
    positions.get(field).map(|p| (p.line, p.column)).unwrap()
}

const TEXT: &str = "\
kind: X
spec:
  selector: {app.kubernetes.io/name: a, app: b}
  http:
  - match:
    - uri:
        regex: \"a\"
    retry_on: 5xx
  - {name: two, route: [{weight: 1}]}
";

#[test]
fn each_field_has_its_place() {
    let p = positions(TEXT);
    for (field, place) in [
        ("", (1, 1)),
        ("kind", (1, 7)),
        ("spec", (2, 1)),
        ("spec.selector", (3, 3)),
        ("spec.selector.app.kubernetes.io/name", (3, 38)),
        ("spec.selector.app", (3, 46)),
        ("spec.http", (4, 3)),
        ("spec.http[0]", (5, 5)),
        ("spec.http[0].match", (5, 5)),
        ("spec.http[0].match[0].uri", (6, 7)),
        ("spec.http[0].match[0].uri.regex", (7, 16)),
        ("spec.http[0].retryOn", (8, 15)),
        ("spec.http[1]", (9, 5)),
        ("spec.http[1].name", (9, 12)),
        ("spec.http[1].route[0].weight", (9, 34)),
    ] {
        assert_eq!(at(&p, field), place, "{field}");
        assert!(p.has(field), "{field}");
    }
}

#[test]
fn a_field_that_was_not_written_is_where_its_parent_is() {
    let p = positions(TEXT);
    for (field, place) in [
        ("spec.http[1].route[0].destination.host", (9, 25)),
        ("spec.http[7].name", (4, 3)),
        ("spec.http[x", (4, 3)),
        ("spec.http.name", (4, 3)),
        ("spec.selector.app.kubernetes.io", (3, 46)),
        ("status", (1, 1)),
    ] {
        assert_eq!(at(&p, field), place, "{field}");
        assert!(!p.has(field), "{field}");
    }
    assert_eq!(Positions::default().get("spec"), None);
}

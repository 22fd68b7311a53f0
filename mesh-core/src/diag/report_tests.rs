use super::super::{DESTINATION_HOST_UNKNOWN, UNKNOWN_KIND};
use super::*;
use crate::object::{ObjectRef, Position};

fn diagnostics() -> Vec<Diagnostic> {
    let at = |line| Some(Position { file: "bookinfo.yaml".into(), line, column: 9 });
    vec![
        Diagnostic::new(DESTINATION_HOST_UNKNOWN, "host `reviws` is no known service")
            .object(&ObjectRef::new("VirtualService", "default", "reviews"))
            .field("spec.http[0].route[0].destination.host")
            .at(at(12))
            .help("did you mean `reviews`?"),
        Diagnostic::new(UNKNOWN_KIND, "kind `Deployment` is not read").at(at(40)),
    ]
}

#[test]
fn text_for_people() {
    insta::assert_snapshot!(text(&diagnostics(), 3, false), @r"
    error[MESH0103]: host `reviws` is no known service
      --> bookinfo.yaml:12:9
       = object: VirtualService/default/reviews
       = field: spec.http[0].route[0].destination.host
       = help: did you mean `reviews`?

    info[MESH0002]: kind `Deployment` is not read
      --> bookinfo.yaml:40:9

    3 objects: 1 error, 0 warnings, 1 info
    ");
    assert!(text(&diagnostics(), 3, true).starts_with("\x1b[1;31merror"));
}

#[test]
fn json_for_programs() {
    let json = serde_json::to_value(report(&diagnostics())).unwrap();
    assert_eq!(
        json["diagnostics"][0],
        serde_json::json!({
            "code": "MESH0103",
            "istioCode": "IST0101",
            "severity": "error",
            "object": "VirtualService/default/reviews",
            "field": "spec.http[0].route[0].destination.host",
            "file": "bookinfo.yaml",
            "line": 12,
            "column": 9,
            "message": "host `reviws` is no known service",
            "help": "did you mean `reviews`?",
        })
    );
    assert_eq!(json["diagnostics"][1]["object"], serde_json::Value::Null);
}

#[test]
fn verdicts() {
    assert_eq!(verdict(&[]), Verdict::Fine);
    assert_eq!(verdict(&diagnostics()), Verdict::Problems);
    assert_eq!(verdict(&diagnostics()[1..]), Verdict::Fine);
    assert_eq!(verdict(&[Diagnostic::new(YAML_SYNTAX, "")]), Verdict::BadData);
}

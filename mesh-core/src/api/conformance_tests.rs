//! Compares our verdicts with third-party cases, if `MESHGATE_CASES` names their folder (`validation/*.yaml` in it:
//! `{id, valid, object}`). Run with `--nocapture` to see the share and what differs.

use super::parse;
use super::yaml::{Node, Value, documents};
use crate::diag::{Diagnostic, Severity};

const FILES: &[&str] = &[
    "go-gateway",
    "go-virtualservice",
    "go-destinationrule",
    "go-serviceentry",
    "go-workloadentry",
    "go-exportto",
    "crds-destinationrule",
    "crds-serviceentry",
    "crds-workloadentry",
    "go-authorizationpolicy",
    "go-requestauthentication",
    "go-peerauthentication",
    "go-sidecar",
    "crds-authorizationpolicy",
    "crds-requestauthentication",
    "crds-peerauthentication",
];

struct Tally {
    right: usize,
    total: usize,
}

#[test]
fn verdicts_agree_with_third_party_cases() {
    let Ok(folder) = std::env::var("MESHGATE_CASES") else { return };
    let mut tally = Tally { right: 0, total: 0 };
    for file in FILES {
        let path = format!("{folder}/validation/{file}.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let cases = documents(&text);
        let Some(Ok(cases)) = cases.first() else { panic!("{path} is not YAML") };
        let Value::Sequence(cases) = cases.value() else { panic!("{path} is not a list") };
        for case in cases {
            judge(case, &mut tally);
        }
    }
    println!("{} of {} judged alike", tally.right, tally.total);
    assert!(tally.right * 100 >= tally.total * 95, "{} of {}", tally.right, tally.total);
}

fn judge(case: &Node, tally: &mut Tally) {
    let text = |key| case.get(key).and_then(Node::as_str).unwrap_or_default();
    let mut object = text("object").to_owned();
    if let Some(Value::Sequence(rules)) = case.get("generate").map(Node::value) {
        for rule in rules {
            let repeat = rule.get("repeat").and_then(Node::as_str).unwrap();
            let count: usize = rule.get("count").and_then(Node::as_str).unwrap().parse().unwrap();
            let mut value = repeat.repeat(count);
            if rule.get("base64").is_some() || rule.get("path").and_then(Node::as_str).unwrap().ends_with("bytes") {
                use base64::Engine as _;
                value = base64::engine::general_purpose::STANDARD.encode(value);
            }
            object = object.replace("GENERATED", &value);
        }
    }
    let parsed = parse("case.yaml", &object, "default");
    if parsed.diagnostics.iter().any(|d| d.code == "MESH0002") {
        return;
    }
    let wrong = |d: &Diagnostic| d.severity == Severity::Error;
    let valid = parsed.objects.len() == 1 && !parsed.diagnostics.iter().any(wrong);
    let either = text("schema") == "rejects" || text("rejected_by") == "schema";
    tally.total += 1;
    if valid == (text("valid") == "true") || either {
        tally.right += 1;
        return;
    }
    println!("--- {} valid={} reason={}", text("id"), text("valid"), text("reason"));
    for diagnostic in &parsed.diagnostics {
        println!("    {diagnostic}");
    }
}

/// Every sample of the folder is read without an error.
#[test]
fn samples_are_read_whole() {
    let Ok(folder) = std::env::var("MESHGATE_CASES") else { return };
    let mut folders = vec![std::path::PathBuf::from(format!("{folder}/samples"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") && !path.ends_with("behaviour.yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let parsed = parse(&path.display().to_string(), &text, "default");
                for diagnostic in parsed.diagnostics.iter().filter(|d| d.severity != Severity::Info) {
                    println!("{diagnostic}");
                }
                assert!(!parsed.diagnostics.iter().any(|d| d.severity == Severity::Error), "{}", path.display());
            }
        }
    }
}

#![allow(clippy::unwrap_used)]
use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: InstallArgs,
}

#[test]
fn what_is_printed_is_what_would_be_applied() {
    let objects = manifests::manifests(Profile::Default).unwrap();
    let documents: Vec<DynamicObject> =
        serde_saphyr::from_multiple::<serde_json::Value>(&printed(Output::Yaml, &objects).unwrap())
            .unwrap()
            .into_iter()
            .map(|document| serde_json::from_value(document).unwrap())
            .collect();
    assert!(documents == objects);
    let list: serde_json::Value = serde_json::from_str(&printed(Output::Json, &objects).unwrap()).unwrap();
    assert_eq!(list["kind"], "List");
    assert!(serde_json::from_value::<Vec<DynamicObject>>(list["items"].clone()).unwrap() == objects);
}

#[test]
fn outcomes() {
    let objects = manifests::manifests(Profile::Minimal).unwrap();
    let name = Name::of(objects.first().unwrap()).unwrap();
    let changed = Outcome::Changed(vec!["spec.a: 1 -> 2".to_owned()]);
    let lines = [(&Outcome::Created, false), (&Outcome::Created, true), (&changed, false), (&Outcome::Unchanged, true)];
    let text: String = lines.map(|(outcome, dry_run)| told(&name, outcome, dry_run)).concat();
    insta::assert_snapshot!(text, @r"
    Namespace/meshgate-system created
    Namespace/meshgate-system would be created
    Namespace/meshgate-system changed
        spec.a: 1 -> 2
    Namespace/meshgate-system unchanged
    ");
}

#[test]
fn command_lines() {
    let args = |line: &[&str]| Line::try_parse_from([&["install"], line].concat()).map(|line| line.args);
    let default = args(&[]).unwrap();
    assert_eq!(
        (default.wait.wait, default.wait.timeout, default.profile),
        (true, Duration::from_secs(300), Profile::Default)
    );
    let other =
        args(&["--wait=false", "--timeout", "90s", "--set", "hub=a", "--set", "tag=b", "--profile", "demo"]).unwrap();
    assert_eq!((other.wait.wait, other.wait.timeout, other.sets.len()), (false, Duration::from_secs(90), 2));
    for wrong in [["--timeout", "soon"], ["--profile", "big"], ["--set", "hubs=a"]] {
        assert!(args(&wrong).is_err(), "{wrong:?}");
    }
    let hint = args(&["--set", "hubs=a"]).unwrap_err().to_string();
    assert!(hint.contains("did you mean `hub`?"), "{hint}");
}

//! What is wrong with the objects of a case, by the API server, the controller and the gateway.

use anyhow::Context as _;
use mesh_core::diag;
use mesh_core::testing::ExpectedDiagnostic;
use serde_json::Value;

use super::super::Outcome;
use super::super::front::finding;
use super::super::verdict::{self, Finding};
use super::objects::Refusal;

/// What only files can be: no YAML, of a kind that nobody reads, twice the same.
const OF_FILES: [&str; 3] = [diag::YAML_SYNTAX.id, diag::UNKNOWN_KIND.id, diag::DUPLICATE_OBJECT.id];

/// Of the controller's page and of the gateway's report, each once.
pub fn all(page: &Value, report: &Value) -> anyhow::Result<Vec<Finding>> {
    let list = |value: &Value| value.pointer("/diagnostics").and_then(Value::as_array).cloned();
    let mut found: Vec<Finding> = list(page).context("no diagnostics of the controller")?.iter().map(of_page).collect();
    for finding in list(report).context("no diagnostics of the gateway")?.iter().map(finding) {
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
    Ok(found)
}

/// As in a report, but the object is in parts.
fn of_page(value: &Value) -> Finding {
    let part = |name: &str| value.pointer(&format!("/object/{name}")).and_then(Value::as_str);
    let object = || Some(format!("{}/{}/{}", part("kind")?, part("namespace")?, part("name")?));
    Finding { object: object().unwrap_or_default(), ..finding(value) }
}

/// What the API server refuses counts as found if it says what it is about.
pub fn check(expected: Option<&[ExpectedDiagnostic]>, found: &[Finding], refused: &[Refusal], outcome: &mut Outcome) {
    let mut unexpected: Vec<&Refusal> = refused.iter().collect();
    let mut rest = Vec::new();
    for mut expected in expected.unwrap_or_default().iter().cloned() {
        if expected.line.take().is_some() {
            outcome.unseen("diagnostics.line");
        }
        let code = expected.code.as_deref().unwrap_or_default();
        if OF_FILES.contains(&code) {
            outcome.unseen(format!("diagnostics.code {code}"));
            continue;
        }
        match unexpected.iter().position(|refusal| expected.object.as_ref() == Some(&refusal.object)) {
            Some(at) => check_refusal(&expected, unexpected.remove(at), outcome),
            None => rest.push(expected),
        }
    }
    if expected.is_some() {
        verdict::check_findings(&rest, found, outcome);
    }
    for Refusal { object, message, .. } in unexpected {
        outcome.check(false, || format!("the API server refuses {object}: {message}"));
    }
}

fn check_refusal(expected: &ExpectedDiagnostic, refusal: &Refusal, outcome: &mut Outcome) {
    let Refusal { object, message, .. } = refusal;
    let mut says = |what: &str| {
        outcome.check(message.contains(what), || format!("`{what}` of {object} is not in the refusal: {message}"));
    };
    object.split('/').filter(|part| *part != "default").for_each(&mut says);
    if let Some(field) = &expected.field {
        says(field);
    }
    let keys = [("code", expected.code.is_some()), ("severity", expected.severity.is_some())];
    for (key, _) in keys.into_iter().filter(|(_, is_given)| *is_given) {
        outcome.unseen(format!("diagnostics.{key} of what the API server refuses"));
    }
    if expected.message.is_some() {
        outcome.unseen("diagnostics.message of what the API server refuses");
    }
}

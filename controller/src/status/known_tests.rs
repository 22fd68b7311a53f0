use super::super::condition::MessageType;
use super::*;

fn wanted() -> Desired {
    let condition = |status, reason: &str| Condition { status, reason: reason.to_owned(), message: "m".to_owned() };
    let r#type = MessageType { name: "RuleUnreachable".to_owned(), code: "MESH0111".to_owned() };
    Desired {
        generation: 4,
        accepted: condition(true, "Accepted"),
        programmed: condition(false, "Pending"),
        messages: vec![ValidationMessage { r#type, level: "WARNING".to_owned() }],
        trouble: None,
    }
}

fn other() -> Value {
    json!({ "type": "Reconciled", "status": "True", "reason": "x", "message": "of another" })
}

#[test]
fn what_is_applied_says_what_was_desired() {
    let status = Known::default().to_apply(&wanted(), true, "2026-01-01T00:00:00Z");
    let known = Known::read(&status);
    assert!(known.says(&wanted()), "{status}");
    assert!(!Known::default().says(&wanted()));
    assert!(!known.says(&Desired { generation: 5, ..wanted() }));
    assert!(!known.says(&Desired { messages: Vec::new(), ..wanted() }));
    let mut less = wanted();
    less.programmed.message.clear();
    assert!(!known.says(&less));
}

#[test]
fn times_change_with_the_status_only() {
    let first = Known::read(&Known::default().to_apply(&wanted(), true, "2026-01-01T00:00:00Z"));
    let mut later = wanted();
    later.accepted.message = "n".to_owned();
    later.programmed.status = true;
    let second = Known::read(&first.to_apply(&later, true, "2026-01-02T00:00:00Z"));
    assert_eq!(second.ours.accepted.unwrap().1, "2026-01-01T00:00:00Z");
    assert_eq!(second.ours.programmed.unwrap().1, "2026-01-02T00:00:00Z");
}

#[test]
fn entries_of_others_stay_where_lists_have_one_owner() {
    let theirs = json!({ "type": { "name": "A", "code": "IST0101" }, "level": "ERROR" });
    let status = json!({ "conditions": [other()], "validationMessages": [theirs], "observedGeneration": "3" });
    let known = Known::read(&status);
    assert_eq!(known.ours.generation, Some(3));
    let whole = known.to_apply(&wanted(), true, "t");
    assert_eq!(whole["conditions"][0], other());
    assert_eq!(whole["conditions"].as_array().unwrap().len(), 3);
    assert_eq!(whole["validationMessages"][0], theirs);
    let keyed = known.to_apply(&wanted(), false, "t");
    assert_eq!(keyed["conditions"].as_array().unwrap().len(), 2);
    // Nothing of ours to say: theirs are not touched.
    let silent = known.to_apply(&Desired { messages: Vec::new(), ..wanted() }, true, "t");
    assert!(silent.get("validationMessages").is_none());
}

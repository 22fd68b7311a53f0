use super::*;

fn progress(generation: i64, proxies: usize, programmed: usize) -> Progress {
    Progress {
        object: ObjectRef::new("VirtualService", "shop", "a"),
        generation,
        stale: false,
        proxies,
        programmed,
        refused: Vec::new(),
        findings: Vec::new(),
        unconcerned: None,
    }
}

fn tally(replica: &str, progress: Progress) -> Tally {
    Tally { replica: replica.to_owned(), version: 1, objects: vec![progress], orders: Vec::new() }
}

fn finding(severity: Severity, code: diag::Code, message: &str) -> Finding {
    Finding {
        severity,
        code: code.id.to_owned(),
        field: "spec.http[0]".to_owned(),
        message: message.to_owned(),
        help: Some("do this".to_owned()),
    }
}

fn said(progress: &Progress) -> Desired {
    desired(&Merged::from(progress))
}

#[test]
fn replicas_are_added_up() {
    let tallies = [tally("a", progress(3, 2, 2)), tally("b", progress(3, 1, 0))];
    let merged = merge(&tallies);
    let merged = merged.values().next().unwrap();
    assert_eq!((merged.proxies, merged.programmed), (3, 2));
    let condition = desired(merged).programmed;
    assert_eq!((condition.status, &*condition.reason, &*condition.message), (false, "Pending", "2/3 proxies"));
}

#[test]
fn a_replica_that_is_behind_has_proxies_but_none_that_are_programmed() {
    for order in [[4, 3], [3, 4]] {
        let tallies = order.map(|generation| tally("", progress(generation, 1, 1)));
        let merged = merge(&tallies);
        let merged = merged.values().next().unwrap();
        assert_eq!((merged.generation, merged.proxies, merged.programmed), (4, 2, 1), "{order:?}");
    }
}

fn reason(step: u8) -> Unconcerned {
    serde_json::from_value(serde_json::json!({ "step": step, "text": format!("step {step}") })).unwrap()
}

#[test]
fn the_replica_that_is_nearest_says_why_there_are_no_proxies() {
    for order in [[Some(reason(2)), Some(reason(1))], [None, Some(reason(2))]] {
        let tallies = order.map(|unconcerned| tally("", Progress { unconcerned, ..progress(1, 0, 0) }));
        let merged = merge(&tallies);
        assert_eq!(merged.values().next().unwrap().unconcerned, Some(reason(2)));
    }
    // One has proxies: then it is not said why the other one has none.
    let without = Progress { unconcerned: Some(reason(1)), ..progress(1, 0, 0) };
    let tallies = [tally("a", progress(1, 1, 1)), tally("b", without)];
    assert_eq!(desired(merge(&tallies).values().next().unwrap()).programmed.message, "1/1 proxies");
}

#[test]
fn reasons() {
    let all = said(&progress(1, 2, 2));
    assert_eq!((all.programmed.status, &*all.programmed.reason), (true, "Programmed"));
    assert_eq!((all.accepted.status, &*all.accepted.reason, all.trouble), (true, "Accepted", None));
    let alone = said(&Progress { unconcerned: Some(reason(1)), ..progress(1, 0, 0) }).programmed;
    let why = "0/0 proxies; step 1";
    assert_eq!((&*alone.reason, &*alone.message), ("NoProxies", why));
    let asked = said(&Progress { unconcerned: Some(reason(4)), ..progress(1, 0, 0) }).programmed;
    assert_eq!((asked.status, &*asked.reason, &*asked.message), (true, "OnDemand", "0/0 proxies; step 4"));
    let stale = said(&Progress { stale: true, ..progress(1, 2, 0) });
    assert_eq!((stale.accepted.status, stale.programmed.status), (false, false));
    assert_eq!((&*stale.accepted.reason, &*stale.programmed.reason), ("Invalid", "Invalid"));
    let refused = RefusedBy { proxy: "gw-1.edge".to_owned(), message: "this version does not know `x`".to_owned() };
    let refused = said(&Progress { refused: vec![refused], ..progress(1, 2, 1) });
    assert_eq!(refused.programmed.reason, "Refused");
    assert_eq!(refused.programmed.message, "1/2 proxies; gw-1.edge refuses it: this version does not know `x`");
    assert_eq!(refused.trouble.unwrap().0, "Refused");
}

#[test]
fn errors_that_lose_a_part_leave_it_accepted() {
    let findings = vec![
        finding(Severity::Error, diag::DESTINATION_HOST_UNKNOWN, "no service `x`"),
        finding(Severity::Error, diag::DESTINATION_HOST_UNKNOWN, "no service `y`"),
        finding(Severity::Warning, diag::RULE_UNREACHABLE, "nobody gets here"),
    ];
    let said = said(&Progress { findings, ..progress(1, 1, 1) });
    assert_eq!((said.accepted.status, &*said.accepted.reason), (true, "PartiallyInvalid"));
    assert_eq!(said.accepted.message, "spec.http[0]: no service `x`; do this (and 1 more)");
    assert!(said.programmed.status);
    assert_eq!(said.trouble.unwrap().0, "DestinationHostUnknown");
    let messages = serde_json::to_value(&said.messages).unwrap();
    let expected = serde_json::json!([
        { "type": { "name": "DestinationHostUnknown", "code": "MESH0103" }, "level": "ERROR" },
        { "type": { "name": "RuleUnreachable", "code": "MESH0111" }, "level": "WARNING" },
    ]);
    assert_eq!(messages, expected);
}

#[test]
fn long_messages_are_cut_between_letters() {
    let findings = vec![finding(Severity::Error, diag::FIELD_INVALID, &"ä".repeat(4000))];
    let said = said(&Progress { findings, stale: true, ..progress(1, 0, 0) });
    assert!(said.accepted.message.len() <= LONGEST + '…'.len_utf8());
    assert!(said.accepted.message.ends_with('…'));
}

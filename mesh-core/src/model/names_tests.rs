use std::time::Duration;

use super::*;
use crate::model::{Forward, Predicate, Rewrite, RuleSource, Split};

fn rule(name: &str, timeout: u64) -> Rule {
    let split =
        Split { destination: DestinationRef::Known("outbound|80||s".into()), weight: 1, headers: Arc::default() };
    let forward = Forward {
        splits: vec![split],
        rewrite: Rewrite::default(),
        timeout: Some(Duration::from_secs(timeout)),
        retry: Arc::default(),
        fault: None,
        mirrors: Vec::new(),
        cors: None,
    };
    Rule {
        source: RuleSource { object: ObjectRef::new("VirtualService", "default", name), http: 0, r#match: None },
        name: None,
        stat_prefix: None,
        predicate: Predicate::default(),
        action: Arc::new(Action::Forward(forward)),
        headers: Arc::default(),
    }
}

fn host(name: &str, rules: Vec<Rule>) -> VirtualHost {
    let origin = ObjectRef::new("Gateway", "default", "g");
    VirtualHost { host: HostPattern::Exact(name.into()), aliases: Vec::new(), https_redirect: false, rules, origin }
}

fn key(rule: &Rule) -> &Arc<str> {
    let Action::Forward(forward) = &*rule.action else { panic!("{:?}", rule.action) };
    let (DestinationRef::Known(key) | DestinationRef::Unknown(key)) = &forward.splits[0].destination;
    key
}

#[test]
fn hosts_have_their_names_and_actions_in_common_and_mean_what_they_meant() {
    let hosts = [host("a", vec![rule("r", 1), rule("r", 1), rule("r", 2)]), host("b", vec![rule("r", 1)])];
    let (mut names, mut shared) = (Names::default(), hosts.clone());
    shared.iter_mut().for_each(|host| {
        // As decoded: nobody else has the actions.
        host.rules.iter_mut().for_each(|rule| rule.action = Arc::new(Action::clone(&rule.action)));
        names.share_host(host);
    });
    assert_eq!(hosts, shared);
    let [a, b] = shared;
    assert!(Arc::ptr_eq(&a.origin.name, &b.origin.name));
    assert!(Arc::ptr_eq(&a.rules[0].source.object.name, &b.rules[0].source.object.name));
    assert!(Arc::ptr_eq(&a.rules[0].action, &a.rules[1].action));
    assert!(!Arc::ptr_eq(&a.rules[1].action, &a.rules[2].action));
    assert!(Arc::ptr_eq(key(&a.rules[0]), key(&b.rules[0])));
    assert!(Arc::ptr_eq(&a.rules[0].headers, &b.rules[0].headers));
}

#[test]
fn names_that_nobody_has_any_more_are_forgotten() {
    let mut names = Names::default();
    let mut kept: Arc<str> = "kept".into();
    names.share(&mut kept);
    for number in 0..10 * FEW {
        names.share(&mut number.to_string().into());
    }
    assert!(names.known.len() <= FEW + 2, "{}", names.known.len());
    names.went(FEW + 1);
    assert_eq!(names.known.len(), 1);
    let mut again: Arc<str> = "kept".into();
    names.share(&mut again);
    assert!(Arc::ptr_eq(&kept, &again));
}

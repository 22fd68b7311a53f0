use std::time::Duration;

use super::super::Progress;
use super::*;

fn kind() -> Watched {
    *WATCHED.iter().find(|kind| kind.kind == "VirtualService").unwrap()
}

fn object(name: &str) -> ObjectRef {
    ObjectRef::new("VirtualService", "shop", name)
}

fn there(name: &str, version: u64, generation: i64, known: Known) -> Sighting {
    let seen = Seen { uid: "u".to_owned(), resource_version: version.to_string(), generation, known };
    Sighting::There { kind: kind(), object: object(name), seen: Box::new(seen) }
}

fn tally(names: &[&str], generation: i64, proxies: usize, programmed: usize) -> Tally {
    let progress = |name: &&str| Progress {
        object: object(name),
        generation,
        stale: false,
        proxies,
        programmed,
        refused: Vec::new(),
        findings: Vec::new(),
        unconcerned: None,
    };
    Tally { replica: String::new(), version: 1, objects: names.iter().map(progress).collect() }
}

fn due(desk: &mut Desk, now: Instant) -> Vec<Write> {
    desk.due(now, 1000).into_iter().map(|errand| errand.write).collect()
}

/// What the API server would make of a write.
fn written(write: &Write, version: u64) -> Outcome {
    let stored = Known::read(&write.known.to_apply(&write.desired, write.whole, "t"));
    Outcome::Written { stored: Box::new(stored), resource_version: version.to_string(), keyed: false }
}

/// A desk that has written the status of `a`, one of one proxies, as version 2.
fn settled(now: Instant) -> Desk {
    let mut desk = Desk::default();
    desk.see(there("a", 1, 1, Known::default()), now);
    desk.compare([&tally(&["a"], 1, 1, 1)].into_iter(), now);
    let writes = due(&mut desk, now + SETTLE);
    assert_eq!(writes.len(), 1);
    desk.done(&writes[0], written(&writes[0], 2), now + SETTLE);
    desk
}

#[test]
fn a_status_is_written_once() {
    let now = Instant::now();
    let mut desk = settled(now);
    desk.compare([&tally(&["a"], 1, 1, 1)].into_iter(), now);
    assert!(due(&mut desk, now + HOLD * 2).is_empty());
}

#[test]
fn one_write_says_what_came_together() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.see(there("a", 1, 1, Known::default()), now);
    desk.compare([&tally(&["a"], 1, 1, 0)].into_iter(), now);
    assert!(due(&mut desk, now + SETTLE / 2).is_empty());
    desk.compare([&tally(&["a"], 1, 1, 1)].into_iter(), now + SETTLE / 2);
    let writes = due(&mut desk, now + SETTLE);
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].desired.programmed.message, "1/1 proxies");
    // And it is not written twice while it is under way.
    assert!(due(&mut desk, now + HOLD).is_empty());
}

#[test]
fn nothing_is_rewritten_after_a_restart() {
    let now = Instant::now();
    let names: Vec<String> = (0..5000).map(|number| format!("o{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tally = tally(&names, 3, 2, 2);
    let merged = merge([&tally]);
    let desired = desired(merged.get(&object("o0")).unwrap());
    let known = Known::read(&Known::default().to_apply(&desired, true, "t"));
    let mut desk = Desk::default();
    for name in &names {
        desk.see(there(name, 1, 3, known.clone()), now);
    }
    // Before its proxies are back.
    let mut absent = tally.clone();
    absent.objects.iter_mut().for_each(|progress| (progress.proxies, progress.programmed) = (0, 0));
    desk.compare([&absent].into_iter(), now);
    assert!(due(&mut desk, now + HOLD / 2).is_empty());
    desk.compare([&tally].into_iter(), now + HOLD / 2);
    assert!(due(&mut desk, now + HOLD * 2).is_empty());
    // One that really changed.
    desk.see(there("o7", 2, 4, known), now);
    let mut changed = tally.clone();
    changed.objects[7].generation = 4;
    desk.compare([&changed].into_iter(), now + HOLD);
    assert_eq!(due(&mut desk, now + HOLD + SETTLE).len(), 1);
}

#[test]
fn what_gets_worse_by_itself_waits() {
    let now = Instant::now();
    let mut desk = settled(now);
    let later = now + Duration::from_secs(1);
    desk.compare([&tally(&["a"], 1, 0, 0)].into_iter(), later);
    assert!(due(&mut desk, later + SETTLE).is_empty());
    let writes = due(&mut desk, later + HOLD);
    assert_eq!(writes[0].desired.programmed.reason, "NoProxies");
}

#[test]
fn the_rate_is_bounded() {
    let now = Instant::now();
    let names: Vec<String> = (0..500).map(|number| format!("o{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut desk = Desk::default();
    for name in &names {
        desk.see(there(name, 1, 1, Known::default()), now);
    }
    desk.compare([&tally(&names, 1, 1, 1)].into_iter(), now);
    let start = now + SETTLE;
    let first = due(&mut desk, start).len();
    let after = (1..=20).map(|tick| due(&mut desk, start + TICK * tick).len()).sum::<usize>();
    assert_eq!(first, RATE as usize);
    let most = 2 * RATE as usize;
    assert!((most - most / 10..=most + 1).contains(&after), "{after} in two seconds");
}

#[test]
fn generations_that_the_tally_does_not_know_yet_wait() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.see(there("a", 1, 2, Known::default()), now);
    desk.compare([&tally(&["a"], 1, 1, 1)].into_iter(), now);
    assert!(due(&mut desk, now + HOLD).is_empty());
}

#[test]
fn of_what_nobody_looks_at_nothing_is_written() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.see(there("a", 1, 1, Known::default()), now);
    desk.compare([&tally(&["a"], 1, 1, 0)].into_iter(), now);
    desk.compare([&tally(&[], 1, 1, 0)].into_iter(), now);
    assert!(due(&mut desk, now + HOLD * 2).is_empty());
    // What was written stays.
    let mut desk = settled(now);
    desk.compare([&tally(&[], 1, 1, 1)].into_iter(), now);
    assert!(due(&mut desk, now + HOLD * 2).is_empty());
    desk.compare([&tally(&["a"], 1, 0, 0)].into_iter(), now);
    assert_eq!(due(&mut desk, now + HOLD * 2).len(), 1);
}

#[test]
fn another_writer_is_not_fought() {
    let now = Instant::now();
    let mut desk = settled(now);
    let tally = tally(&["a"], 1, 1, 1);
    let (mut at, mut version, mut pauses) = (now + SETTLE, 2, Vec::new());
    for _ in 0..4 {
        version += 1;
        desk.see(there("a", version, 1, Known::default()), at);
        desk.compare([&tally].into_iter(), at);
        let seen = at;
        let write = loop {
            at += TICK;
            if let Some(write) = due(&mut desk, at).pop() {
                break write;
            }
        };
        assert!(write.force);
        version += 1;
        desk.done(&write, written(&write, version), at);
        pauses.push(at - seen);
    }
    assert!(pauses[0] < Duration::from_secs(1), "{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{pauses:?}");
}

#[test]
fn fields_of_another_are_taken_once_only_after_asking() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.see(there("a", 1, 1, Known::default()), now);
    let tally = tally(&["a"], 1, 1, 1);
    desk.compare([&tally].into_iter(), now);
    let write = due(&mut desk, now + SETTLE).pop().unwrap();
    assert!(!write.force);
    desk.done(&write, Outcome::Contested("conflict".to_owned()), now + SETTLE);
    assert!(due(&mut desk, now + SETTLE).pop().unwrap().force);
}

#[test]
fn a_field_that_the_cluster_drops_is_not_written_again() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.see(there("a", 1, 1, Known::default()), now);
    let tally = tally(&["a"], 1, 1, 1);
    desk.compare([&tally].into_iter(), now);
    let write = due(&mut desk, now + SETTLE).pop().unwrap();
    let mut stored = Known::read(&write.known.to_apply(&write.desired, true, "t"));
    stored.ours.generation = None;
    let outcome = Outcome::Written { stored: Box::new(stored), resource_version: "2".to_owned(), keyed: true };
    desk.done(&write, outcome, now + SETTLE);
    desk.compare([&tally].into_iter(), now + SETTLE);
    assert!(due(&mut desk, now + HOLD).is_empty());
}

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
    Tally { version: 1, objects: names.iter().map(progress).collect(), ..Tally::default() }
}

fn due(desk: &mut Desk, now: Instant) -> Vec<Write> {
    desk.line_up(now);
    std::iter::from_fn(|| desk.next(now)).map(|errand| errand.write).collect()
}

/// What the API server would make of a write.
fn written(write: &Write, version: u64) -> Outcome {
    let stored = Known::read(&write.known.to_apply(&write.desired, write.whole, "t"));
    let generation = write.desired.generation;
    Outcome::Written { stored: Box::new(stored), resource_version: version.to_string(), generation, keyed: false }
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
fn the_oldest_is_first_and_what_is_not_wanted_any_more_is_passed_over() {
    let now = Instant::now();
    let mut desk = Desk::default();
    for name in ["a", "b", "c"] {
        desk.see(there(name, 1, 1, Known::default()), now);
    }
    desk.compare([&tally(&["c"], 1, 1, 1)].into_iter(), now);
    desk.compare([&tally(&["a", "b", "c"], 1, 1, 1)].into_iter(), now + TICK);
    let at = now + SETTLE + TICK;
    desk.line_up(at);
    assert_eq!(desk.next(at).unwrap().write.object, object("c"));
    desk.see(Sighting::Gone(object("a")), at);
    assert_eq!(desk.next(at).unwrap().write.object, object("b"));
    assert!(desk.next(at).is_none() && !desk.has_line());
}

#[test]
fn news_is_told_before_what_is_none() {
    let now = Instant::now();
    let mut desk = settled(now);
    let later = now + Duration::from_secs(1);
    desk.compare([&tally(&["a"], 1, 0, 0)].into_iter(), later);
    desk.see(there("b", 3, 1, Known::default()), later + HOLD);
    let both = Tally {
        objects: [tally(&["a"], 1, 0, 0), tally(&["b"], 1, 1, 1)].into_iter().flat_map(|tally| tally.objects).collect(),
        ..tally(&[], 1, 1, 1)
    };
    desk.compare([&both].into_iter(), later + HOLD);
    let writes = due(&mut desk, later + HOLD * 2);
    assert_eq!(writes.iter().map(|write| &*write.object.name).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn what_was_changed_in_line_is_not_told_of_as_it_was() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.see(there("a", 1, 1, Known::default()), now);
    desk.compare([&tally(&["a"], 1, 1, 1)].into_iter(), now);
    let at = now + SETTLE;
    desk.line_up(at);
    desk.see(there("a", 2, 2, Known::default()), at);
    assert!(desk.next(at).is_none());
}

#[test]
fn writes_are_slower_while_objects_are_changed() {
    let now = Instant::now();
    let mut desk = settled(now);
    let later = now + QUIET;
    assert_eq!(desk.pace(later), PACE);
    // Its status, as we wrote it, is no change of the object.
    desk.see(there("a", 3, 1, Known::default()), later);
    assert_eq!(desk.pace(later), PACE);
    desk.see(there("a", 4, 2, Known::default()), later);
    assert_eq!(desk.pace(later), PACE_MEANWHILE);
    desk.see(there("b", 5, 1, Known::default()), later + QUIET);
    assert_eq!(desk.pace(later + QUIET), PACE_MEANWHILE);
    assert_eq!(desk.pace(later + QUIET + QUIET), PACE);
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
fn a_change_that_the_watch_tells_after_our_write_is_told_of() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.see(there("a", 1, 1, Known::default()), now);
    desk.compare([&tally(&["a"], 1, 1, 1)].into_iter(), now);
    let write = due(&mut desk, now + SETTLE).pop().unwrap();
    // A user changed it (version 2), then we wrote (version 3), then the watch told of both.
    let Outcome::Written { stored, resource_version, keyed, .. } = written(&write, 3) else { panic!("not written") };
    let known = (*stored).clone();
    desk.done(&write, Outcome::Written { stored, resource_version, generation: 2, keyed }, now + SETTLE);
    desk.see(there("a", 2, 2, Known::default()), now + SETTLE);
    desk.see(there("a", 3, 2, known), now + SETTLE);
    desk.compare([&tally(&["a"], 2, 1, 1)].into_iter(), now + SETTLE);
    let writes = due(&mut desk, now + SETTLE * 2);
    assert_eq!(writes.iter().map(|write| write.desired.generation).collect::<Vec<_>>(), [2]);
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
    let outcome =
        Outcome::Written { stored: Box::new(stored), resource_version: "2".to_owned(), generation: 1, keyed: true };
    desk.done(&write, outcome, now + SETTLE);
    desk.compare([&tally].into_iter(), now + SETTLE);
    assert!(due(&mut desk, now + HOLD).is_empty());
}

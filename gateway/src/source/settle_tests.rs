use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

const FILE: &str = "/c/a.yaml";

fn names(settle: &mut Settle, now: Instant) -> usize {
    settle.take(now).0.len()
}

#[test]
fn a_closed_file_is_due_at_once_and_an_open_one_later() {
    let start = Instant::now();
    let mut settle = Settle::default();
    settle.writing(Path::new(FILE), start);
    assert_eq!(names(&mut settle, start + QUIET), 0);
    settle.complete(Path::new(FILE), start + Duration::from_millis(20));
    assert_eq!(settle.next(), Some(start + Duration::from_millis(20) + QUIET));
    assert_eq!(names(&mut settle, start + Duration::from_millis(20) + QUIET), 1);
    assert_eq!(settle.next(), None);
    // A writer who never closes it.
    settle.writing(Path::new(FILE), start);
    assert_eq!(names(&mut settle, start + WRITING), 1);
}

#[test]
fn an_empty_file_is_believed_after_a_while_however_often_it_is_touched() {
    let start = Instant::now();
    let mut settle = Settle::default();
    assert!(!settle.vanished(Path::new(FILE), None, start));
    settle.complete(Path::new(FILE), start + Duration::from_millis(50));
    let (files, _) = settle.take(start + Duration::from_millis(60));
    let (path, since) = files.first().unwrap();
    assert_eq!(*since, Some(start));
    assert!(!settle.vanished(path, *since, start + Duration::from_millis(60)));
    let (files, _) = settle.take(start + VANISHED);
    assert!(settle.vanished(Path::new(FILE), files[0].1, start + VANISHED));
}

#[test]
fn a_rescan_waits_for_quiet() {
    let start = Instant::now();
    let mut settle = Settle::default();
    settle.rescan(start);
    assert!(!settle.take(start).1);
    assert!(settle.take(start + QUIET).1);
    assert!(!settle.take(start + QUIET).1);
}

//! Secrets that the controller cannot read, or not yet.

use super::*;

#[test]
fn secrets_that_cannot_be_read_are_not_taken_away() {
    let mut pair = Pair::new();
    let now = plan(&[(0, 1)], &[(1, 1)], &[(1, 1), (2, 1)]);
    pair.publish(&now);
    pair.settle();

    // Another controller, which may not read them: of one that is new it says so, and what is had stays.
    pair.publication = Publication::default();
    pair.publication.leave_secrets(true, false);
    for secrets in [&[(1, 1), (2, 1)][..], &[(1, 1), (2, 1), (3, 1)][..]] {
        let mut unread = set(&plan(&[(0, 1)], &[(1, 1)], secrets));
        unread.secrets.clear();
        let generation = pair.published.generation + 1;
        pair.published = pair.publication.update(Arc::new(unread), &ProxySettings::default(), generation).unwrap();
        pair.connect();
        pair.settle();
        assert_eq!(pair.client.state().set().secrets, set(&now).secrets);
        assert!(!pair.client.is_incomplete());
    }

    // It names one of them no more: that one goes, as always.
    let fewer = plan(&[(0, 1)], &[(1, 1)], &[(1, 1)]);
    let mut unread = set(&fewer);
    unread.secrets.clear();
    pair.published = pair.publication.update(Arc::new(unread), &ProxySettings::default(), 9).unwrap();
    pair.settle();
    assert_eq!(pair.client.state().set().secrets, set(&fewer).secrets);

    // What there is can be read from now on: that none is there is the truth.
    pair.publication.leave_secrets(false, false);
    let mut none = set(&fewer);
    none.secrets.clear();
    pair.published = pair.publication.update(Arc::new(none), &ProxySettings::default(), 10).unwrap();
    pair.settle();
    assert!(pair.client.state().set().secrets.is_empty());
}

#[test]
fn secrets_that_will_be_known_in_a_moment_are_waited_for() {
    let now = plan(&[(0, 1)], &[(1, 1)], &[(1, 1)]);
    let mut none = set(&now);
    none.secrets.clear();
    for (there, set) in [(1, set(&now)), (0, none.clone())] {
        let mut pair = Pair::new();
        pair.publication.leave_secrets(true, true);
        pair.published = pair.publication.update(Arc::new(none.clone()), &ProxySettings::default(), 1).unwrap();
        pair.settle();
        assert!(pair.client.is_incomplete());
        pair.publication.leave_secrets(false, false);
        pair.published = pair.publication.update(Arc::new(set), &ProxySettings::default(), 2).unwrap();
        pair.settle();
        assert!(!pair.client.is_incomplete());
        assert_eq!(pair.client.state().set().secrets.len(), there);
    }
}

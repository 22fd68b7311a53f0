//! How many requests may be in flight at a time. What is above that is refused at once, so that those that are in flight come to
//! their end: each holds buffers here and a place upstream.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// See the module. One for all workers.
#[derive(Debug)]
pub struct Room {
    most: usize,
    taken: AtomicUsize,
    refused: AtomicU64,
}

/// Is given back when it is dropped.
#[derive(Debug)]
pub struct Place<'r>(&'r Room);

impl Room {
    #[must_use]
    pub fn of(most: usize) -> Room {
        Room { most, taken: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }

    /// None: there is none left.
    pub fn enter(&self) -> Option<Place<'_>> {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.most {
            return Some(Place(self));
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Requests in flight.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_may_be_and_again_when_one_left() {
        let room = Room::of(2);
        let (first, second) = (room.enter(), room.enter());
        assert!(first.is_some() && second.is_some() && room.enter().is_none());
        assert_eq!((room.taken(), room.refused()), (2, 1));
        drop(first);
        assert!(room.enter().is_some());
        assert_eq!((room.taken(), room.refused()), (1, 1));
    }
}

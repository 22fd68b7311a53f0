//! A long list in pieces that copies of it share: changing one element copies its piece only.

use std::sync::Arc;

const PIECE: usize = 128;

#[derive(Clone, Debug)]
pub(crate) struct Pieces<T> {
    pieces: Vec<Arc<Vec<T>>>,
    len: u32,
}

impl<T> Default for Pieces<T> {
    fn default() -> Pieces<T> {
        Pieces { pieces: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Pieces<T> {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.pieces.get(number / PIECE)?.get(number % PIECE)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let number = number as usize;
        Arc::make_mut(self.pieces.get_mut(number / PIECE)?).get_mut(number % PIECE)
    }

    /// Replaces an element, or adds one behind the last.
    pub(crate) fn put(&mut self, number: u32, element: T) {
        if let Some(place) = self.get_mut(number) {
            *place = element;
            return;
        }
        if self.len as usize / PIECE == self.pieces.len() {
            // Most hosts have few rules, and there may be thousands of hosts: no room for what may never come.
            self.pieces.reserve_exact(usize::from(self.pieces.is_empty()));
            self.pieces.push(Arc::new(Vec::with_capacity(1)));
        }
        if let Some(last) = self.pieces.last_mut() {
            Arc::make_mut(last).push(element);
            self.len += 1;
        }
    }
}

//! Sharing out requests by weight.

use super::{CompiledForward, CompiledSplit};

impl CompiledForward {
    /// One of the splits, in proportion to the weights. `random` is asked only where there is a choice. None only if
    /// there is no split at all, which translation never yields.
    pub(crate) fn choose(&self, random: &mut dyn FnMut(u32) -> u32) -> Option<&CompiledSplit> {
        if let [only] = self.splits.as_slice() {
            return Some(only);
        }
        let mut ticket = if self.total_weight == 0 { 0 } else { random(self.total_weight) };
        for split in &self.splits {
            match ticket.checked_sub(split.weight) {
                Some(rest) => ticket = rest,
                None => return Some(split),
            }
        }
        self.splits.last()
    }
}

//! What the engine must know of gRPC: counting messages for metrics. (Status mapping lives in `forwarded`.)

/// Counts length-prefixed messages in a stream of bytes: 1 byte of flags, 4 bytes of length, then the message.
#[derive(Clone, Debug, Default)]
pub struct MessageCounter {
    pub messages: u64,
    /// Bytes of the current message that are still to come.
    remaining: u64,
    /// Prefix bytes seen so far.
    prefix: [u8; 5],
    filled: usize,
}

impl MessageCounter {
    pub fn feed(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.remaining > 0 {
                let take = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(data.len());
                self.remaining -= take as u64;
                data = data.get(take..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = data.split_first() else { return };
            if let Some(slot) = self.prefix.get_mut(self.filled) {
                *slot = *byte;
            }
            self.filled += 1;
            data = rest;
            if self.filled == self.prefix.len() {
                let [_, a, b, c, d] = self.prefix;
                self.remaining = u64::from(u32::from_be_bytes([a, b, c, d]));
                self.filled = 0;
                self.messages += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_messages_split_at_every_byte() {
        let stream = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 1], b"z"].concat();
        for at in 0..=stream.len() {
            let mut counter = MessageCounter::default();
            counter.feed(&stream[..at]);
            counter.feed(&stream[at..]);
            assert_eq!(counter.messages, 3, "split at {at}");
        }
    }
}

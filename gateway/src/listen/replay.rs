//! Bytes that were read to find out what a connection speaks and that its reader must see again.

use tokio::io::ReadBuf;

/// Costs one pointer while empty.
#[derive(Default)]
pub struct Replay(Option<Box<Unread>>);

struct Unread {
    bytes: Vec<u8>,
    at: usize,
}

impl Replay {
    /// `bytes` come before what is still unread.
    pub fn push_front(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut all = bytes.to_vec();
        if let Some(unread) = self.0.take() {
            all.extend_from_slice(unread.bytes.get(unread.at..).unwrap_or_default());
        }
        self.0 = Some(Box::new(Unread { bytes: all, at: 0 }));
    }

    /// False if there was nothing to give.
    #[inline]
    pub fn read(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        self.0.is_some() && self.read_some(buffer)
    }

    fn read_some(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let Some(unread) = &mut self.0 else { return false };
        let rest = unread.bytes.get(unread.at..).unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        unread.at += count;
        if unread.at >= unread.bytes.len() {
            self.0 = None;
        }
        true
    }
}

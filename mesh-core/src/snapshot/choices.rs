//! From the server name that TLS asks for to a number.

use super::host_table::HostIndex;
use crate::model::HostPattern;

/// Of several for one name, or without names, the first counts.
#[derive(Debug, Default)]
pub(super) struct Choices {
    pub plain: Option<u32>,
    pub named: Option<Box<HostIndex>>,
}

impl Choices {
    /// `sni`: the names that this one is for; empty: all.
    pub fn add(&mut self, sni: &[HostPattern], number: u32) {
        if sni.is_empty() {
            self.plain.get_or_insert(number);
        }
        for pattern in sni {
            self.named.get_or_insert_default().add(pattern, number);
        }
    }

    /// A trailing dot counts for nothing.
    pub fn find(&self, sni: Option<&str>) -> Option<u32> {
        let named = sni.zip(self.named.as_ref());
        named.and_then(|(sni, named)| named.lookup(sni.strip_suffix('.').unwrap_or(sni))).or(self.plain)
    }
}

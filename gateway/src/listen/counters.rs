//! What a listener counts, for admin and metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::Serialize;

use super::handshake::Refusal;

#[derive(Default)]
pub(super) struct Counters {
    pub open: AtomicUsize,
    pub accepted: AtomicU64,
    pub over_limit: AtomicU64,
    pub over_client_limit: AtomicU64,
    pub accept_errors: AtomicU64,
    pub not_redirected: AtomicU64,
    pub no_proxy_header: AtomicU64,
    handshake_timeouts: AtomicU64,
    not_tls: AtomicU64,
    unknown_names: AtomicU64,
    no_certificate: AtomicU64,
    handshake_failures: AtomicU64,
}

/// The counters of one listener at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListenerCounts {
    /// Connections that are open now.
    pub open: usize,
    pub accepted: u64,
    /// Closed at once because there were too many.
    pub over_limit: u64,
    /// Closed at once because their client had too many.
    pub over_client_limit: u64,
    /// Times when no connection could be accepted, for want of descriptors mostly.
    pub accept_errors: u64,
    /// Connections to a listener for redirected ones that came by themselves.
    pub not_redirected: u64,
    /// Connections that did not begin with the PROXY header that they have to begin with.
    pub no_proxy_header: u64,
    pub handshake_timeouts: u64,
    /// Clear text on a TLS port, or where mutual TLS is demanded.
    pub not_tls: u64,
    /// Server names that no server has.
    pub unknown_names: u64,
    /// Connections for servers without a usable certificate, or without a CA to verify their clients with.
    pub no_certificate: u64,
    /// Handshakes that failed for another reason.
    pub handshake_failures: u64,
}

impl Counters {
    pub fn refused(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Left => return,
            Refusal::Timeout => &self.handshake_timeouts,
            Refusal::NotTls => &self.not_tls,
            Refusal::UnknownName => &self.unknown_names,
            Refusal::NoCertificate => &self.no_certificate,
            Refusal::Failed => &self.handshake_failures,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> ListenerCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenerCounts {
            open: self.open.load(Ordering::Relaxed),
            accepted: of(&self.accepted),
            over_limit: of(&self.over_limit),
            over_client_limit: of(&self.over_client_limit),
            accept_errors: of(&self.accept_errors),
            not_redirected: of(&self.not_redirected),
            no_proxy_header: of(&self.no_proxy_header),
            handshake_timeouts: of(&self.handshake_timeouts),
            not_tls: of(&self.not_tls),
            unknown_names: of(&self.unknown_names),
            no_certificate: of(&self.no_certificate),
            handshake_failures: of(&self.handshake_failures),
        }
    }
}

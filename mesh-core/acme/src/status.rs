//! Where orders stand, for pages and diagnostics.

use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::acme::{Authority, Book, Challenge, Order, Trouble, Want};
use mesh_core::diag::{self, Diagnostic, Severity};
use serde::Serialize;

use crate::Words;

/// One order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderStatus {
    pub name: Arc<str>,
    pub ca: Authority,
    /// `valid`, `ordering`, `renewing`, `waiting`, `failed`
    pub state: &'static str,
    /// How the name is shown, or will be the next time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenge: Option<Challenge>,
    /// When the certificate that is there ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When it is renewed, or the order is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_in_seconds: Option<u64>,
    /// The CA says when it is to be renewed (ARI).
    pub by_ca: bool,
    pub failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl OrderStatus {
    pub(crate) fn of(name: &Arc<str>, order: &Order, book: &Book, now: SystemTime) -> OrderStatus {
        let state = match (order.under_way, order.serves(now), &order.failure) {
            (true, true, _) => "renewing",
            (true, false, _) => "ordering",
            (false, _, Some(_)) => "failed",
            (false, true, None) => "valid",
            (false, false, None) => "waiting",
        };
        let next = book.next(name, now);
        OrderStatus {
            name: Arc::clone(name),
            ca: order.authority,
            state,
            challenge: (order.authority == Authority::Directory).then_some(order.challenge),
            not_after: order.lifetime.map(|lifetime| time(lifetime.not_after)),
            next: next.map(time),
            next_in_seconds: next.map(|next| next.duration_since(now).unwrap_or_default().as_secs()),
            by_ca: order.window.is_some(),
            failures: order.failures,
            last_error: order.failure.as_ref().map(|failure| failure.message.clone()),
        }
    }
}

/// To the second: RFC 3339, UTC.
#[must_use]
pub fn time(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// What is to be told of an order that failed. A certificate that still serves makes it a warning.
pub(crate) fn diagnostic(order: &Order, want: &Want, words: &Words, now: SystemTime) -> Option<Diagnostic> {
    let failure = order.failure.as_ref()?;
    // Also while it is tried: a finding that goes and comes is no news.
    let next = order.again.map(|again| format!("; it is tried again at {}", time(again))).unwrap_or_default();
    let code = if failure.trouble == Trouble::Storage { diag::ORDER_STORAGE } else { diag::CERTIFICATE_ORDER };
    let until = match order.lifetime.filter(|_| order.serves(now)) {
        Some(lifetime) => format!("the certificate that is there serves until {}", time(lifetime.not_after)),
        None => "TLS connections for it are closed".to_owned(),
    };
    let message = format!("no new certificate for {}: {}; {until}{next}", want.host, failure.message);
    let mut diagnostic = Diagnostic::new(code, message).object(&want.origin).field(want.field.clone());
    diagnostic.help = help(failure.trouble, words).map(str::to_owned);
    if order.serves(now) {
        diagnostic.severity = Severity::Warning;
    }
    Some(diagnostic)
}

/// That one is on its way for a name that has none.
pub(crate) fn under_way(order: &Order, want: &Want, now: SystemTime) -> Option<Diagnostic> {
    if order.serves(now) {
        return None;
    }
    let challenge = order.challenge.as_str();
    let message = format!(
        "a certificate for {} is being ordered ({challenge}); until it is there TLS connections for it are closed",
        want.host
    );
    Some(Diagnostic::new(diag::ORDER_UNDER_WAY, message).object(&want.origin).field(want.field.clone()))
}

fn help(trouble: Trouble, words: &Words) -> Option<&'static str> {
    Some(match trouble {
        Trouble::Challenge => words.challenge,
        Trouble::Unreachable => words.unreachable,
        Trouble::Limited => words.limited,
        Trouble::Refused => words.refused,
        Trouble::Storage => words.storage,
        Trouble::Unproven => return None,
    })
}

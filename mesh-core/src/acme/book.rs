//! The orders of a gateway: what there is, what is under way, what is next. It decides; others do, and tell it what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Authority, Challenge, Failure, Lifetime, Trouble, Wants, Window, authority, renewal, retry};

/// Everything that is ordered.
#[derive(Debug, Default)]
pub struct Book {
    orders: BTreeMap<Arc<str>, Order>,
    /// The CA is not there: nobody asks it before then.
    held: Option<SystemTime>,
    /// How often in a row it was not there.
    missed: u32,
}

/// Of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub authority: Authority,
    /// Of the certificate that is there.
    pub lifetime: Option<Lifetime>,
    /// What the CA says of its renewal.
    pub window: Option<Window>,
    /// The certificate's share of chance, 0 to 1.
    chance: f64,
    /// It is being asked for now.
    pub under_way: bool,
    /// In a row.
    pub failures: u32,
    /// Of the last attempt, if it failed.
    pub failure: Option<Failure>,
    /// After a failure: not before then.
    pub again: Option<SystemTime>,
    /// How the name is to be shown.
    pub challenge: Challenge,
}

impl Order {
    fn new(authority: Authority, challenge: Challenge) -> Order {
        Order {
            authority,
            lifetime: None,
            window: None,
            chance: 0.0,
            under_way: false,
            failures: 0,
            failure: None,
            again: None,
            challenge,
        }
    }

    /// When it is asked for; none: it is under way, or at once.
    fn due(&self) -> Option<SystemTime> {
        let renewal = self.renewal();
        self.again.into_iter().chain(renewal).max()
    }

    /// When the certificate that is there is to be renewed.
    #[must_use]
    pub fn renewal(&self) -> Option<SystemTime> {
        self.lifetime.map(|lifetime| renewal(lifetime, self.window, self.chance))
    }

    /// Whether there is a certificate that clients believe.
    #[must_use]
    pub fn serves(&self, now: SystemTime) -> bool {
        self.lifetime.is_some_and(|lifetime| lifetime.not_after > now)
    }
}

impl Book {
    /// Takes over which names are wanted. Those that are new.
    pub fn want(&mut self, wants: &Wants, own_directory: bool) -> Vec<Arc<str>> {
        self.orders.retain(|name, _| wants.names.contains_key(name));
        let mut new = Vec::new();
        for (name, want) in &wants.names {
            let first = if want.http { Challenge::Http } else { Challenge::TlsAlpn };
            let order = self.orders.entry(Arc::clone(name)).or_insert_with(|| {
                new.push(Arc::clone(name));
                Order::new(authority(&want.host, own_directory), first)
            });
            if !want.http {
                order.challenge = Challenge::TlsAlpn;
            }
        }
        new
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Order> {
        self.orders.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Order)> {
        self.orders.iter()
    }

    /// A certificate is there, whoever ordered it.
    pub fn have(&mut self, name: &str, lifetime: Lifetime, chance: f64) {
        if let Some(order) = self.orders.get_mut(name)
            && order.lifetime != Some(lifetime)
        {
            (order.lifetime, order.window, order.chance) = (Some(lifetime), None, chance);
            (order.failures, order.failure, order.again) = (0, None, None);
        }
    }

    /// It failed before this process began. Who begins anew may have put it right: after the first failure it is tried at once, but who is begun
    /// again and again must not ask again and again.
    pub fn restore(&mut self, name: &str, failure: Failure, failures: u32, again: SystemTime) {
        let Some(order) = self.orders.get_mut(name) else { return };
        order.failures = failures;
        if failures > 1 {
            (order.failure, order.again) = (Some(failure), Some(again));
        }
    }

    /// What was known of it is not so any more: it is to be looked for, and ordered if it is not there.
    pub fn forget(&mut self, name: &str) {
        if self.orders.get(name).is_some_and(|order| !order.under_way) {
            self.orders.remove(name);
        }
    }

    /// What the CA says of the renewal of the certificate that is there.
    pub fn set_window(&mut self, name: &str, window: Option<Window>) {
        if let Some(order) = self.orders.get_mut(name) {
            order.window = window;
        }
    }

    /// When the order is begun the next time; none: it is under way, or there is no such.
    #[must_use]
    pub fn next(&self, name: &str, now: SystemTime) -> Option<SystemTime> {
        let order = self.orders.get(name).filter(|order| !order.under_way)?;
        let due = order.due().unwrap_or(now);
        let held = self.held.filter(|_| order.authority == Authority::Directory);
        Some(due.max(held.unwrap_or(due)))
    }

    /// Orders that are to be begun now, those first that wait longest.
    #[must_use]
    pub fn due(&self, now: SystemTime) -> Vec<Arc<str>> {
        let next = |name: &Arc<str>| self.next(name, now).filter(|next| *next <= now);
        let mut due: Vec<_> = self.orders.keys().filter_map(|name| Some((next(name)?, Arc::clone(name)))).collect();
        due.sort();
        due.into_iter().map(|(_, name)| name).collect()
    }

    /// When [`Book::due`] will have something.
    #[must_use]
    pub fn wake(&self, now: SystemTime) -> Option<SystemTime> {
        self.orders.keys().filter_map(|name| self.next(name, now)).min()
    }

    pub fn begin(&mut self, name: &str) {
        if let Some(order) = self.orders.get_mut(name) {
            order.under_way = true;
        }
    }

    /// It was not begun after all: another process is at it.
    pub fn put_off(&mut self, name: &str, until: SystemTime) {
        if let Some(order) = self.orders.get_mut(name) {
            (order.under_way, order.again) = (false, Some(until));
        }
    }

    /// It came to a certificate.
    pub fn issued(&mut self, name: &str, lifetime: Lifetime, chance: f64) {
        let Some(order) = self.orders.get_mut(name) else { return };
        order.under_way = false;
        (order.lifetime, order.window, order.chance) = (Some(lifetime), None, chance);
        (order.failures, order.failure, order.again) = (0, None, None);
        if order.authority == Authority::Directory {
            (self.held, self.missed) = (None, 0);
        }
    }

    /// It came to nothing. `can_http`: files can be shown, so there is another way to show the name.
    pub fn failed(&mut self, name: &str, failure: Failure, can_http: bool, now: SystemTime, chance: f64) {
        let Some(order) = self.orders.get_mut(name) else { return };
        order.under_way = false;
        let (trouble, asked) = (failure.trouble, failure.not_before);
        order.failure = Some(failure);
        if trouble == Trouble::Unreachable && order.authority == Authority::Directory {
            // One of many that were under way together says what all of them say.
            if self.held.is_none_or(|held| held <= now) {
                self.missed = self.missed.saturating_add(1);
                self.held = Some(retry(now, trouble, self.missed, asked, chance));
            }
            // Its own, too: another order may find the CA to be back, and this one none the better for it.
            order.again = self.held;
            return;
        }
        order.failures = order.failures.saturating_add(1);
        order.again = Some(retry(now, trouble, order.failures, asked, chance));
        if trouble == Trouble::Challenge && can_http {
            order.challenge = order.challenge.other();
        }
        if order.authority == Authority::Directory {
            (self.held, self.missed) = (None, 0);
        }
    }

    /// Somebody says that what was wrong is right now: what failed is tried at once.
    pub fn hurry(&mut self) {
        (self.held, self.missed) = (None, 0);
        for order in self.orders.values_mut().filter(|order| order.failure.is_some()) {
            order.again = None;
        }
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;

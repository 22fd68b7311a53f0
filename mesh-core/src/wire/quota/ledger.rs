//! The lender's end: what is lent to whom. Pure; times are nanoseconds since any moment that stays the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{
    CEILING, GRACE, LENT_FOR, LimitGrant, LimitReport, MAX_SHARED, PERIOD, POOL, QUICK, QuotaGrant, QuotaReport,
};
use crate::model::{Lease, Part};

/// Grants to one proxy that may be in force.
const OPEN: usize = 16;
/// Clocks do not run alike: the ledger's part of a lease lasts longer by this.
const MARGIN: Duration = Duration::from_millis(500);

/// What one replica lent in one term as the leader.
#[derive(Debug)]
pub struct Ledger {
    begun: u64,
    /// Whether others may have been lent something by somebody before.
    inherits: bool,
    books: BTreeMap<Arc<str>, Book>,
    proxies: HashMap<Arc<str>, Proxy>,
}

/// The stream of a proxy.
#[derive(Debug)]
struct Proxy {
    stream: u64,
    sequence: u64,
}

/// What is lent of one limit.
#[derive(Debug, Default)]
pub struct Book {
    /// What nobody has of a whole bucket: it was not handed out yet, or given back.
    fresh: u32,
    holders: BTreeMap<Arc<str>, Account>,
}

/// What one proxy was lent of one limit.
#[derive(Debug, Default)]
struct Account {
    /// Requests in a thousand seconds.
    demand: u64,
    /// What may be in force, with the report that it answers.
    lent: Vec<(u64, Lease)>,
    /// The stream whose first report was taken in.
    stream: u64,
    /// It reports. Others are cut off, and have what is left.
    here: bool,
}

/// For pages and metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    pub holders: usize,
    /// Those that report.
    pub here: usize,
    pub lent: Part,
    pub demand: u64,
}

impl Account {
    /// The most that may be in force.
    fn lent(&self, now: u64) -> u32 {
        self.lent.iter().map(|(_, lease)| lease.now(now).0).max().unwrap_or(0)
    }

    /// What it says of itself when it comes.
    fn open(&mut self, report: &LimitReport, most: Option<u32>, now: u64) {
        let known = self.lent.iter().map(|(_, lease)| lease.share.0).max();
        // It cannot hold more than it was lent; if that is not known, not more than anybody would be left with.
        let most = known.or(most).unwrap_or(CEILING.0);
        let share = Part(report.share.min(most));
        self.lent.clear();
        if report.share > 0 {
            let left = Duration::from_millis(report.left).min(LENT_FOR) + MARGIN;
            let until = if report.left == 0 { now } else { now.saturating_add(nanos(left)) };
            self.lent.push((0, Lease { share, until, rest: Part(report.rest).min(share) }));
        }
    }

    fn close(&mut self, granted: u64) {
        self.lent.retain(|(sequence, _)| *sequence >= granted);
    }

    fn note(&mut self, sequence: u64, lease: Lease) {
        if self.lent.len() >= OPEN && !self.lent.is_empty() {
            // They are of one proxy that answers nothing; one of them stands for two.
            let (_, first) = self.lent.remove(0);
            if let Some((_, second)) = self.lent.first_mut() {
                second.share = second.share.max(first.share);
                second.until = second.until.max(first.until);
                second.rest = second.rest.max(first.rest);
            }
        }
        self.lent.push((sequence, lease));
    }
}

impl Book {
    pub fn standing(&self, now: u64) -> Standing {
        let here = self.holders.values().filter(|account| account.here);
        Standing {
            holders: self.holders.len(),
            here: here.clone().count(),
            lent: Part(self.lent_but(None, now)),
            demand: here.map(|account| account.demand).fold(0, u64::saturating_add),
        }
    }

    /// What all hold but one.
    fn lent_but(&self, who: Option<&str>, now: u64) -> u32 {
        let others = self.holders.iter().filter(|(name, _)| Some(&***name) != who);
        others.map(|(_, account)| account.lent(now)).fold(0, u32::saturating_add)
    }

    /// What one that reports is to have in the end: a quarter is for all alike, the rest by demand. And the least that it is left with: what it
    /// would have without any demand, but not more than [`Part::START`]; and a part of what is never shared out, as those that are cut
    /// off may have everything.
    fn target(&self, demand: u64, now: u64) -> (u32, u32) {
        let cut_off = self.holders.values().filter(|account| !account.here);
        let pool = POOL.0.saturating_sub(cut_off.map(|account| account.lent(now)).fold(0, u32::saturating_add));
        let here = self.holders.values().filter(|account| account.here);
        let all = u128::from(here.clone().map(|account| account.demand).fold(0, u64::saturating_add));
        let count = u32::try_from(here.count().max(1)).unwrap_or(u32::MAX);
        let alike = pool / 4;
        let least = (alike / count).max(4 * Part::START.0 / self.count()).min(Part::START.0);
        if all == 0 {
            return (pool / count, least);
        }
        let by_demand = u128::from(pool - alike) * u128::from(demand) / all;
        ((alike / count).saturating_add(u32::try_from(by_demand).unwrap_or(0)), least)
    }

    /// Of those that hold something, or are to.
    fn count(&self) -> u32 {
        u32::try_from(self.holders.len().max(1)).unwrap_or(u32::MAX)
    }

    /// What one is lent that `has` something: its target, as far as others leave it. None: they do not leave it anything yet.
    fn share(&self, who: &str, has: u32, (target, least): (u32, u32), renews: bool, now: u64) -> Option<u32> {
        let others = self.lent_but(Some(who), now);
        let free = CEILING.0.saturating_sub(others);
        if has > 0 {
            // With what it has the sum is no greater than it was.
            return Some(if renews { has } else { target }.min(free).max(least.min(has)));
        }
        // Others may come at the same time.
        let first = if renews { 0 } else { target.min(free / 2) };
        // What lies between the ceiling and the whole is for those that were never lent anything, of which it is one.
        let left = Part::WHOLE.0.saturating_sub(others);
        Some(first.max(least)).filter(|share| *share <= left)
    }
}

impl Ledger {
    /// `inherits`: others may have lent something before, so that at first only what is held is renewed.
    pub fn new(now: u64, inherits: bool) -> Ledger {
        Ledger { begun: now, inherits, books: BTreeMap::new(), proxies: HashMap::new() }
    }

    /// A proxy opens a stream, of a number greater than those of its streams before. What it held before goes on to count.
    pub fn join(&mut self, proxy: &Arc<str>, stream: u64) {
        if self.proxies.get(proxy).is_none_or(|known| known.stream < stream) {
            self.proxies.insert(Arc::clone(proxy), Proxy { stream, sequence: 0 });
        }
    }

    /// Whether this is the stream by which it reports.
    pub fn knows(&self, proxy: &str, stream: u64) -> bool {
        self.proxies.get(proxy).is_some_and(|known| known.stream == stream)
    }

    /// Its stream ended: it has what it was lent, and then what is left of it. Whether that was its stream: it may have come again before.
    pub fn leave(&mut self, proxy: &str, stream: u64) -> bool {
        if !self.knows(proxy, stream) {
            return false;
        }
        self.proxies.remove(proxy);
        for account in self.books.values_mut().filter_map(|book| book.holders.get_mut(proxy)) {
            account.here = false;
        }
        true
    }

    /// Its pod is gone, and lets nothing through any more.
    pub fn forget(&mut self, proxy: &str) {
        self.proxies.remove(proxy);
        for book in self.books.values_mut() {
            book.holders.remove(proxy);
        }
        self.books.retain(|_, book| !book.holders.is_empty());
    }

    /// Whether it has no stream.
    pub fn is_cut_off(&self, proxy: &str) -> bool {
        !self.proxies.contains_key(proxy)
    }

    /// What is lent to a proxy now. `may`: whether it has a limit of this name. None: the report comes too late, or on a stream that
    /// another one came after.
    pub fn on_report(
        &mut self,
        proxy: &Arc<str>,
        stream: u64,
        report: &QuotaReport,
        may: impl Fn(&str) -> bool,
        now: u64,
    ) -> Option<QuotaGrant> {
        let known = self.proxies.get_mut(proxy)?;
        if known.stream != stream || known.sequence >= report.sequence {
            return None;
        }
        known.sequence = report.sequence;
        let renews = self.inherits && now.saturating_sub(self.begun) < nanos(GRACE);
        let mut next = pause(u32::MAX);
        let mut limits = Vec::new();
        let told = report.limits.get(..MAX_SHARED).unwrap_or(&report.limits);
        for told in told.iter().filter(|told| may(&told.name)) {
            let lent = self.lend(proxy, stream, report.sequence, told, renews, now);
            next = next.min(lent.as_ref().map_or(QUICK, |(_, pause)| *pause));
            limits.extend(lent.map(|(grant, _)| grant));
        }
        self.settle(proxy, told);
        Some(QuotaGrant { sequence: report.sequence, limits, next: u64::try_from(next.as_millis()).unwrap_or(0) })
    }

    /// The grant, and when it is to report again. None: it has to wait for what others give back.
    fn lend(
        &mut self,
        proxy: &Arc<str>,
        stream: u64,
        sequence: u64,
        told: &LimitReport,
        renews: bool,
        now: u64,
    ) -> Option<(LimitGrant, Duration)> {
        // Of a limit that somebody else lent before, all may be spent.
        let fresh = if renews { 0 } else { CEILING.0 };
        let book = self.books.entry(told.name.as_str().into()).or_insert_with(|| Book { fresh, ..Book::default() });
        let count = book.count();
        let account = book.holders.entry(Arc::clone(proxy)).or_default();
        account.here = true;
        // Up at once, and down slowly: who pauses for a moment is not forgotten.
        account.demand = told.demand.max(account.demand - account.demand / 4);
        let returned = told.returned.min(account.lent.iter().map(|(_, lease)| lease.share.0).max().unwrap_or(0));
        match account.stream == stream {
            true => account.close(told.granted),
            false => account.open(told, (!renews).then_some(POOL.0 / count), now),
        }
        account.stream = stream;
        let (has, demand) = (account.lent(now), account.demand);
        book.fresh = book.fresh.saturating_add(returned).min(CEILING.0);
        let (target, least) = book.target(demand, now);
        let share = book.share(proxy, has, (target, least), renews, now)?;
        let holders = book.count();
        let rest = share.min(POOL.0 / holders);
        let filled = share.saturating_sub(has).min(book.fresh);
        book.fresh -= filled;
        let until = now.saturating_add(nanos(LENT_FOR + MARGIN));
        if let Some(account) = book.holders.get_mut(proxy) {
            account.note(sequence, Lease { share: Part(share), until, rest: Part(rest) });
        }
        // What it gives back counts when it has said so; what it lacks is given back by others.
        let waits = !renews && (share < target - target / 8 || share < has - has / 16);
        let lasts = u64::try_from(LENT_FOR.as_millis()).unwrap_or(0);
        let grant = LimitGrant { name: told.name.clone(), share, rest, lasts, filled };
        Some((grant, if waits { QUICK } else { pause(holders) }))
    }

    /// Limits that the proxy does not have any more.
    fn settle(&mut self, proxy: &str, told: &[LimitReport]) {
        let others = self.books.iter_mut().filter(|(name, _)| !told.iter().any(|told| *told.name == ***name));
        let mut empty = false;
        for (_, book) in others {
            book.holders.remove(proxy);
            empty |= book.holders.is_empty();
        }
        if empty {
            self.books.retain(|_, book| !book.holders.is_empty());
        }
    }

    pub fn books(&self) -> impl Iterator<Item = (&Arc<str>, &Book)> {
        self.books.iter()
    }
}

/// Each report looks at all who hold something of the limit.
fn pause(holders: u32) -> Duration {
    PERIOD.mul_f64(1.0 + f64::from(holders) / 1000.0).min(LENT_FOR / 2)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

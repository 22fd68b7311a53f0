use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::lb::{RateCount, ShareCell};
use crate::model::LimitAmount;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;
const TICK: u64 = 10 * MILLI;
const NAME: &str = "n/a/b";
const PER_SECOND: u32 = 1000;
/// So small that what is lent twice for a moment shows.
const BURST: u32 = 30;

fn count(now: u64) -> Arc<RateCount> {
    let amount = LimitAmount {
        requests: PER_SECOND,
        per: Duration::from_secs(1),
        burst: BURST,
        by: Vec::new(),
        max_buckets: LimitAmount::USUAL_BUCKETS,
        global: true,
    };
    Arc::new(RateCount::new(NAME.into(), &amount, RandomState::new(), Some(ShareCell::new(now))))
}

/// A proxy with its connection to whoever lends.
struct Proxy {
    name: Arc<str>,
    holder: Holder,
    counts: Vec<Arc<RateCount>>,
    /// Number of its stream; none: it is not connected, and tries at this time.
    stream: Result<u64, u64>,
    to: Vec<(u64, QuotaReport)>,
    from: Vec<(u64, QuotaGrant)>,
    passed: u64,
}

impl Proxy {
    fn new(index: usize, now: u64) -> Proxy {
        let (to, from, counts) = (Vec::new(), Vec::new(), vec![count(now)]);
        let name = format!("proxy-{index}").into();
        Proxy { name, holder: Holder::default(), counts, stream: Err(now), to, from, passed: 0 }
    }

    fn held(&self) -> Vec<Held> {
        let share = self.counts[0].share().unwrap();
        vec![Held { name: NAME.into(), asked: share.asked(), lease: share.held() }]
    }

    fn share(&self) -> f64 {
        self.counts[0].share().unwrap().lease().share.ratio()
    }

    fn ask(&mut self, requests: u32, now: u64) {
        for _ in 0..requests {
            let count = &self.counts[0];
            count.ask();
            let moment = count.moment(now);
            if count.rate.take(count.bucket(0, &moment), &moment).is_err() {
                count.refuse();
                continue;
            }
            self.passed += 1;
        }
    }

    fn disconnect(&mut self, ledger: Option<&mut Ledger>, again: u64) {
        if let (Ok(stream), Some(ledger)) = (self.stream, ledger) {
            ledger.leave(&self.name, stream);
        }
        self.stream = Err(again);
        self.to.clear();
        self.from.clear();
    }
}

/// All of them, and a network whose delays are different for each message, so that some overtake others.
struct Mesh {
    now: u64,
    proxies: Vec<Proxy>,
    ledger: Option<Ledger>,
    streams: u64,
    /// Delays, one after the other.
    delays: Vec<u64>,
    used: usize,
    /// What the limit and its burst would have let through: a bucket of its own.
    tokens: f64,
    excess: f64,
}

impl Mesh {
    fn new(proxies: usize, delays: Vec<u64>) -> Mesh {
        let proxies: Vec<Proxy> = (0..proxies).map(|index| Proxy::new(index, 0)).collect();
        let tokens = f64::from(BURST) + proxies.len() as f64 + 1.0;
        let ledger = Some(Ledger::new(0, false));
        Mesh { now: 0, proxies, ledger, streams: 0, delays, used: 0, tokens, excess: 0.0 }
    }

    fn delay(&mut self) -> u64 {
        self.used += 1;
        self.delays[self.used % self.delays.len()]
    }

    /// So many requests come at each; then messages arrive.
    fn tick(&mut self, requests: &[u32]) {
        self.now += TICK;
        let most = f64::from(BURST) + self.proxies.len() as f64 + 1.0;
        self.tokens = (self.tokens + f64::from(PER_SECOND) * (TICK as f64 / SECOND as f64)).min(most);
        for (proxy, requests) in self.proxies.iter_mut().zip(requests) {
            let before = proxy.passed;
            proxy.ask(*requests, self.now);
            self.tokens -= (proxy.passed - before) as f64;
        }
        self.excess = self.excess.max(-self.tokens);
        for index in 0..self.proxies.len() {
            let (to, from) = (self.delay(), self.delay());
            self.converse(index, to, from);
        }
        if let Some(ledger) = &self.ledger {
            for (_, book) in ledger.books() {
                assert!(book.standing(self.now).lent <= Part(Part::WHOLE.0), "{:?}", book.standing(self.now));
            }
        }
    }

    fn converse(&mut self, index: usize, to: u64, from: u64) {
        let (now, proxy) = (self.now, &mut self.proxies[index]);
        let Some(ledger) = &mut self.ledger else { return };
        if proxy.stream.is_err_and(|at| at <= now) {
            self.streams += 1;
            proxy.stream = Ok(self.streams);
            ledger.join(&proxy.name, self.streams);
            proxy.holder.begin(now);
        }
        let Ok(stream) = proxy.stream else { return };
        if proxy.holder.due() <= now {
            let report = proxy.holder.report(&proxy.held(), now);
            proxy.to.push((now + to, report));
        }
        for (_, report) in proxy.to.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            if let Some(grant) = ledger.on_report(&proxy.name, stream, &report, |_| true, now) {
                proxy.from.push((now + from, grant));
            }
        }
        // The last one first.
        for (_, grant) in proxy.from.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>().iter().rev() {
            let count = &proxy.counts[0];
            proxy.holder.on_grant(grant, now, |_, lease, filled| Some(count.lend(lease, filled, now)));
        }
    }

    fn run(&mut self, time: Duration, requests: &[u32]) {
        for _ in 0..nanos(time) / TICK {
            self.tick(requests);
        }
    }

    fn passed(&self) -> u64 {
        self.proxies.iter().map(|proxy| proxy.passed).sum()
    }

    fn shares(&self) -> BTreeMap<usize, f64> {
        self.proxies.iter().map(Proxy::share).enumerate().collect()
    }

    fn lose_leader(&mut self, again: u64) {
        self.ledger = None;
        for proxy in &mut self.proxies {
            proxy.disconnect(None, again);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[test]
fn shares_follow_demand_and_nobody_is_starved() {
    let mut mesh = Mesh::new(3, vec![MILLI]);
    mesh.run(Duration::from_secs(5), &[20, 20, 20]);
    for (index, share) in mesh.shares() {
        assert!((0.30..0.34).contains(&share), "{index}: {share}");
    }
    // One alone is asked: the others keep a minimum.
    mesh.run(Duration::from_secs(30), &[20, 0, 0]);
    let shares = mesh.shares();
    assert!(shares[&0] > 0.80 && shares[&1] > 0.07 && shares[&2] > 0.07, "{shares:?}");
    let before = mesh.passed();
    mesh.run(Duration::from_secs(10), &[20, 0, 0]);
    assert!((8000..=9000).contains(&(mesh.passed() - before)), "{}", mesh.passed() - before);
    // Who just got traffic has its part within seconds.
    mesh.run(Duration::from_secs(4), &[20, 20, 0]);
    let shares = mesh.shares();
    assert!((0.40..0.50).contains(&shares[&1]), "{shares:?}");
    assert!(mesh.excess <= 0.0, "{}", mesh.excess);
}

#[test]
fn a_new_proxy_has_a_share_at_once_and_the_sum_stays() {
    let mut mesh = Mesh::new(2, vec![MILLI]);
    mesh.run(Duration::from_secs(5), &[20, 20]);
    mesh.proxies.push(Proxy::new(2, mesh.now));
    mesh.run(Duration::from_millis(200), &[20, 20, 20]);
    let first = mesh.shares()[&2];
    assert!(first > Part::START.ratio() && first < 0.2, "{first}");
    mesh.run(Duration::from_secs(3), &[20, 20, 20]);
    assert!(mesh.shares()[&2] > 0.30, "{:?}", mesh.shares());
    assert!(mesh.excess <= 0.0, "{}", mesh.excess);
}

#[test]
fn without_a_lender_each_goes_on_with_what_is_left_to_it() {
    let mut mesh = Mesh::new(4, vec![MILLI]);
    mesh.run(Duration::from_secs(20), &[20, 0, 0, 0]);
    let now = mesh.now;
    mesh.lose_leader(now);
    mesh.run(Duration::from_secs(10), &[20, 20, 20, 20]);
    let lease = mesh.proxies[0].counts[0].share().unwrap().lease();
    assert!((0.24..0.25).contains(&lease.now(mesh.now).ratio()), "{lease:?}");
    for proxy in &mesh.proxies {
        assert!(proxy.counts[0].share().unwrap().is_alone(mesh.now));
    }
    // Neither open nor closed.
    let before: Vec<u64> = mesh.proxies.iter().map(|proxy| proxy.passed).collect();
    mesh.run(Duration::from_secs(20), &[20, 20, 20, 20]);
    for (proxy, before) in mesh.proxies.iter().zip(before) {
        assert!((1000..=5500).contains(&(proxy.passed - before)), "{}", proxy.passed - before);
    }
    // The next leader renews, and shares out when all can have come again.
    mesh.ledger = Some(Ledger::new(mesh.now, true));
    mesh.run(Duration::from_secs(2), &[20, 20, 20, 20]);
    assert!(mesh.proxies.iter().all(|proxy| !proxy.counts[0].share().unwrap().is_alone(mesh.now)));
    mesh.run(Duration::from_secs(20), &[20, 20, 20, 20]);
    for (index, share) in mesh.shares() {
        assert!((0.23..0.26).contains(&share), "{index}: {share}");
    }
    assert!(mesh.excess <= 0.0, "{}", mesh.excess);
}

#[test]
fn what_one_that_is_cut_off_has_left_is_kept_until_its_pod_is_gone() {
    let mut mesh = Mesh::new(2, vec![MILLI]);
    mesh.run(Duration::from_secs(10), &[20, 20]);
    let never = u64::MAX;
    mesh.proxies[1].disconnect(mesh.ledger.as_mut(), never);
    mesh.run(Duration::from_secs(30), &[20, 20]);
    assert!(mesh.shares()[&0] < 0.52, "{:?}", mesh.shares());
    let name = mesh.proxies[1].name.clone();
    assert!(mesh.ledger.as_ref().unwrap().is_cut_off(&name));
    mesh.ledger.as_mut().unwrap().forget(&name);
    mesh.proxies.pop();
    mesh.run(Duration::from_secs(5), &[20]);
    assert!(mesh.shares()[&0] > 0.95, "{:?}", mesh.shares());
    assert!(mesh.excess <= 0.0, "{}", mesh.excess);
}

#[test]
fn many_holders_leave_to_the_busy_one_what_it_needs() {
    let mut mesh = Mesh::new(600, vec![MILLI]);
    // What the ledger lends stays within the whole at every moment, as everywhere; that of all proxies does when they were lent something.
    mesh.run(Duration::from_secs(12), &[20]);
    let lent: Vec<Part> =
        mesh.proxies.iter().map(|proxy| proxy.counts[0].share().unwrap().held().unwrap().share).collect();
    let sum: u64 = lent.iter().map(|share| u64::from(share.0)).sum();
    assert!(sum <= u64::from(Part::WHOLE.0), "{sum}");
    assert!(lent[0].ratio() > 0.7, "{:?}", lent[0]);
    let least = Part(POOL.0 / 4 / 600);
    assert!(lent.iter().all(|share| share.0 >= least.0), "{:?} {least:?}", lent.iter().min());
    // Another one is asked as much.
    let mut demand = vec![0; 600];
    (demand[0], demand[599]) = (20, 20);
    mesh.run(Duration::from_secs(12), &demand);
    let shares = mesh.shares();
    assert!(shares[&0] > 0.35 && shares[&599] > 0.35, "{} {}", shares[&0], shares[&599]);
    // All are cut off: none goes on with more than its part.
    let now = mesh.now;
    mesh.lose_leader(now);
    mesh.run(LENT_FOR * 2, &[]);
    let left = mesh.proxies.iter().map(|proxy| proxy.counts[0].share().unwrap().lease().now(mesh.now).ratio());
    assert!(left.sum::<f64>() <= 1.0);
}

#[test]
fn who_comes_while_others_that_are_cut_off_have_it_all_has_a_little() {
    let mut mesh = Mesh::new(8, vec![MILLI]);
    mesh.run(Duration::from_secs(5), &[20; 8]);
    for proxy in &mut mesh.proxies {
        proxy.disconnect(mesh.ledger.as_mut(), u64::MAX);
    }
    mesh.proxies.extend((8..16).map(|index| Proxy::new(index, mesh.now)).collect::<Vec<_>>());
    mesh.run(Duration::from_secs(20), &[20; 16]);
    for proxy in &mesh.proxies[8..] {
        let lease = proxy.counts[0].share().unwrap().held().unwrap();
        assert!(lease.share.0 >= Part::START.0 / 4, "{lease:?}");
    }
}

#[test]
fn who_claims_more_than_it_was_lent_is_not_believed() {
    let mut ledger = Ledger::new(0, false);
    let name: Arc<str> = "a".into();
    let report = |sequence, share, left| QuotaReport {
        sequence,
        limits: vec![LimitReport { name: NAME.to_owned(), share, rest: share, left, ..LimitReport::default() }],
    };
    for (proxy, stream) in [("b", 1), ("c", 2), ("a", 3)] {
        ledger.join(&proxy.into(), stream);
        let grant = ledger.on_report(&proxy.into(), stream, &report(1, 0, 0), |_| true, 0).unwrap();
        assert!(grant.limits[0].share > 0);
    }
    ledger.leave("a", 3);
    ledger.join(&name, 4);
    ledger.on_report(&name, 4, &report(1, Part::WHOLE.0, 8000), |_| true, SECOND).unwrap();
    assert!(ledger.books().all(|(_, book)| book.standing(SECOND).lent <= CEILING));
    // An old stream, and an old report, count nothing; nor does a limit that it does not have.
    assert!(ledger.on_report(&name, 3, &report(9, 0, 0), |_| true, SECOND).is_none());
    assert!(ledger.on_report(&name, 4, &report(1, 0, 0), |_| true, SECOND).is_none());
    assert!(ledger.on_report(&name, 4, &report(2, 0, 0), |_| false, SECOND).unwrap().limits.is_empty());
    // What it does not report any more it does not hold.
    ledger.on_report(&name, 4, &QuotaReport { sequence: 3, limits: Vec::new() }, |_| true, SECOND).unwrap();
    assert!(ledger.books().all(|(_, book)| book.standing(SECOND).holders == 2));
}

#[test]
fn of_the_streams_of_a_proxy_the_last_one_counts() {
    let mut ledger = Ledger::new(0, false);
    let name: Arc<str> = "a".into();
    ledger.join(&name, 2);
    ledger.join(&name, 1);
    assert!(ledger.knows(&name, 2) && !ledger.knows(&name, 1));
    let report = QuotaReport { sequence: 1, limits: Vec::new() };
    assert!(ledger.on_report(&name, 1, &report, |_| true, 0).is_none());
    assert!(ledger.on_report(&name, 2, &report, |_| true, 0).is_some());
    assert!(!ledger.leave(&name, 1) && ledger.knows(&name, 2));
    assert!(ledger.leave(&name, 2) && !ledger.knows(&name, 2));
}

#[test]
fn a_bucket_is_handed_out_once_and_what_was_before_is_not() {
    let report = |sequence, granted, returned| QuotaReport {
        sequence,
        limits: vec![LimitReport { name: NAME.to_owned(), granted, returned, ..LimitReport::default() }],
    };
    let filled = |inherits: bool, returned: u32| {
        let mut ledger = Ledger::new(0, inherits);
        let mut sum = 0;
        for (proxy, stream) in [("a", 1), ("b", 2), ("c", 3)] {
            ledger.join(&proxy.into(), stream);
        }
        for round in 1..20 {
            for (proxy, stream) in [("a", 1), ("b", 2), ("c", 3)] {
                let report = report(round, round - 1, if round == 10 { returned } else { 0 });
                let now = round * SECOND / 2;
                let grant = ledger.on_report(&proxy.into(), stream, &report, |_| true, now).unwrap();
                sum += grant.limits[0].filled;
            }
        }
        Part(sum)
    };
    let sum = filled(false, 0);
    assert!(sum <= CEILING && sum.ratio() > 0.95, "{sum:?}");
    assert_eq!(filled(true, 0), Part(0));
    // What is given back is there for who grows; nobody does here.
    assert!(filled(false, Part::WHOLE.0).0 - sum.0 < Part::WHOLE.0 / 100);
}

/// What happens to the mesh for some time.
#[derive(Clone, Debug)]
enum Event {
    Demand(Vec<u32>),
    /// A connection breaks, for so many seconds.
    Break(usize, u64),
    /// Nobody lends for so many seconds, then somebody else does.
    Change(u64),
    Come,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => proptest::collection::vec(prop_oneof![2 => 0_u32..30, 1 => Just(0)], 8).prop_map(Event::Demand),
        2 => (0_usize..8, 0_u64..3).prop_map(|(index, time)| Event::Break(index, time)),
        1 => (0_u64..20).prop_map(Event::Change),
        1 => Just(Event::Come),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Loss is a broken stream; delays reorder. Whatever happens, a bucket with the limit's rate, its burst and a request for each
    /// proxy would have let all through that they did.
    #[test]
    fn the_sum_stays_within_the_limit(
        proxies in 1_usize..=4,
        delays in proptest::collection::vec(prop_oneof![4 => 0_u64..100, 1 => 0_u64..3000], 1..40),
        events in proptest::collection::vec((event(), 0_u64..300), 1..40),
    ) {
        let mut mesh = Mesh::new(proxies, delays.into_iter().map(|delay| delay * MILLI).collect());
        let mut demand = vec![20; 8];
        let mut lender_at = None;
        for (event, ticks) in events {
            match event {
                Event::Demand(next) => demand = next,
                Event::Break(index, time) => {
                    let again = mesh.now + time * SECOND;
                    let count = mesh.proxies.len();
                    mesh.proxies[index % count].disconnect(mesh.ledger.as_mut(), again);
                }
                Event::Change(time) => {
                    let now = mesh.now;
                    // They try again every now and then.
                    let again = (now + time * SECOND).saturating_add(nanos(COME_AGAIN));
                    mesh.lose_leader(again);
                    lender_at = Some(now + time * SECOND);
                }
                Event::Come if mesh.proxies.len() < 4 => {
                    let next = Proxy::new(mesh.proxies.len(), mesh.now);
                    mesh.proxies.push(next);
                    mesh.tokens += 1.0;
                }
                Event::Come => {}
            }
            for _ in 0..ticks {
                if lender_at.is_some_and(|at| at <= mesh.now) {
                    mesh.ledger = Some(Ledger::new(mesh.now, true));
                    lender_at = None;
                }
                mesh.tick(&demand);
            }
            prop_assert!(mesh.excess <= 0.0, "{} more at {}s", mesh.excess, mesh.now / SECOND);
        }
    }
}

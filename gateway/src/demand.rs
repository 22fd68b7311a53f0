//! From the data path to the source: names that a request needs and the tables lack. Who asks waits for tables that have the answer;
//! requests for what is here never come by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_core::model::Key;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a request waits for an answer: a controller that restarts is back before that.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Most names that are waited for at a time: a client that calls names at random does not fill the memory.
const MOST: usize = 1024;

/// See the module.
pub struct Demand {
    /// With the number of those who wait.
    waiting: Mutex<HashMap<Key, usize>>,
    names: UnboundedSender<Key>,
    /// Until a source takes it.
    receiver: Mutex<Option<UnboundedReceiver<Key>>>,
    published: watch::Sender<()>,
    /// Since when nobody can be asked.
    away: Mutex<Option<Instant>>,
}

impl Default for Demand {
    fn default() -> Demand {
        let (names, receiver) = unbounded_channel();
        Demand {
            waiting: Mutex::default(),
            names,
            receiver: Mutex::new(Some(receiver)),
            published: watch::Sender::new(()),
            away: Mutex::default(),
        }
    }
}

/// One who waits for a name.
struct Waiting<'d> {
    demand: &'d Demand,
    name: &'d Key,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.demand.waiting();
        if let Some(count) = waiting.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(self.name);
            }
        }
    }
}

impl Demand {
    /// Asks for a name and waits until `is_answered`, which is looked at whenever there are new tables. False: nobody answers.
    pub async fn ask(&self, name: &Key, mut is_answered: impl FnMut() -> bool) -> bool {
        let mut published = self.published.subscribe();
        if is_answered() {
            return true;
        }
        let Some(_waiting) = self.enter(name) else { return false };
        let answer = async {
            while published.changed().await.is_ok() {
                if is_answered() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(self.patience(), answer).await.unwrap_or(false)
    }

    /// Who was away for longer than anybody waits is not waited for.
    fn patience(&self) -> Duration {
        let away = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        PATIENCE.saturating_sub(away.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// Whether the source can be asked now.
    pub fn set_reachable(&self, reachable: bool) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *away = if reachable { None } else { away.or_else(|| Some(Instant::now())) };
    }

    /// The names as they are asked for, for the one source that can answer. Whoever comes second gets none.
    pub fn take_names(&self) -> UnboundedReceiver<Key> {
        let taken = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| unbounded_channel().1)
    }

    /// There are new tables.
    pub fn published(&self) {
        self.published.send_replace(());
    }

    fn enter<'d>(&'d self, name: &'d Key) -> Option<Waiting<'d>> {
        let mut waiting = self.waiting();
        if !waiting.contains_key(name) && waiting.len() >= MOST {
            return None;
        }
        let count = waiting.entry(Arc::clone(name)).or_default();
        *count += 1;
        // The first asks for all.
        if *count == 1 && self.names.send(Arc::clone(name)).is_err() {
            waiting.remove(name);
            return None;
        }
        Some(Waiting { demand: self, name })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_a_name_go_on_with_the_tables_that_have_it() {
        let demand = Arc::new(Demand::default());
        let mut names = demand.take_names();
        let answered = Arc::new(AtomicBool::new(false));
        let ask = || {
            let (demand, answered) = (demand.clone(), answered.clone());
            tokio::spawn(async move { demand.ask(&"a".into(), || answered.load(Ordering::SeqCst)).await })
        };
        let (first, second) = (ask(), ask());
        assert_eq!(names.recv().await.as_deref(), Some("a"));
        // Tables without the answer.
        demand.published();
        tokio::task::yield_now().await;
        assert!(!first.is_finished());
        answered.store(true, Ordering::SeqCst);
        demand.published();
        assert!(first.await.unwrap() && second.await.unwrap());
        assert!(demand.waiting().is_empty());
        assert!(names.try_recv().is_err(), "one name is asked for once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_answered_goes_on_without() {
        let demand = Demand::default();
        let begun = Instant::now();
        assert!(!demand.ask(&"a".into(), || false).await);
        assert_eq!(begun.elapsed(), PATIENCE);
        // Nobody can answer any more.
        drop(demand.take_names());
        assert!(!demand.ask(&"b".into(), || false).await);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_away_is_waited_for_once() {
        let demand = Demand::default();
        demand.set_reachable(false);
        tokio::time::advance(PATIENCE / 2).await;
        demand.set_reachable(false);
        for wait in [PATIENCE / 2, Duration::ZERO] {
            let begun = Instant::now();
            assert!(!demand.ask(&"a".into(), || false).await);
            assert_eq!(begun.elapsed(), wait);
        }
        demand.set_reachable(true);
        let begun = Instant::now();
        assert!(!demand.ask(&"a".into(), || false).await);
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_not_waited_for_without_limit() {
        let demand = Arc::new(Demand::default());
        let waiting: Vec<_> = (0..MOST)
            .map(|number| {
                let demand = demand.clone();
                tokio::spawn(async move { demand.ask(&number.to_string().into(), || false).await })
            })
            .collect();
        while demand.waiting().len() < MOST {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        assert!(!demand.ask(&"one more".into(), || false).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for waiting in waiting {
            assert!(!waiting.await.unwrap());
        }
    }
}

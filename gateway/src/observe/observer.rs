//! One worker's end of the observation: called once per finished request, and as connections go on that are none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::series::{TcpCounts, WorkerCounts};
use super::{AccessLogCell, RequestRecord};

/// One per worker, shared by its connections. Never waits for a reader of metrics or logs: a reader takes the counters
/// away by exchanging them for empty ones.
#[derive(Default)]
pub struct Observer {
    state: Mutex<State>,
    access_log: Arc<AccessLogCell>,
}

#[derive(Default)]
struct State {
    counts: WorkerCounts,
    /// Reused for every line of the access log.
    line: Vec<u8>,
}

impl Observer {
    pub(super) fn new(access_log: Arc<AccessLogCell>) -> Observer {
        Observer { state: Mutex::default(), access_log }
    }

    /// Counts the request and, if the access log is on, writes its line. Called exactly once per request, at its end.
    pub fn record(&self, record: &RequestRecord<'_>) {
        let mut state = self.lock();
        state.counts.count(record);
        let access_log = self.access_log.load();
        if let Some(access_log) = &*access_log {
            access_log.write(record, &mut state.line);
        }
    }

    /// Counts a copy of a request: answered, or given up.
    pub fn mirrored(&self, answered: bool) {
        self.lock().counts.mirrored.count(answered);
    }

    /// Counts something of a connection that is not HTTP.
    pub fn count_tcp(&self, record: &RequestRecord<'_>, counts: TcpCounts) {
        self.lock().counts.count_tcp(record, counts);
    }

    /// Writes the line of such a connection, if the access log is on. Called exactly once, at its end.
    pub fn log(&self, record: &RequestRecord<'_>) {
        let access_log = self.access_log.load();
        if let Some(access_log) = &*access_log {
            access_log.write(record, &mut self.lock().line);
        }
    }

    /// Whether [`RequestRecord::headers`] will be asked for headers of the answer.
    #[must_use]
    pub fn wants_response_headers(&self) -> bool {
        self.access_log.load().as_ref().is_some_and(|log| log.wants_response_headers())
    }

    pub(super) fn take(&self) -> WorkerCounts {
        std::mem::take(&mut self.lock().counts)
    }

    /// Only the thread of the worker and, for an instant, a reader want it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

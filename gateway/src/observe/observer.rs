//! One worker's end of the observation: called once per finished request.

use super::RequestRecord;

/// One per worker, shared by its connections. Never waits for a reader of metrics or logs.
#[derive(Default)]
pub struct Observer {}

impl Observer {
    /// Counts the request and, if the access log is on, writes its line. Called exactly once per request, at its end.
    pub fn record(&self, record: &RequestRecord<'_>) {
        let _ = record;
    }
}

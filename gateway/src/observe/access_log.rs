//! The access log: one line per request, formatted on the worker into a reused buffer, then appended to a bounded queue
//! that a writer thread empties. A writer that is stuck costs lines, never requests; lost lines are counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::RequestRecord;
use super::log_format::LogFormat;

/// Bytes that wait for the writer at most.
const QUEUE_LIMIT: usize = 4 << 20;
/// How long the writer collects lines before it writes them together.
const GATHER: Duration = Duration::from_millis(5);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File(PathBuf),
}

impl LogTarget {
    /// As MeshConfig's `accessLogFile` names it.
    #[must_use]
    pub fn from_path(path: &Path) -> LogTarget {
        match path.to_str() {
            Some("/dev/stdout" | "-") => LogTarget::Stdout,
            _ => LogTarget::File(path.to_owned()),
        }
    }
}

/// What the user asked for. Compared to tell whether a change concerns the access log at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub target: LogTarget,
    pub json: bool,
    /// `accessLogFormat`; none: Istio's default.
    pub format: Option<String>,
}

/// An open access log.
pub struct AccessLog {
    format: LogFormat,
    wants_response_headers: bool,
    sink: Arc<Sink>,
    pub settings: LogSettings,
}

impl AccessLog {
    /// Opens the file and starts the writer. The second value is what was wrong with the format, if anything.
    pub fn open(settings: LogSettings, dropped: Arc<AtomicU64>) -> io::Result<(AccessLog, Vec<String>)> {
        let (format, problems) = match (&settings.format, settings.json) {
            (Some(format), false) => LogFormat::text(format),
            (Some(format), true) => LogFormat::json(format),
            (None, false) => (LogFormat::default_text(), Vec::new()),
            (None, true) => (LogFormat::default_json(), Vec::new()),
        };
        let output = Output::open(&settings.target)?;
        let sink = Arc::new(Sink { dropped, ..Sink::default() });
        let for_writer = sink.clone();
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || for_writer.write_to(output))?;
        let wants_response_headers = format.wants_response_headers();
        Ok((AccessLog { format, wants_response_headers, sink, settings }, problems))
    }

    pub fn wants_response_headers(&self) -> bool {
        self.wants_response_headers
    }

    /// Formats into `line` (emptied first) and queues it.
    pub fn write(&self, record: &RequestRecord<'_>, line: &mut Vec<u8>) {
        line.clear();
        self.format.write(record, line);
        self.sink.push(line);
    }

    /// After the file was renamed: the next line goes to a new file of the old name.
    pub fn reopen(&self) {
        self.sink.reopen.store(true, Ordering::Release);
        self.sink.wake.notify_one();
    }

    /// Waits until what is queued is written, but not longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let queue = self.sink.lock();
        let busy = |queue: &mut Queue| !queue.bytes.is_empty() || queue.writing;
        let _ = self.sink.idle.wait_timeout_while(queue, limit, busy);
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.sink.lock().closed = true;
        self.sink.wake.notify_one();
    }
}

#[derive(Default)]
struct Sink {
    queue: Mutex<Queue>,
    /// To the writer: there is something to do.
    wake: Condvar,
    /// From the writer: nothing is left.
    idle: Condvar,
    reopen: AtomicBool,
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    writing: bool,
    closed: bool,
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.bytes.len().saturating_add(line.len()) > QUEUE_LIMIT {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = queue.bytes.is_empty();
        queue.bytes.extend_from_slice(line);
        drop(queue);
        if first {
            self.wake.notify_one();
        }
    }

    /// The writer thread. Two buffers change places, so that nothing is allocated once both have grown.
    fn write_to(&self, mut output: Output) {
        let mut batch = Vec::new();
        loop {
            let mut queue = self.lock();
            queue.writing = false;
            while queue.bytes.is_empty() && !queue.closed && !self.reopen.load(Ordering::Acquire) {
                self.idle.notify_all();
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let closed = queue.closed;
            if !closed && !queue.bytes.is_empty() {
                drop(queue);
                std::thread::sleep(GATHER);
                queue = self.lock();
            }
            std::mem::swap(&mut queue.bytes, &mut batch);
            queue.writing = !batch.is_empty();
            drop(queue);
            if self.reopen.swap(false, Ordering::AcqRel) {
                output.reopen();
            }
            output.write(&batch, &self.dropped);
            batch.clear();
            if closed {
                return;
            }
        }
    }
}

struct Output {
    target: LogTarget,
    file: Option<File>,
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Output> {
        let file = match target {
            LogTarget::Stdout => None,
            LogTarget::File(path) => Some(append_to(path)?),
        };
        Ok(Output { target: target.clone(), file })
    }

    /// Keeps the old file if the new one cannot be opened.
    fn reopen(&mut self) {
        if let LogTarget::File(path) = &self.target {
            match append_to(path) {
                Ok(file) => self.file = Some(file),
                Err(error) => tracing::error!(path = %path.display(), %error, "cannot reopen the access log"),
            }
        }
    }

    fn write(&mut self, batch: &[u8], dropped: &AtomicU64) {
        if batch.is_empty() {
            return;
        }
        let result = match &mut self.file {
            Some(file) => file.write_all(batch),
            None => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch).and_then(|()| stdout.flush())
            }
        };
        if let Err(error) = result {
            let lines = batch.iter().filter(|byte| **byte == b'\n').count();
            dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
            tracing::error!(%error, lines, "cannot write the access log");
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;

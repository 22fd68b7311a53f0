//! Worker threads: each has one single-threaded runtime and one connection handler, and a connection stays where it was
//! accepted. Nothing is stolen, so pools and counters of a worker are seldom touched by another thread.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::ConnectionHandler;

/// One worker as others see it.
#[derive(Clone)]
pub(super) struct Worker {
    pub runtime: Handle,
    pub handler: Arc<dyn ConnectionHandler>,
}

/// The workers of the process. Dropping it ends them and everything that runs on them.
pub struct Workers {
    workers: Vec<Worker>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// Starts `count` workers, at least one. `handler` is called once on the thread of each, inside its runtime, with the
    /// number of the worker, from 0.
    pub fn start<F>(count: usize, handler: F) -> io::Result<Self>
    where
        F: Fn(usize) -> Arc<dyn ConnectionHandler> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let (stop, _) = watch::channel(false);
        let mut started = Self { workers: Vec::new(), stop, threads: Mutex::default() };
        for index in 0..count.max(1) {
            let (worker, thread) = start_one(index, Arc::clone(&handler), started.stop.subscribe())?;
            started.workers.push(worker);
            started.threads().push(thread);
        }
        Ok(started)
    }

    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// The runtimes, in the order of the workers' numbers.
    pub fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.workers.iter().map(|worker| &worker.runtime)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter()
    }

    /// Ends the threads, dropping the tasks that still run on them, and waits for them. Blocks; not for use on a worker.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn start_one<F>(index: usize, handler: Arc<F>, mut stop: watch::Receiver<bool>) -> io::Result<(Worker, JoinHandle<()>)>
where
    F: Fn(usize) -> Arc<dyn ConnectionHandler> + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ready, made) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let worker = {
            let _inside = runtime.enter();
            Worker { runtime: runtime.handle().clone(), handler: handler(index) }
        };
        if ready.send(worker).is_ok() {
            runtime.block_on(async {
                let _ = stop.wait_for(|stop| *stop).await;
            });
        }
    })?;
    let worker = made.recv().map_err(|_| io::Error::other("the worker did not start"))?;
    Ok((worker, thread))
}

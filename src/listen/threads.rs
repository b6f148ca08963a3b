//! The threads that serve connections: each has an event loop of its own, and the connections that it is given.
//!
//! A connection stays with its thread, and so do the connections to servers that its requests use: nothing of them is
//! shared, and no thread waits for another. What concerns all (accepting, asking servers how they are, a reload, what
//! operators ask) happens on another thread and keeps no client waiting.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

/// Threads of all event loops together that may wait for disks.
const BLOCKING: usize = 512;

/// The least of them that one event loop has.
const LEAST_BLOCKING: usize = 32;

/// The threads that serve connections.
#[derive(Debug)]
pub(crate) struct WorkerThreads {
    workers: Vec<Worker>,
    /// Ends them when it is dropped.
    _running: watch::Sender<()>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    open: Arc<AtomicUsize>,
}

/// A connection's place on a thread.
#[derive(Debug)]
pub(super) struct WorkerGuard(Arc<AtomicUsize>);

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerThreads {
    /// Starts so many threads.
    ///
    /// # Errors
    ///
    /// When the system has no more threads.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let (running, _) = watch::channel(());
        let blocking = (BLOCKING / count.max(1)).max(LEAST_BLOCKING);
        let start = |_| {
            let runtime =
                Builder::new_current_thread().enable_all().max_blocking_threads(blocking).build()?;
            let worker = Worker { runtime: runtime.handle().clone(), open: Arc::default() };
            let mut running = running.subscribe();
            thread::Builder::new().name("bowshock".into()).spawn(move || {
                // Fails when there is no sender any more, which is the end.
                let _ = runtime.block_on(running.changed());
                // What is still in flight had its time.
                runtime.shutdown_background();
            })?;
            Ok(worker)
        };
        let workers = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, _running: running })
    }

    /// Has the thread with the fewest connections serve another one.
    pub(super) fn serve(&self, connection: impl FnOnce(WorkerGuard) + Send + 'static) {
        let worker = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        let Some(worker) = worker else { return };
        worker.open.fetch_add(1, Ordering::Relaxed);
        let seat = WorkerGuard(Arc::clone(&worker.open));
        worker.runtime.spawn(async move { connection(seat) });
    }
}

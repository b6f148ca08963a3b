//! Worker threads: each has its own event loop and serves the connections that it is given.
//!
//! A connection stays on its thread, and so do the connections to servers that its requests use: nothing of them is
//! shared, and no thread waits for another. Work for the whole process (accepting, health checks, reloads, requests
//! of operators) runs on another thread and delays no client.

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

/// Most blocking threads of all event loops together.
const BLOCKING: usize = 512;

/// Fewest blocking threads of an event loop.
const LEAST_BLOCKING: usize = 32;

/// Threads that serve connections.
#[derive(Debug)]
pub(crate) struct WorkerThreads {
    workers: Vec<Worker>,
    /// Dropping the sender ends the threads.
    _running: watch::Sender<()>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    open: Arc<AtomicUsize>,
}

/// Guard that counts a connection on its thread.
#[derive(Debug)]
pub(super) struct WorkerGuard(Arc<AtomicUsize>);

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerThreads {
    /// Starts `count` threads.
    ///
    /// # Errors
    ///
    /// The system cannot create more threads.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let (running, _) = watch::channel(());
        let blocking = (BLOCKING / count.max(1)).max(LEAST_BLOCKING);
        let start = |_| {
            let runtime =
                Builder::new_current_thread().enable_all().max_blocking_threads(blocking).build()?;
            let worker = Worker { runtime: runtime.handle().clone(), open: Arc::default() };
            let mut running = running.subscribe();
            thread::Builder::new().name("bowshock".into()).spawn(move || {
                // An error means that the sender was dropped: the thread ends.
                let _ = runtime.block_on(running.changed());
                // Requests that are still in flight have had their grace period.
                runtime.shutdown_background();
            })?;
            Ok(worker)
        };
        let workers = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, _running: running })
    }

    /// Serves a connection on the thread with the fewest.
    pub(super) fn serve(&self, connection: impl FnOnce(WorkerGuard) + Send + 'static) {
        let worker = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        let Some(worker) = worker else { return };
        worker.open.fetch_add(1, Ordering::Relaxed);
        let seat = WorkerGuard(Arc::clone(&worker.open));
        worker.runtime.spawn(async move { connection(seat) });
    }
}

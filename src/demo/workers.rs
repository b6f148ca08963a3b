//! The demo's workers: each a listener on its own unix socket, which stops and starts again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::UnixListener,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::app::App;

/// Number of workers.
const WORKERS: usize = 4;

/// Downtime of a restarting worker. Galaxy takes a minute or more; a demo must not.
const AWAY: Duration = Duration::from_secs(5);

/// Pause before workers stop.
const SOON: Duration = Duration::from_millis(100);

/// Workers of the demo.
pub(super) struct DemoWorkers {
    folder: PathBuf,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl DemoWorkers {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), running: Mutex::default() }
    }

    /// Starts the workers.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        let started: io::Result<Vec<_>> = (0..WORKERS).map(|number| self.start_one(number)).collect();
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = started?;
        Ok(())
    }

    /// Stops the workers, and starts them again after a while.
    pub(super) async fn restart(self: Arc<Self>) {
        // Responds to the request for the restart first.
        sleep(SOON).await;
        for worker in self.running.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            worker.abort();
        }
        for number in 0..WORKERS {
            // A worker that stops removes its socket.
            let _ = fs::remove_file(self.socket(number));
        }
        sleep(AWAY).await;
        if let Err(error) = self.start() {
            tracing::error!(%error, "the demo's workers cannot start again");
        }
    }

    /// Path of the dataset.
    pub(super) fn dataset(&self) -> PathBuf {
        self.folder.join("datasets/reads.fastq")
    }

    fn start_one(self: &Arc<Self>, number: usize) -> io::Result<JoinHandle<()>> {
        let listener = UnixListener::bind(self.socket(number))?;
        let app = Arc::new(App::new(number, Arc::clone(self)));
        Ok(tokio::spawn(accept(listener, app)))
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.folder.join(format!("worker{number}.sock"))
    }
}

/// Serves connections until aborted. Open ones are then cut off, as when a worker is killed.
async fn accept(listener: UnixListener, app: Arc<App>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(Arc::clone(&app).serve(stream));
    }
}

//! Files whose existence switches something: `maintenance`, `when = { exists = … }`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, timeout},
};

/// Time for which the last look at the file counts.
const FRESH: Duration = Duration::from_secs(1);

/// Longest wait for a look at the file. While its file system does not respond, the last look counts.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a file exists, looked at while requests ask for it.
#[derive(Debug)]
pub(crate) struct FileFlag {
    path: PathBuf,
    exists: AtomicBool,
    /// Time of the last look that was begun. Locked during a look, for as long as requests wait for it.
    looked: Mutex<Option<Instant>>,
    /// Whether a look has not returned yet; its file system may hang.
    looking: AtomicBool,
}

impl FileFlag {
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        let (exists, looking) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { path, exists, looked: Mutex::default(), looking })
    }

    /// Whether the file existed at the last look.
    pub(crate) fn exists(&self) -> bool {
        self.exists.load(Ordering::Relaxed)
    }

    /// Looks at the file unless that was done within the last second.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        let _ = timeout(PATIENCE, self.look()).await;
    }

    async fn look(self: &Arc<Self>) {
        let mut looked = self.looked.lock().await;
        let is_fresh = looked.is_some_and(|looked| looked.elapsed() < FRESH);
        if is_fresh || self.looking.swap(true, Ordering::Relaxed) {
            return;
        }
        *looked = Some(Instant::now());
        let flag = Arc::clone(self);
        let look = spawn_blocking(move || {
            flag.exists.store(flag.path.exists(), Ordering::Relaxed);
            flag.looking.store(false, Ordering::Relaxed);
        });
        // Fails only when the process ends.
        let _ = look.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("maintenance");
        let flag = FileFlag::new(path.clone());
        flag.refresh().await;
        assert!(!flag.exists());
        std::fs::write(&path, "").unwrap();
        flag.refresh().await;
        assert!(!flag.exists(), "looked at just now");
        tokio::time::advance(FRESH).await;
        flag.refresh().await;
        assert!(flag.exists());
    }
}

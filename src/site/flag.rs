//! Files whose existence switches something: `maintenance`, `when = { exists = … }`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::bulkhead::FileLook;

/// Whether a file exists, looked at while requests ask for it.
#[derive(Debug)]
pub(crate) struct FileFlag {
    path: PathBuf,
    exists: AtomicBool,
    look: Arc<FileLook>,
}

impl FileFlag {
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, exists: AtomicBool::new(false), look: Arc::default() })
    }

    /// Whether the file existed at the last look.
    pub(crate) fn exists(&self) -> bool {
        self.exists.load(Ordering::Relaxed)
    }

    /// Looks at the file unless that was done within the last second.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        let flag = Arc::clone(self);
        self.look.refresh(move || flag.exists.store(flag.path.exists(), Ordering::Relaxed)).await;
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
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        flag.refresh().await;
        assert!(flag.exists());
    }
}

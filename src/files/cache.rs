//! Cache of recently used files: the content of small ones, open descriptors of large ones.
//!
//! A file that was opened within the last second is sent without resolving its path again, and without a hop to the
//! blocking pool. A file that is modified, replaced or removed is noticed at once through its open descriptor; a file
//! that is hidden by a changed symlink above it, after a second. The response is always one version, with the
//! validators of that version.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache as Moka;
use tokio::time::Instant;

use super::{FileRequest, Opened};
use crate::clock;

/// Time for which a path is assumed to lead to the same file.
const FRESH: Duration = Duration::from_secs(1);

/// Longest time in the cache: a deleted file holds its disk space for as long as it is open.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Most files in the cache. Each takes a descriptor, and a small one its size in memory: 32 MiB in all.
const CAPACITY: u64 = 1024;

/// Recently used files.
pub struct Cache {
    files: Moka<FileRequest, Arc<CachedOpen>, foldhash::fast::RandomState>,
    /// Whether a task that removes old entries is running.
    swept: AtomicBool,
}

#[derive(Debug)]
struct CachedOpen {
    opened: Arc<Opened>,
    looked: Instant,
}

impl Default for Cache {
    fn default() -> Self {
        let files = Moka::builder().max_capacity(CAPACITY).weigher(weight).time_to_live(MAX_AGE);
        let files = files.build_with_hasher(foldhash::fast::RandomState::default());
        Self { files, swept: AtomicBool::new(false) }
    }
}

/// Weight in files, including variants: each takes a descriptor, and at most the memory of a small file.
fn weight(_: &FileRequest, kept: &Arc<CachedOpen>) -> u32 {
    u32::try_from(1 + kept.opened.variants.len()).unwrap_or(u32::MAX)
}

impl Cache {
    /// File from the cache, if its path was resolved within the last second.
    pub(crate) fn fresh(&self, wanted: &FileRequest) -> Option<Arc<Opened>> {
        let kept = self.files.get(wanted)?;
        (clock::now().saturating_duration_since(kept.looked) < FRESH && kept.opened.is_unchanged())
            .then(|| Arc::clone(&kept.opened))
    }

    /// Adds a file that has just been opened.
    pub(crate) fn keep(self: &Arc<Self>, wanted: FileRequest, opened: Arc<Opened>) {
        self.files.insert(wanted, Arc::new(CachedOpen { opened, looked: clock::now() }));
        if !self.swept.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes old files even when there are no further requests.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(MAX_AGE).await;
            self.files.run_pending_tasks();
            if self.files.entry_count() == 0 {
                self.swept.store(false, Ordering::Relaxed);
                return;
            }
        }
    }
}

//! Files that are asked for often: small ones in memory, large ones open, for a moment.
//!
//! What was opened within the last second is sent without another look at its path, and without a hop to the blocking
//! pool. A file that is written to, replaced or removed is seen at once, because the open one tells; one that a changed
//! link above it hides, after a second. What is sent is always one version, with the validators of that version.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache as Moka;
use tokio::time::Instant;

use super::{Opened, Wanted};
use crate::clock;

/// How long a path is taken to lead to the same file.
const FRESH: Duration = Duration::from_secs(1);

/// Nothing is kept longer than this: a file that was deleted holds its space for as long as it is open.
const KEPT: Duration = Duration::from_secs(2);

/// Files that are kept at most. Each takes a descriptor, and as much memory as a small one if it is one: 32 MiB in all.
const CAPACITY: u64 = 1024;

/// Files that were wanted a moment ago.
pub struct Cache {
    files: Moka<Wanted, Arc<CachedOpen>, foldhash::fast::RandomState>,
    /// Somebody clears away what is old.
    swept: AtomicBool,
}

#[derive(Debug)]
struct CachedOpen {
    opened: Arc<Opened>,
    looked: Instant,
}

impl Default for Cache {
    fn default() -> Self {
        let files = Moka::builder().max_capacity(CAPACITY).weigher(weight).time_to_live(KEPT);
        let files = files.build_with_hasher(foldhash::fast::RandomState::default());
        Self { files, swept: AtomicBool::new(false) }
    }
}

/// In files, its variants among them: each takes a descriptor, and at most a small file's memory.
fn weight(_: &Wanted, kept: &Arc<CachedOpen>) -> u32 {
    u32::try_from(1 + kept.opened.variants.len()).unwrap_or(u32::MAX)
}

impl Cache {
    /// The file, if it was looked at a moment ago.
    pub(crate) fn fresh(&self, wanted: &Wanted) -> Option<Arc<Opened>> {
        let kept = self.files.get(wanted)?;
        (clock::now().saturating_duration_since(kept.looked) < FRESH && kept.opened.is_unchanged())
            .then(|| Arc::clone(&kept.opened))
    }

    /// Keeps a file that has just been opened.
    pub(crate) fn keep(self: &Arc<Self>, wanted: Wanted, opened: Arc<Opened>) {
        self.files.insert(wanted, Arc::new(CachedOpen { opened, looked: clock::now() }));
        if !self.swept.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes what is old even when nobody asks for anything any more.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEPT).await;
            self.files.run_pending_tasks();
            if self.files.entry_count() == 0 {
                self.swept.store(false, Ordering::Relaxed);
                return;
            }
        }
    }
}

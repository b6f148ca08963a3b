//! Bulkheads: limits on the blocking work for each location of files, so that a file system that hangs occupies a
//! part of the blocking pool and never all of it.
//!
//! A call into a dead NFS server or FUSE daemon does not return, and its thread cannot be recovered. The pool is
//! shared by everything that blocks (uploads on disk, compression, archives), so each open, read and close of a
//! requested file takes a permit of the bulkhead for its root and mount point. When there are no more, new requests
//! for that root get 503, and downloads that have begun wait.

mod file;
mod look;
mod mounts;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

pub use file::OpenFile;
pub(crate) use look::FileLook;

/// Permits of all bulkheads together. Tokio's blocking pool has 512 threads; the rest is for other work.
const TOTAL: usize = 320;

/// A bulkhead may use at most one in this many of the remaining permits: the first that hangs gets 64, the next 51,
/// and twenty leave some (dynamic thresholds, as of shared packet buffers).
const SHARE: usize = 4;

/// Longest wait of a request for a permit. Also the time without any returned permit after which requests do not wait
/// at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Interval at which waiting requests check whether other bulkheads have released permits.
const RECHECK: Duration = Duration::from_millis(100);

/// Shortest time between two log messages about a bulkhead without permits.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Requests without a permit since the start.
static REFUSED: AtomicU64 = AtomicU64::new(0);

static ALL: LazyLock<Bulkheads> = LazyLock::new(Bulkheads::default);

/// Bulkheads of one root, by mount point.
type ByMount = HashMap<Arc<Path>, Arc<Bulkhead>>;

/// Bulkheads that share one pool.
#[derive(Default)]
struct Bulkheads {
    used: Arc<Mutex<usize>>,
    /// Bulkheads by root, and by mount point.
    by_place: Mutex<HashMap<PathBuf, ByMount>>,
}

impl Bulkheads {
    fn of(&self, root: &Path, mount: &Arc<Path>) -> Arc<Bulkhead> {
        let mut by_place = lock(&self.by_place);
        if let Some(known) = by_place.get(root).and_then(|mounts| mounts.get(mount)) {
            return Arc::clone(known);
        }
        let new = Arc::new(Bulkhead::new(root, mount, Arc::clone(&self.used)));
        by_place.entry(root.into()).or_default().insert(Arc::clone(mount), Arc::clone(&new));
        new
    }
}

/// A limit on the blocking work for one root and mount point.
#[derive(Debug)]
pub struct Bulkhead {
    name: String,
    /// Permits in use of all bulkheads; [`used`](Self::used) changes under its lock.
    all_used: Arc<Mutex<usize>>,
    used: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
    /// Time at which a permit was last taken or returned.
    changed: Mutex<Instant>,
    last_logged: Mutex<Option<Instant>>,
}

/// There is no permit: the file system does not return from earlier calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file system does not respond")]
pub struct BulkheadFull;

/// Guard for blocking one thread; returned on drop.
#[derive(Debug)]
pub struct BulkheadPermit(Arc<Bulkhead>);

impl BulkheadPermit {
    /// Bulkhead of the permit.
    pub fn bulkhead(&self) -> &Arc<Bulkhead> {
        &self.0
    }
}

impl Drop for BulkheadPermit {
    fn drop(&mut self) {
        {
            let mut all_used = lock(&self.0.all_used);
            *all_used -= 1;
            self.0.used.fetch_sub(1, Ordering::Relaxed);
        }
        *lock(&self.0.changed) = Instant::now();
        self.0.freed.notify_one();
    }
}

/// Counts a waiting request while it exists.
struct WaitingPermit<'a>(&'a AtomicUsize);

impl<'a> WaitingPermit<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitingPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bulkhead {
    fn new(root: &Path, mount: &Path, all_used: Arc<Mutex<usize>>) -> Self {
        let name = match mount.starts_with(root) {
            true => mount.display().to_string(),
            false => root.display().to_string(),
        };
        let (used, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (changed, last_logged) = (Mutex::new(Instant::now()), Mutex::default());
        Self { name, all_used, used, waiting, freed: Notify::new(), changed, last_logged }
    }

    /// Bulkhead for a path beneath `root`. Does not access the file system of the path.
    pub fn of(root: &Path, path: &Path) -> Arc<Self> {
        ALL.of(root, &mounts::mount_point(path))
    }

    /// Requests without a permit since the start.
    pub fn refused() -> u64 {
        REFUSED.load(Ordering::Relaxed)
    }

    /// Takes a permit if one is free.
    pub fn try_enter(self: &Arc<Self>) -> Option<BulkheadPermit> {
        {
            let mut all_used = lock(&self.all_used);
            let used = self.used.load(Ordering::Relaxed);
            let most = TOTAL.saturating_sub(*all_used) / SHARE;
            // One permit is always among those that are left.
            if used >= most.max(usize::from(*all_used < TOTAL)) {
                return None;
            }
            *all_used += 1;
            self.used.store(used + 1, Ordering::Relaxed);
        }
        *lock(&self.changed) = Instant::now();
        Some(BulkheadPermit(Arc::clone(self)))
    }

    /// Waits for a permit for a short time, or not at all if the file system seems to hang.
    ///
    /// # Errors
    ///
    /// See [`BulkheadFull`].
    pub async fn enter(self: &Arc<Self>) -> Result<BulkheadPermit, BulkheadFull> {
        if let Some(permit) = self.try_enter() {
            return Ok(permit);
        }
        if self.is_stuck() {
            return Err(self.refuse());
        }
        timeout(PATIENCE, self.wait()).await.map_err(|_| self.refuse())
    }

    /// Waits for a permit in a thread that may block.
    ///
    /// # Errors
    ///
    /// See [`BulkheadFull`].
    pub fn enter_blocking(self: &Arc<Self>) -> Result<BulkheadPermit, BulkheadFull> {
        const TURN: Duration = Duration::from_millis(5);
        let start = Instant::now();
        loop {
            if let Some(permit) = self.try_enter() {
                return Ok(permit);
            }
            if self.is_stuck() || start.elapsed() > PATIENCE {
                return Err(self.refuse());
            }
            thread::park_timeout(TURN);
        }
    }

    /// Waits for a permit without a limit.
    pub async fn wait(self: &Arc<Self>) -> BulkheadPermit {
        let _waiting = WaitingPermit::new(&self.waiting);
        loop {
            let freed = self.freed.notified();
            if let Some(permit) = self.try_enter() {
                return permit;
            }
            let _ = timeout(RECHECK, freed).await;
        }
    }

    /// Whether many permits are in use or waited for, so that the next request may have to wait.
    pub fn is_under_pressure(&self) -> bool {
        let demand = self.used.load(Ordering::Relaxed) + self.waiting.load(Ordering::Relaxed);
        demand > 0 && demand >= TOTAL.saturating_sub(*lock(&self.all_used)) / SHARE / 2
    }

    /// Whether no permit has been returned for a while.
    fn is_stuck(&self) -> bool {
        lock(&self.changed).elapsed() > PATIENCE
    }

    fn refuse(&self) -> BulkheadFull {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        let mut last_logged = lock(&self.last_logged);
        if last_logged.is_none_or(|last_logged| last_logged.elapsed() > LOG_EVERY) {
            *last_logged = Some(Instant::now());
            let (place, in_progress) = (&self.name, self.used.load(Ordering::Relaxed));
            tracing::error!(
                place,
                in_progress,
                "the file system does not respond; requests for its files get 503 until it does"
            );
        }
        BulkheadFull
    }
}

/// Locks a mutex whose data is consistent after every step, also after a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(all: &Bulkheads, root: &str, mount: &str) -> Arc<Bulkhead> {
        all.of(Path::new(root), &Path::new(mount).into())
    }

    fn fill(bulkhead: &Arc<Bulkhead>) -> Vec<BulkheadPermit> {
        std::iter::from_fn(|| bulkhead.try_enter()).collect()
    }

    #[test]
    fn twenty_that_hang_leave_permits_to_others() {
        let all = Bulkheads::default();
        let mut held = Vec::new();
        for number in 0..20 {
            let permits = fill(&place(&all, &format!("/{number}"), "/"));
            assert!(!permits.is_empty(), "{number}");
            if number == 0 {
                assert_eq!(permits.len(), TOTAL / (SHARE + 1), "one alone");
            }
            held.push(permits);
        }
        assert!(held.iter().map(Vec::len).sum::<usize>() <= TOTAL);
        drop(held);
        assert_eq!(*lock(&all.used), 0);
        assert_eq!(fill(&place(&all, "/0", "/")).len(), TOTAL / (SHARE + 1));
    }

    #[test]
    fn one_root_on_two_file_systems_has_two() {
        let all = Bulkheads::default();
        let (dead, well) = (place(&all, "/data", "/data/1"), place(&all, "/data", "/data/2"));
        let _held = fill(&dead);
        assert!(well.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_refused_after_a_while_and_then_at_once() {
        let all = Bulkheads::default();
        let bulkhead = place(&all, "/", "/");
        let held = fill(&bulkhead);
        let start = Instant::now();
        assert_eq!(bulkhead.enter().await.unwrap_err(), BulkheadFull);
        assert_eq!(start.elapsed(), PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let start = Instant::now();
        assert_eq!(bulkhead.enter().await.unwrap_err(), BulkheadFull);
        assert_eq!(start.elapsed(), Duration::ZERO, "nothing returns");
        assert!(bulkhead.is_under_pressure());
        drop(held);
        assert!(bulkhead.enter().await.is_ok());
        assert!(!bulkhead.is_under_pressure());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_is_returned() {
        let all = Bulkheads::default();
        let bulkhead = place(&all, "/", "/");
        let mut held = fill(&bulkhead);
        let waiting = tokio::spawn({
            let bulkhead = Arc::clone(&bulkhead);
            async move { bulkhead.enter().await.map(drop) }
        });
        tokio::time::sleep(PATIENCE / 2).await;
        held.pop();
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }
}

//! Looks at a file on which requests depend: one a second at most, one at a time, and none is waited for long.

use std::{
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

/// Times of the looks at a file.
#[derive(Debug, Default)]
pub(crate) struct FileLook {
    /// Time of the last look that was begun. Locked during a look, for as long as requests wait for it.
    begun: Mutex<Option<Instant>>,
    /// Whether a look has not returned yet; its file system may hang.
    is_running: AtomicBool,
}

impl FileLook {
    /// Looks at the file by `look`, which may block, unless that was done within the last second.
    pub(crate) async fn refresh(self: &Arc<Self>, look: impl FnOnce() + Send + 'static) {
        let _ = timeout(PATIENCE, self.run(look)).await;
    }

    async fn run(self: &Arc<Self>, look: impl FnOnce() + Send + 'static) {
        let mut begun = self.begun.lock().await;
        let is_fresh = begun.is_some_and(|begun| begun.elapsed() < FRESH);
        if is_fresh || self.is_running.swap(true, Ordering::Relaxed) {
            return;
        }
        *begun = Some(Instant::now());
        let own = Arc::clone(self);
        let running = spawn_blocking(move || {
            look();
            own.is_running.store(false, Ordering::Relaxed);
        });
        // Fails only when the process ends.
        let _ = running.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_gets_one_look_and_delays_nobody_for_long() {
        let look = Arc::new(FileLook::default());
        let (release, hang) = channel::<()>();
        let is_begun = Arc::new(AtomicBool::new(false));
        // The clock stands while something blocks.
        tokio::join!(look.refresh(move || _ = hang.recv()), advance(PATIENCE));
        for _ in 0..3 {
            advance(FRESH).await;
            let is_begun = Arc::clone(&is_begun);
            look.refresh(move || is_begun.store(true, Ordering::Relaxed)).await;
        }
        assert!(!is_begun.load(Ordering::Relaxed), "another one would hang too");
        release.send(()).unwrap();
    }
}

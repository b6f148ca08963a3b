//! Rate limit for log messages that clients or traffic can cause, so that they do not fill the log.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Period of the limit.
const EVERY: Duration = Duration::from_secs(60);

/// Limits the messages of one kind: at most `burst` per minute are logged, and the next one after that has the number
/// of those that were suppressed.
#[derive(Debug)]
pub(crate) struct Rarely {
    burst: u32,
    window: Mutex<RarelyWindow>,
}

#[derive(Debug)]
struct RarelyWindow {
    since: Option<Instant>,
    count: u32,
    suppressed: u64,
}

impl Rarely {
    pub(crate) const fn new(burst: u32) -> Self {
        Self { burst, window: Mutex::new(RarelyWindow { since: None, count: 0, suppressed: 0 }) }
    }

    /// Counts a message. `Some` when it should be logged, with the number of messages suppressed since the last one.
    pub(crate) fn tell(&self) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.is_none_or(|since| since.elapsed() >= EVERY) {
            (window.since, window.count) = (Some(Instant::now()), 0);
        }
        if window.count == self.burst {
            window.suppressed += 1;
            return None;
        }
        window.count += 1;
        Some(mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_a_minute_are_told_and_the_rest_counted() {
        let rarely = Rarely::new(2);
        let tell = async |passed: u64| {
            tokio::time::advance(Duration::from_secs(passed)).await;
            rarely.tell()
        };
        assert_eq!(
            [tell(0).await, tell(0).await, tell(0).await, tell(59).await],
            [Some(0), Some(0), None, None]
        );
        assert_eq!([tell(1).await, tell(0).await, tell(0).await], [Some(2), Some(0), None]);
    }
}

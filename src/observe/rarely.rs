//! Messages that clients or traffic can cause, so that they do not fill the log.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long nothing more is logged once it was much.
const EVERY: Duration = Duration::from_secs(60);

/// Limits the messages of one kind: at most `burst` a minute are logged, and the next one after it tells how many were
/// left out.
#[derive(Debug)]
pub(crate) struct Rarely {
    burst: u32,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    since: Option<Instant>,
    count: u32,
    left_out: u64,
}

impl Rarely {
    pub(crate) const fn new(burst: u32) -> Self {
        Self { burst, told: Mutex::new(Told { since: None, count: 0, left_out: 0 }) }
    }

    /// Whether a message is to be logged, and how many have been left out since the last one.
    pub(crate) fn tell(&self) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.since.is_none_or(|since| since.elapsed() >= EVERY) {
            (told.since, told.count) = (Some(Instant::now()), 0);
        }
        if told.count == self.burst {
            told.left_out += 1;
            return None;
        }
        told.count += 1;
        Some(mem::take(&mut told.left_out))
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

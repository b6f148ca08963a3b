//! Cached time, read once each time a task wakes.
//!
//! Between two waits a request runs for microseconds and needs the time a dozen times; each reading would cost as
//! much as finding its route. nginx reads the time once per turn of its event loop.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

/// Cached time of a thread.
#[derive(Clone, Copy)]
enum Reading {
    /// Not cached: the current task was not started by [`keep`], or there is none.
    Uncached,
    /// Not read since the task woke.
    Unread,
    /// Time read since the task woke.
    At(Instant),
}

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading::Uncached) };
}

/// Time at which the task woke, or a little later.
pub(crate) fn now() -> Instant {
    match READING.get() {
        Reading::At(time) => time,
        Reading::Unread => read(),
        Reading::Uncached => Instant::now(),
    }
}

/// Reads the time, and caches it for this task.
pub(crate) fn read() -> Instant {
    let time = Instant::now();
    if !matches!(READING.get(), Reading::Uncached) {
        READING.set(Reading::At(time));
    }
    time
}

/// Interval at which a thread reads the calendar again, which notices when the clock is set.
const CALENDAR_VALID_FOR: Duration = Duration::from_secs(1);

/// Calendar time for [`now`].
pub(crate) fn calendar() -> SystemTime {
    thread_local! {
        static CALENDAR: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    }
    let now = now();
    if let Some((since, time)) = CALENDAR.get() {
        let passed = now.saturating_duration_since(since);
        if passed < CALENDAR_VALID_FOR {
            return time + passed;
        }
    }
    let time = SystemTime::now();
    CALENDAR.set(Some((read(), time)));
    time
}

pin_project! {
    /// See [`keep`].
    pub(crate) struct WithCachedTime<F> {
        #[pin]
        task: F,
    }
}

/// Caches the time for a task: until the task waits, [`now`] returns the first reading.
pub(crate) fn keep<F: Future>(task: F) -> WithCachedTime<F> {
    WithCachedTime { task }
}

impl<F: Future> Future for WithCachedTime<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        /// Clears the cache on drop, also after a panic.
        struct Awake;

        impl Drop for Awake {
            fn drop(&mut self) {
                READING.set(Reading::Uncached);
            }
        }

        READING.set(Reading::Unread);
        let _awake = Awake;
        self.project().task.poll(cx)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "time is to pass without a wait")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_reads_the_time_once_until_it_waits() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        keep(async {
            assert_eq!(now(), start);
            tokio::time::advance(second).await;
            assert_eq!(now(), start + second, "it has waited");
            assert_eq!(read(), start + second);
        })
        .await;
        let later = keep(async {
            let first = now();
            std::thread::sleep(Duration::from_millis(1));
            (first, now())
        });
        let (first, second) = later.await;
        assert_eq!(first, second);
    }

    #[test]
    fn nobody_keeps_the_time_outside_of_a_task() {
        let first = now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(now() > first);
    }

    #[test]
    fn the_calendar_is_that_of_the_system() {
        for _ in 0..3 {
            let slack = Duration::from_secs(1);
            let (before, told, after) = (SystemTime::now(), calendar(), SystemTime::now());
            assert!(before < told + slack && told < after + slack, "{told:?} from {before:?} to {after:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

//! The time, read once each time that a task wakes.
//!
//! What a request does between two waits takes microseconds and asks a dozen times for the time, each of which would cost
//! as much as finding its route. nginx reads it once in each turn of its event loop.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

/// What a thread knows of the time.
#[derive(Clone, Copy)]
enum Reading {
    /// Nobody keeps it: the task that runs was not begun by [`keep`], or there is none.
    Unkept,
    /// The task has not asked for it since it woke.
    Due,
    /// It has, and that was it.
    At(Instant),
}

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading::Unkept) };
}

/// The time when this task woke, or a little later.
pub(crate) fn now() -> Instant {
    match READING.get() {
        Reading::At(time) => time,
        Reading::Due => read(),
        Reading::Unkept => Instant::now(),
    }
}

/// The time as it is, which is this task's from now on.
pub(crate) fn read() -> Instant {
    let time = Instant::now();
    if !matches!(READING.get(), Reading::Unkept) {
        READING.set(Reading::At(time));
    }
    time
}

/// How long a thread goes by what it knows of the calendar: who sets it is noticed by then.
const AGREES: Duration = Duration::from_secs(1);

/// The time of the calendar for [`now`].
pub(crate) fn calendar() -> SystemTime {
    thread_local! {
        static AGREED: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    }
    let now = now();
    if let Some((since, time)) = AGREED.get() {
        let passed = now.saturating_duration_since(since);
        if passed < AGREES {
            return time + passed;
        }
    }
    let time = SystemTime::now();
    AGREED.set(Some((read(), time)));
    time
}

pin_project! {
    /// See [`keep`].
    pub(crate) struct WithCachedTime<F> {
        #[pin]
        task: F,
    }
}

/// Has a task keep the time: for as long as it does not wait, [`now`] gives it what it read first.
pub(crate) fn keep<F: Future>(task: F) -> WithCachedTime<F> {
    WithCachedTime { task }
}

impl<F: Future> Future for WithCachedTime<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        /// Whatever ends it, a panic too.
        struct Awake;

        impl Drop for Awake {
            fn drop(&mut self) {
                READING.set(Reading::Unkept);
            }
        }

        READING.set(Reading::Due);
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

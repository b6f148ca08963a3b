//! Idle timeout: a deadline that every request moves, and that is hardly ever reached.

use std::{
    future::Future as _,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// Timer with a movable deadline. Moving the deadline to a later time costs nothing: the timer fires at the old one,
/// and is then set again.
#[derive(Debug, Default)]
pub(crate) struct IdleTimeout(Option<RunningTimer>);

/// A running timer.
#[derive(Debug)]
struct RunningTimer {
    sleep: Pin<Box<Sleep>>,
    /// Task to wake.
    task: Waker,
}

impl IdleTimeout {
    /// Completes at `deadline`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if let Some(RunningTimer { sleep, task }) = &self.0
            && sleep.deadline() <= deadline
            && !sleep.is_elapsed()
            && task.will_wake(cx.waker())
        {
            // Same task, same or later deadline: nothing to do.
            return Poll::Pending;
        }
        let RunningTimer { sleep, task } = self.0.get_or_insert_with(|| RunningTimer {
            sleep: Box::pin(sleep_until(deadline)),
            task: cx.waker().clone(),
        });
        task.clone_from(cx.waker());
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            // Unconstrained: an exhausted task budget must not keep the task from being woken.
            ready!(pin!(unconstrained(sleep.as_mut())).poll(cx));
            if sleep.deadline() >= deadline || Instant::now() >= deadline {
                // The next deadline is a later one.
                self.0 = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_done_enough_is_woken_all_the_same() {
        while has_budget_remaining() {
            consume_budget().await;
        }
        let (mut alarm, start) = (IdleTimeout::default(), Instant::now());
        poll_fn(|cx| alarm.poll(cx, start + Duration::from_secs(5))).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_moved_is_kept() {
        let (mut alarm, start) = (IdleTimeout::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for deadline in [10, 20, 15] {
            let pending = poll_fn(|cx| Poll::Ready(alarm.poll(cx, at(deadline)).is_pending())).await;
            assert!(pending);
        }
        poll_fn(|cx| alarm.poll(cx, at(17))).await;
        assert_eq!(start.elapsed().as_secs(), 17);
        poll_fn(|cx| alarm.poll(cx, at(18))).await;
        assert_eq!(start.elapsed().as_secs(), 18);
    }
}

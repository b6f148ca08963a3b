//! Rate limit of a response (`limit_rate`).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Interval that determines the bytes sent at a time, so that the stream is even.
const INTERVAL: Duration = Duration::from_millis(100);

/// Fewest bytes sent at a time.
const LEAST: u64 = 4096;

/// A rate shared equally by several responses.
#[derive(Debug)]
pub(crate) struct SharedRate {
    /// Bytes per second in total.
    rate: u64,
    active: AtomicU64,
}

impl SharedRate {
    pub(crate) fn new(rate: u64) -> Arc<Self> {
        Arc::new(Self { rate, active: AtomicU64::new(0) })
    }
}

/// Rate limits of one response.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes per second; `None` when only the shared rate applies.
    rate: Option<u64>,
    shared: Option<Arc<SharedRate>>,
    /// Whether the response has something to send, and counts for the shared rate.
    is_active: bool,
    /// Bytes that may be sent before the rate applies.
    free: u64,
    /// Bytes sent ahead of the rate.
    debt: f64,
    /// Time up to which the rate has been accounted for.
    paid_until: Instant,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Creates a limit; `None` when nothing is limited.
    pub(crate) fn new(rate: Option<u64>, free: u64, shared: Option<Arc<SharedRate>>) -> Option<Self> {
        if rate.is_none() && shared.is_none() {
            return None;
        }
        let (debt, paid_until) = (0.0, Instant::now());
        Some(Self { rate, shared, is_active: false, free, debt, paid_until, waiting: None })
    }

    /// Current rate in bytes per second.
    fn rate(&self) -> f64 {
        let own = self.rate.unwrap_or(u64::MAX);
        let part = self
            .shared
            .as_ref()
            .map_or(u64::MAX, |shared| shared.rate / shared.active.load(Ordering::Relaxed).max(1));
        own.min(part).max(1) as f64
    }

    /// Waits until bytes may be sent, and returns their number.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        if let Some(shared) = self.shared.as_ref().filter(|_| !self.is_active) {
            shared.active.fetch_add(1, Ordering::Relaxed);
            self.is_active = true;
        }
        if self.free > 0 {
            return Poll::Ready(self.free.max(LEAST));
        }
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            let (now, rate) = (Instant::now(), self.rate());
            let elapsed = now.saturating_duration_since(self.paid_until).as_secs_f64();
            self.debt = (self.debt - rate * elapsed).max(0.0);
            self.paid_until = now;
            if self.debt == 0.0 {
                return Poll::Ready((rate * INTERVAL.as_secs_f64()) as u64).map(|due: u64| due.max(LEAST));
            }
            // The shared rate may rise meanwhile, so waits are short.
            let wait = Duration::from_secs_f64((self.debt / rate).min(1.0));
            self.waiting = Some(Box::pin(sleep_until(now + wait)));
        }
    }

    /// Records bytes that were sent.
    pub(crate) fn sent(&mut self, bytes: u64) {
        let free = self.free.min(bytes);
        self.free -= free;
        if free < bytes && self.debt == 0.0 {
            // Time that has passed without a debt does not count.
            self.paid_until = Instant::now();
        }
        self.debt += (bytes - free) as f64;
    }

    /// Records that there is nothing to send at the moment: an idle event stream takes no share of the rate.
    pub(crate) fn rest(&mut self) {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.is_active) {
            shared.active.fetch_sub(1, Ordering::Relaxed);
            self.is_active = false;
        }
    }

    /// Whether the response waits for the rate limit, and not for the client.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Duration of sending `bytes` to a client that takes all at once.
    async fn takes(pace: &mut Pace, bytes: u64) -> f64 {
        let start = Instant::now();
        let mut left = bytes;
        while left > 0 {
            let sent = left.min(poll_fn(|cx| pace.poll(cx)).await);
            pace.sent(sent);
            left -= sent;
        }
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_after_the_free_ones() {
        let mut pace = Pace::new(Some(1_000_000), 500_000, None).unwrap();
        assert!(takes(&mut pace, 500_000).await < 0.01);
        let seconds = takes(&mut pace, 5_000_000).await;
        assert!((4.8..5.2).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_rate_is_shared_alike() {
        let shared = SharedRate::new(1_000_000);
        let mut paces = [(); 4].map(|()| Pace::new(None, 0, Some(Arc::clone(&shared))).unwrap());
        let [a, b, c, d] = &mut paces;
        let took = tokio::join!(takes(a, 500_000), takes(b, 500_000), takes(c, 500_000), takes(d, 500_000));
        for seconds in [took.0, took.1, took.2, took.3] {
            assert!((1.8..2.2).contains(&seconds), "{seconds}");
        }
        drop(paces);
        let _idle = Pace::new(None, 0, Some(Arc::clone(&shared))).unwrap();
        let mut alone = Pace::new(Some(800_000), 0, Some(shared)).unwrap();
        let seconds = takes(&mut alone, 1_600_000).await;
        assert!((1.8..2.2).contains(&seconds), "the smaller of both: {seconds}");
    }

    #[test]
    fn without_a_limit_there_is_no_pace() {
        assert!(Pace::new(None, 5, None).is_none());
    }
}

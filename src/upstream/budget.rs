//! Retry budget: retries are limited to a share of all requests, so that a failing upstream does not receive several
//! times its load.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{Tally, Window};

/// Length of a counting interval. The budget covers the last one to two of them.
const SPAN: Duration = Duration::from_secs(5);

/// Retries always allowed within two intervals: with few requests, a share of them is close to zero.
const FREE: u64 = 100;

/// Requests in the window, and retries among them.
#[derive(Debug)]
pub(super) struct Budget(Window);

impl Default for Budget {
    fn default() -> Self {
        Self(Window::new(SPAN))
    }
}

impl Budget {
    /// Counts a request.
    pub(super) fn request(&mut self, now: Instant) {
        self.0.add(now, 1, 0);
    }

    /// Whether one more retry is allowed, at most `percent` of all requests.
    pub(super) fn has_left(&mut self, now: Instant, percent: u32) -> bool {
        let Tally { all: requests, marked: retries } = self.0.tally(now);
        percent > 0 && retries < FREE.max(requests * u64::from(percent) / 100)
    }

    /// Counts a retry.
    pub(super) fn spend(&mut self, now: Instant) {
        self.0.add(now, 0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Retries out of `requests` that arrive one per millisecond and all fail.
    fn retries(requests: u64, percent: u32) -> u64 {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let mut retries = 0;
        for number in 0..requests {
            let now = start + Duration::from_millis(number);
            budget.request(now);
            if budget.has_left(now, percent) {
                budget.spend(now);
                retries += 1;
            }
        }
        retries
    }

    #[test]
    fn a_share_of_many_and_all_of_few() {
        assert_eq!(retries(80, 20), 80);
        assert_eq!(retries(80, 0), 0);
        let many = retries(30_000, 20);
        assert!((5_900..6_300).contains(&many), "{many}");
    }

    #[test]
    fn what_is_long_past_counts_no_more() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        (0..FREE).for_each(|_| budget.spend(start));
        assert!(!budget.has_left(start, 20));
        assert!(!budget.has_left(start + SPAN, 20));
        assert!(budget.has_left(start + 2 * SPAN, 20));
    }
}

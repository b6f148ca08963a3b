//! Rate limit: the generic cell rate algorithm, with one number per client.
//!
//! The number is the time at which all requests of the client so far would be due at the rate alone. It may lie ahead
//! of now by the duration of the burst.

/// A rate with a burst. Times are nanoseconds of a clock with any start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// Time between two requests.
    interval: u64,
    /// Most time that `due` may lie ahead of now.
    tolerance: u64,
}

impl RateLimit {
    /// Creates a limit of one request per `interval`, and `burst` more at once.
    pub(crate) fn new(interval: u64, burst: u32) -> Self {
        Self { interval, tolerance: interval.saturating_mul(burst.into()) }
    }

    /// Admits a request of a client whose next one is due at `due`, or returns the time that it has to wait.
    pub(crate) fn admit(self, due: &mut u64, now: u64) -> Result<(), u64> {
        // A time further ahead comes from the settings before a reload.
        let most = now.saturating_add(self.tolerance).saturating_add(self.interval);
        *due = (*due).clamp(now, most);
        let ahead = *due - now;
        if ahead > self.tolerance {
            return Err(ahead - self.tolerance);
        }
        *due = due.saturating_add(self.interval);
        Ok(())
    }

    /// Undoes the last admission.
    pub(crate) fn undo(self, due: &mut u64) {
        *due = due.saturating_sub(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let rate = RateLimit::new(SECOND, 3);
        let mut due = 0;
        assert!((0..4).all(|_| rate.admit(&mut due, 100 * SECOND).is_ok()));
        assert_eq!(rate.admit(&mut due, 100 * SECOND), Err(SECOND));
        assert_eq!(rate.admit(&mut due, 100 * SECOND + SECOND / 2), Err(SECOND / 2));
        assert_eq!(rate.admit(&mut due, 101 * SECOND), Ok(()));
        assert_eq!(rate.admit(&mut due, 101 * SECOND), Err(SECOND));
        // After a long pause a client has no more than the burst.
        assert_eq!((0..100).filter(|_| rate.admit(&mut due, 500 * SECOND).is_ok()).count(), 4);
    }

    #[test]
    fn who_was_far_ahead_under_other_settings_waits_no_longer_than_under_these() {
        let (slow, fast) = (RateLimit::new(60 * SECOND, 50), RateLimit::new(SECOND / 8, 0));
        let mut due = 0;
        while slow.admit(&mut due, SECOND).is_ok() {}
        assert_eq!(fast.admit(&mut due, SECOND), Err(SECOND / 8));
        assert_eq!(fast.admit(&mut due, SECOND + SECOND / 16), Err(SECOND / 16));
        assert_eq!(fast.admit(&mut due, SECOND + SECOND / 8), Ok(()));
    }

    fn any_rate() -> impl Strategy<Value = RateLimit> {
        (1..2 * SECOND, 0..20_u32).prop_map(|(interval, burst)| RateLimit::new(interval, burst))
    }

    proptest! {
        #[test]
        fn in_no_time_more_pass_than_the_rate_and_the_burst(
            rate in any_rate(),
            pauses in prop::collection::vec(0..SECOND, 1..200),
        ) {
            let (mut now, mut due, mut passed) = (1, 0, Vec::new());
            for pause in pauses {
                now += pause;
                match rate.admit(&mut due, now) {
                    Ok(()) => passed.push(now),
                    Err(wait) => {
                        // The returned time is exact.
                        let (mut then, mut before) = (due, due);
                        prop_assert!(wait > 0 && rate.admit(&mut then, now + wait).is_ok());
                        prop_assert!(rate.admit(&mut before, now + wait - 1).is_err());
                    }
                }
            }
            let burst = rate.tolerance / rate.interval;
            for (first, start) in passed.iter().enumerate() {
                for (count, end) in passed[first..].iter().enumerate() {
                    prop_assert!(count as u64 <= burst + (end - start) / rate.interval + 1);
                }
            }
        }

        #[test]
        fn who_keeps_to_the_rate_always_passes(
            rate in any_rate(),
            pauses in prop::collection::vec(0..SECOND, 1..100),
        ) {
            let (mut now, mut due) = (1, 0);
            for pause in pauses {
                now += rate.interval + pause;
                prop_assert!(rate.admit(&mut due, now).is_ok());
            }
        }

        #[test]
        fn what_is_taken_back_leaves_as_much_as_before(
            rate in any_rate(),
            due in 0..9 * SECOND,
            now in 0..9 * SECOND,
        ) {
            let mut once = due;
            if rate.admit(&mut once, now).is_ok() {
                let mut again = once;
                rate.undo(&mut again);
                prop_assert!(rate.admit(&mut again, now).is_ok());
                prop_assert_eq!(again, once);
            }
        }
    }
}

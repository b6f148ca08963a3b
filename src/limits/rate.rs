//! How often something may happen: the generic cell rate algorithm, which needs one number for each client.
//!
//! The number is when all that a client has asked for would be served at the rate alone. It may lie ahead of now by as
//! much as the burst takes.

/// A rate with a burst. Times are nanoseconds of a clock that starts anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// Between two requests.
    interval: u64,
    /// How far ahead of now a client may be.
    tolerance: u64,
}

impl RateLimit {
    /// One request each `interval`, and `burst` more at once.
    pub(crate) fn new(interval: u64, burst: u32) -> Self {
        Self { interval, tolerance: interval.saturating_mul(burst.into()) }
    }

    /// Lets a client pass that is due at `due` and asks now, or tells how long it has to wait.
    pub(crate) fn ask(self, due: &mut u64, now: u64) -> Result<(), u64> {
        // Further ahead it was under other settings, in whose place a reload has put these.
        let most = now.saturating_add(self.tolerance).saturating_add(self.interval);
        *due = (*due).clamp(now, most);
        let ahead = *due - now;
        if ahead > self.tolerance {
            return Err(ahead - self.tolerance);
        }
        *due = due.saturating_add(self.interval);
        Ok(())
    }

    /// What a client has just asked for is as if it had not.
    pub(crate) fn take_back(self, due: &mut u64) {
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
        assert!((0..4).all(|_| rate.ask(&mut due, 100 * SECOND).is_ok()));
        assert_eq!(rate.ask(&mut due, 100 * SECOND), Err(SECOND));
        assert_eq!(rate.ask(&mut due, 100 * SECOND + SECOND / 2), Err(SECOND / 2));
        assert_eq!(rate.ask(&mut due, 101 * SECOND), Ok(()));
        assert_eq!(rate.ask(&mut due, 101 * SECOND), Err(SECOND));
        // Who is quiet for long has no more than the burst.
        assert_eq!((0..100).filter(|_| rate.ask(&mut due, 500 * SECOND).is_ok()).count(), 4);
    }

    #[test]
    fn who_was_far_ahead_under_other_settings_waits_no_longer_than_under_these() {
        let (slow, fast) = (RateLimit::new(60 * SECOND, 50), RateLimit::new(SECOND / 8, 0));
        let mut due = 0;
        while slow.ask(&mut due, SECOND).is_ok() {}
        assert_eq!(fast.ask(&mut due, SECOND), Err(SECOND / 8));
        assert_eq!(fast.ask(&mut due, SECOND + SECOND / 16), Err(SECOND / 16));
        assert_eq!(fast.ask(&mut due, SECOND + SECOND / 8), Ok(()));
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
                match rate.ask(&mut due, now) {
                    Ok(()) => passed.push(now),
                    Err(wait) => {
                        // What it is told is exact.
                        let (mut then, mut before) = (due, due);
                        prop_assert!(wait > 0 && rate.ask(&mut then, now + wait).is_ok());
                        prop_assert!(rate.ask(&mut before, now + wait - 1).is_err());
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
                prop_assert!(rate.ask(&mut due, now).is_ok());
            }
        }

        #[test]
        fn what_is_taken_back_leaves_as_much_as_before(
            rate in any_rate(),
            due in 0..9 * SECOND,
            now in 0..9 * SECOND,
        ) {
            let mut once = due;
            if rate.ask(&mut once, now).is_ok() {
                let mut again = once;
                rate.take_back(&mut again);
                prop_assert!(rate.ask(&mut again, now).is_ok());
                prop_assert_eq!(again, once);
            }
        }
    }
}

//! How often something may happen: the generic cell rate algorithm, which needs one number for each client.
//!
//! The number is when all that a client has asked for would be served at the rate alone. It may lie ahead of now by as
//! much as the burst takes.

/// A rate with a burst. Times are nanoseconds of a clock that starts anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Between two requests.
    interval: u64,
    /// How far ahead of now a client may be.
    tolerance: u64,
}

impl Rate {
    /// One request each `interval`, and `burst` more at once.
    pub(crate) fn new(interval: u64, burst: u32) -> Self {
        Self { interval, tolerance: interval.saturating_mul(burst.into()) }
    }

    /// When a client that was due at `due` is due if it asks now; or how long it has to wait.
    pub(crate) fn ask(self, due: u64, now: u64) -> Result<u64, u64> {
        // Further ahead it was under other settings, of which a reload has made these.
        let most = now.saturating_add(self.tolerance).saturating_add(self.interval);
        let due = due.clamp(now, most);
        let ahead = due - now;
        if ahead > self.tolerance {
            Err(ahead - self.tolerance)
        } else {
            Ok(due.saturating_add(self.interval))
        }
    }

    /// When it is due if what it has just asked for is taken back.
    pub(crate) fn take_back(self, due: u64) -> u64 {
        due.saturating_sub(self.interval)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let rate = Rate::new(SECOND, 3);
        let mut due = 0;
        for _ in 0..4 {
            due = rate.ask(due, 100 * SECOND).unwrap();
        }
        assert_eq!(rate.ask(due, 100 * SECOND), Err(SECOND));
        assert_eq!(rate.ask(due, 100 * SECOND + SECOND / 2), Err(SECOND / 2));
        due = rate.ask(due, 101 * SECOND).unwrap();
        assert_eq!(rate.ask(due, 101 * SECOND), Err(SECOND));
        // Who is quiet for long has no more than the burst.
        due = 0;
        let passed = (0..100).filter(|_| rate.ask(due, 500 * SECOND).map(|next| due = next).is_ok()).count();
        assert_eq!(passed, 4);
    }

    #[test]
    fn who_was_far_ahead_under_other_settings_waits_no_longer_than_under_these() {
        let slow = Rate::new(60 * SECOND, 50);
        let mut due = 0;
        while let Ok(next) = slow.ask(due, SECOND) {
            due = next;
        }
        assert_eq!(Rate::new(SECOND / 8, 0).ask(due, SECOND), Err(SECOND / 8));
    }

    fn any_rate() -> impl Strategy<Value = Rate> {
        (1..2 * SECOND, 0..20_u32).prop_map(|(interval, burst)| Rate::new(interval, burst))
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
                match rate.ask(due, now) {
                    Ok(next) => {
                        passed.push(now);
                        due = next;
                    }
                    Err(wait) => {
                        // What it is told is exact.
                        prop_assert!(wait > 0 && rate.ask(due, now + wait).is_ok());
                        prop_assert!(rate.ask(due, now + wait - 1).is_err());
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
                due = rate.ask(due, now).unwrap();
            }
        }

        #[test]
        fn what_is_taken_back_leaves_as_much_as_before(rate in any_rate(), due in 0..9 * SECOND, now in 0..9 * SECOND) {
            if let Ok(next) = rate.ask(due, now) {
                prop_assert_eq!(rate.ask(rate.take_back(next), now), Ok(next));
            }
        }
    }
}

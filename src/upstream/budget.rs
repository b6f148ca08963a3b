//! How many requests may be sent again: a share of all, so that a sick upstream is not given its load several times.

use std::time::Duration;

use tokio::time::Instant;

/// What is counted: the last one to two of these.
const SPAN: Duration = Duration::from_secs(5);

/// So many retries within two spans are always free: with few requests a share of them is next to nothing.
const FREE: u64 = 100;

/// Requests and retries of late.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When the present span began.
    began: Option<Instant>,
    present: Counts,
    before: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A request has come.
    pub(super) fn request(&mut self, now: Instant) {
        self.turn(now);
        self.present.requests += 1;
    }

    /// Whether one more may be sent again, at most `percent` of all.
    pub(super) fn has_left(&mut self, now: Instant, percent: u32) -> bool {
        self.turn(now);
        let requests = self.present.requests + self.before.requests;
        let retries = self.present.retries + self.before.retries;
        percent > 0 && retries < FREE.max(requests * u64::from(percent) / 100)
    }

    /// One is sent again.
    pub(super) fn spend(&mut self, now: Instant) {
        self.turn(now);
        self.present.retries += 1;
    }

    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= SPAN {
            self.before = if age < 2 * SPAN { self.present } else { Counts::default() };
            self.present = Counts::default();
            self.began = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `requests`, one each millisecond and all failing, are sent again.
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

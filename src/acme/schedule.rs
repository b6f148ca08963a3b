//! When a certificate is ordered. Pure: the time and chance are told.

use std::time::{Duration, SystemTime};

/// Why an order came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RenewalReason {
    /// The CA could not be asked.
    Unreachable,
    /// It was asked, and has said no.
    Refused,
}

/// The first pause after a CA could not be asked, and the longest.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(3600));

/// The same after it has said no: CAs allow five such orders for a name in an hour.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1800), Duration::from_secs(12 * 3600));

/// No CA is waited for longer, whatever it says: rate limits are counted by the week.
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// When a certificate is renewed that is good from `begin` to `end`: after two thirds of that, and a little later by
/// `chance` (0 to 1), so that not all of them come at once.
pub(super) fn renewal(begin: SystemTime, end: SystemTime, chance: f64) -> SystemTime {
    let lifetime = end.duration_since(begin).unwrap_or_default();
    begin + lifetime * 2 / 3 + lifetime.mul_f64(chance.clamp(0.0, 1.0) / 50.0)
}

/// The same of a certificate that has just come: whatever the clocks say, not before a third of its time is over.
pub(super) fn next_renewal(begin: SystemTime, end: SystemTime, now: SystemTime, chance: f64) -> SystemTime {
    let lifetime = end.duration_since(begin).unwrap_or_default();
    renewal(begin, end, chance).max(now + (lifetime / 3).max(Duration::from_secs(1)))
}

/// When a certificate is renewed whose CA has suggested a time from here to there (RFC 9773 §4.2), never at once after it
/// was made, nor when it has nearly ended.
pub(super) fn suggested(
    window: (SystemTime, SystemTime),
    (begin, end): (SystemTime, SystemTime),
    chance: f64,
) -> SystemTime {
    let length = window.1.duration_since(window.0).unwrap_or_default();
    let lifetime = end.duration_since(begin).unwrap_or_default();
    (window.0 + length.mul_f64(chance.clamp(0.0, 1.0)))
        .clamp(begin + lifetime / 100, begin + lifetime * 9 / 10)
}

/// How long to wait after so many failures in a row: twice as long each time, and up to a quarter more by `chance`.
pub(super) fn pause(why: RenewalReason, failures: u32, chance: f64) -> Duration {
    let (first, most) = match why {
        RenewalReason::Unreachable => UNREACHABLE,
        RenewalReason::Refused => REFUSED,
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(most).mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn renewed_after_two_thirds() {
        let begin = SystemTime::UNIX_EPOCH + DAY * 1000;
        let at = |chance| renewal(begin, begin + DAY * 90, chance).duration_since(begin).unwrap();
        assert_eq!(at(0.0), DAY * 60);
        assert!(at(1.0) > DAY * 61 && at(1.0) < DAY * 62);
        // The clock of the CA is not ours.
        let late = begin + DAY * 89;
        assert_eq!(next_renewal(begin, begin + DAY * 90, late, 0.0), late + DAY * 30);
        assert_eq!(next_renewal(begin, begin + DAY * 90, begin, 0.0), begin + DAY * 60);
    }

    #[test]
    fn the_ca_suggests_a_time() {
        let begin = SystemTime::UNIX_EPOCH + DAY * 1000;
        let good = (begin, begin + DAY * 90);
        assert_eq!(suggested((begin + DAY * 20, begin + DAY * 22), good, 0.5), begin + DAY * 21);
        assert_eq!(suggested((begin - DAY * 20, begin - DAY * 18), good, 0.5), begin + DAY * 90 / 100);
        assert_eq!(suggested((begin + DAY * 200, begin + DAY * 201), good, 0.5), begin + DAY * 81);
    }

    #[test]
    fn a_few_orders_an_hour_at_most() {
        assert_eq!(pause(RenewalReason::Refused, 1, 0.0), Duration::from_secs(1800));
        assert_eq!(pause(RenewalReason::Refused, 2, 0.0), Duration::from_secs(3600));
        assert_eq!(pause(RenewalReason::Refused, 60, 0.0), Duration::from_secs(12 * 3600));
        assert_eq!(pause(RenewalReason::Unreachable, 1, 1.0), Duration::from_millis(3750));
        assert_eq!(pause(RenewalReason::Unreachable, 60, 0.0), Duration::from_secs(3600));
    }
}

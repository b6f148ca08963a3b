//! Renewal times and pauses: pure functions, with time and randomness as parameters.

use std::time::{Duration, SystemTime};

/// Reason for a failed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RenewalReason {
    /// The CA was unreachable.
    Unreachable,
    /// The CA refused the order.
    Refused,
}

/// First and longest pause after the CA was unreachable.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(3600));

/// First and longest pause after a refusal: CAs allow five failed validations of a name per hour.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1800), Duration::from_secs(12 * 3600));

/// Longest pause, whatever the CA says: rate limits are counted per week.
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Renewal time of a certificate that is valid from `begin` to `end`: after two thirds of its lifetime, and a little
/// later by `chance` (0 to 1), so that not all certificates are due at once.
pub(super) fn renewal(begin: SystemTime, end: SystemTime, chance: f64) -> SystemTime {
    let lifetime = end.duration_since(begin).unwrap_or_default();
    begin + lifetime * 2 / 3 + lifetime.mul_f64(chance.clamp(0.0, 1.0) / 50.0)
}

/// Renewal time of a certificate that has just been issued: not before a third of its lifetime has passed, even if
/// the clocks differ.
pub(super) fn next_renewal(begin: SystemTime, end: SystemTime, now: SystemTime, chance: f64) -> SystemTime {
    let lifetime = end.duration_since(begin).unwrap_or_default();
    renewal(begin, end, chance).max(now + (lifetime / 3).max(Duration::from_secs(1)))
}

/// Renewal time within the window that the CA suggests (RFC 9773 §4.2), neither immediately after the certificate was
/// issued nor just before it expires.
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

/// Pause after consecutive failures: doubles each time, plus up to a quarter by `chance`.
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
        // The clock of the CA differs from ours.
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

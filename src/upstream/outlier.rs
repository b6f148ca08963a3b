//! Passive health check on results: a server that fails far more often than its peers gets fewer requests.
//!
//! Failing fast looks like spare capacity: a server that responds 500 within a millisecond is always the least
//! loaded. Only a comparison with its peers shows whether failures are the server's own fault. If they fail as often,
//! the cause is elsewhere (a database, a client that sends nonsense), and no server is an outlier.

use std::time::Duration;

use http::StatusCode;

use super::window::{Tally, Window};

/// Counting interval: results of the last 10 to 20 seconds count.
const SPAN: Duration = Duration::from_secs(10);

/// Fewest results of a server, and fewest failures among them, before it can be an outlier.
const LEAST: u64 = 10;
const LEAST_FAILED: u64 = 5;

/// Least difference to the peers' share of failures.
const ABOVE: f64 = 0.3;

/// Least ratio to the peers' share of failures, in addition to [`ABOVE`].
const TIMES: f64 = 2.0;

/// An outlier gets one in this many of its fair turns, which shows whether it has recovered.
pub(super) const TURNS: usize = 5;

/// Window for the results of one server.
pub(super) const fn results() -> Window {
    Window::new(SPAN)
}

/// Whether a status means that the server has failed. 501 and 505 are about the request.
pub(super) fn is_failure(status: StatusCode) -> bool {
    const ABOUT_THE_REQUEST: [StatusCode; 2] =
        [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
    status.is_server_error() && !ABOUT_THE_REQUEST.contains(&status)
}

/// Whether a server with these results is an outlier among its `peers`. If it `was` one, no new evidence is needed to
/// stay one, only results that are still bad.
pub(super) fn is_outlier(own: Tally, peers: impl Iterator<Item = Tally>, was: bool) -> bool {
    let has_evidence = own.all >= LEAST && own.marked >= LEAST_FAILED;
    let stays_one = was && own.all > 0;
    if !(has_evidence || stays_one) {
        return false;
    }
    let mut shares: Vec<_> = peers.filter(|peer| peer.all >= LEAST).map(share).collect();
    shares.sort_by(f64::total_cmp);
    // Lower quartile: several servers may be out of order, and a few good peers show that success is possible.
    let Some(peers) = shares.get(shares.len().saturating_sub(1) / 4) else { return false };
    share(own) > ABOVE + TIMES * peers
}

fn share(tally: Tally) -> f64 {
    tally.marked as f64 / tally.all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally((all, marked): (u64, u64)) -> Tally {
        Tally { all, marked }
    }

    fn blamed<const N: usize>(own: (u64, u64), peers: [(u64, u64); N]) -> bool {
        is_outlier(tally(own), peers.into_iter().map(tally), false)
    }

    #[test]
    fn a_server_that_fails_more_than_its_peers_is_blamed() {
        assert!(blamed((100, 100), [(30, 0), (30, 0), (30, 0)]));
        assert!(blamed((10, 5), [(10, 0)]));
        assert!(blamed((100, 100), [(100, 100), (30, 1), (30, 0)]), "of two bad ones each");
        assert!(blamed((100, 100), [(100, 100), (100, 100), (30, 0)]), "of three bad ones each");
    }

    #[test]
    fn nobody_is_blamed_without_evidence_or_when_all_are_bad() {
        assert!(!blamed((9, 9), [(30, 0)]), "few results");
        assert!(!blamed((1000, 4), [(1000, 0)]), "few failures");
        assert!(!blamed((100, 20), [(100, 0)]), "a small share");
        assert!(!blamed((100, 100), [(100, 100), (100, 90)]), "all are bad");
        assert!(!blamed((100, 60), [(100, 30), (100, 25)]), "the cause is elsewhere");
        assert!(!blamed((100, 100), []), "there is no peer");
        assert!(!blamed((100, 100), [(3, 0)]), "nothing is known of its peers");
    }

    #[test]
    fn an_outlier_stays_one_while_its_results_are_bad() {
        let peers = || [tally((100, 0))].into_iter();
        assert!(is_outlier(tally((2, 2)), peers(), true));
        assert!(!is_outlier(tally((4, 0)), peers(), true));
        assert!(!is_outlier(tally((0, 0)), peers(), true), "nothing bad is known of it any more");
    }

    #[test]
    fn what_is_asked_is_not_the_servers_fault() {
        let failures = [500, 501, 502, 503, 504, 505, 404, 200]
            .map(|code| is_failure(StatusCode::from_u16(code).unwrap()));
        assert_eq!(failures, [true, false, true, true, true, false, false, false]);
    }
}

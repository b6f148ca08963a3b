//! Retries: a pure function that decides whether a failed request is sent again.

use std::time::Duration;

use http::{HeaderName, Method};

/// Backoff before the second try, four times as long before each further one. Workers that are stopped together take
/// some milliseconds to exit, and their sockets refuse connections only after that.
const PAUSE: Duration = Duration::from_millis(20);

/// Number of retries for which the backoff grows; later ones wait as long as the last of them.
const GROWING: u32 = 4;

/// Consecutive failed connections that are retried without backoff: one for each server of most upstreams.
const EAGER_CONNECTS: u32 = 4;

/// Most consecutive failed connections. The queue bounds how long a request waits for a server that is down; this
/// bounds a request whose own connections fail while probes succeed.
const MOST_CONNECTS: u32 = 1000;

/// Kind of failure of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection failed: nothing was sent.
    Connect,
    /// The connection was reset before the server had read the head of the request: it has not begun with it.
    Unread,
    /// The connection broke before the first byte of the response.
    BeforeResponse,
    /// The read timeout passed without a byte from the server.
    ReadTimeout,
    /// The response is not valid HTTP.
    Malformed,
    /// The connection broke after the response had begun.
    WithinResponse,
    /// The response was complete, and its status is one that is retried at another server ([`after_status`]).
    Status,
}

/// A failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Kind of failure.
    pub failure: Failure,
    /// The method of the request.
    pub method: &'a Method,
    /// Whether the request may be repeated whatever its method, according to the client (`Idempotency-Key`) or the
    /// route.
    pub repeatable: bool,
    /// Whether the replay buffer holds everything that was read of the body.
    pub replayable: bool,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// Attempts so far on which something was sent, including this one.
    pub tries: u32,
    /// Most attempts in all.
    pub most_tries: u32,
    /// Consecutive failed connections.
    pub failed_connects: u32,
    /// Whether the retry budget of the upstream allows a retry.
    pub budget: bool,
}

/// Header by which a client marks a request as repeatable (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Decision after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send the request to another server.
    Retry,
    /// Send an error response to the client.
    GiveUp,
}

/// Decides whether to retry.
///
/// If nothing was sent, or nothing was read of what was, a retry sends nothing twice. A server that has closed an idle connection has most likely not
/// seen the request, and a second attempt does no harm: it needs no budget and does not count as a try. Only first
/// attempts use idle connections, so this happens at most once. A server that was silent or sent an invalid response
/// may be at work on the request, and the next one would be too: another server is not loaded with it.
pub fn decide(attempt: &Attempt<'_>) -> Decision {
    let repeatable = attempt.replayable && (attempt.method.is_idempotent() || attempt.repeatable);
    let has_tries = attempt.budget && attempt.tries < attempt.most_tries;
    match attempt.failure {
        Failure::Connect if attempt.failed_connects < MOST_CONNECTS => Decision::Retry,
        Failure::Unread if attempt.replayable && attempt.failed_connects < MOST_CONNECTS => Decision::Retry,
        Failure::BeforeResponse if repeatable && (attempt.reused || has_tries) => Decision::Retry,
        Failure::Connect
        | Failure::Unread
        | Failure::BeforeResponse
        | Failure::ReadTimeout
        | Failure::Malformed
        | Failure::WithinResponse
        | Failure::Status => Decision::GiveUp,
    }
}

/// Decides whether to retry a response whose status is in `retry.on`. `has_other` says whether another server could
/// take the request now. The server has processed the request, so only a safe method is retried, unless the request
/// is repeatable ([`Attempt::repeatable`]).
pub fn after_status(attempt: &Attempt<'_>, has_other: bool) -> Decision {
    let repeatable = attempt.replayable && (attempt.method.is_safe() || attempt.repeatable);
    let may = repeatable && has_other && attempt.budget && attempt.tries < attempt.most_tries;
    if may { Decision::Retry } else { Decision::GiveUp }
}

/// Backoff before the next attempt.
pub fn pause(tries: u32, failed_connects: u32) -> Duration {
    match (tries, failed_connects) {
        (0, connects) if connects <= EAGER_CONNECTS => Duration::ZERO,
        (0, _) | (_, 1..) => PAUSE,
        (tries, 0) => PAUSE * 4_u32.saturating_pow(tries.min(GROWING) - 1),
    }
}

/// Whether the request needs a new connection, because it could not be retried if the server were just closing an
/// idle one.
pub fn needs_fresh_connection(method: &Method) -> bool {
    !method.is_safe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_the_table() {
        use Failure::{BeforeResponse, Connect, Malformed, ReadTimeout, Unread, WithinResponse};
        const ANY: Option<bool> = None;
        const YES: Option<bool> = Some(true);
        const NO: Option<bool> = Some(false);
        // The rows cover each combination once: failure; repeatable (by its method, by the client or the route); body
        // replayable; tries left; reused connection; budget left; and the decision.
        let rows = [
            (Connect, ANY, ANY, ANY, ANY, ANY, Decision::Retry),
            (Unread, ANY, NO, ANY, ANY, ANY, Decision::GiveUp),
            (Unread, ANY, YES, ANY, ANY, ANY, Decision::Retry),
            (BeforeResponse, NO, ANY, ANY, ANY, ANY, Decision::GiveUp),
            (BeforeResponse, YES, NO, ANY, ANY, ANY, Decision::GiveUp),
            (BeforeResponse, YES, YES, ANY, YES, ANY, Decision::Retry),
            (BeforeResponse, YES, YES, NO, NO, ANY, Decision::GiveUp),
            (BeforeResponse, YES, YES, YES, NO, YES, Decision::Retry),
            (BeforeResponse, YES, YES, YES, NO, NO, Decision::GiveUp),
            (ReadTimeout, ANY, ANY, ANY, ANY, ANY, Decision::GiveUp),
            (Malformed, ANY, ANY, ANY, ANY, ANY, Decision::GiveUp),
            (WithinResponse, ANY, ANY, ANY, ANY, ANY, Decision::GiveUp),
        ];
        let idempotent =
            [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
        let other = [Method::POST, Method::PATCH, Method::CONNECT, Method::from_bytes(b"MKCOL").unwrap()];
        let methods =
            idempotent.iter().map(|method| (method, true)).chain(other.iter().map(|method| (method, false)));
        for (method, idempotent) in methods {
            for failure in [Connect, Unread, BeforeResponse, ReadTimeout, Malformed, WithinResponse] {
                for bits in 0..32_u8 {
                    let [marked, replayable, tries_left, reused, budget] =
                        [1, 2, 4, 8, 16].map(|bit| bits & bit != 0);
                    let cell = [idempotent || marked, replayable, tries_left, reused, budget];
                    let fits = |(row, a, b, c, d, e, _): &(Failure, _, _, _, _, _, Decision)| {
                        let wanted: [Option<bool>; 5] = [*a, *b, *c, *d, *e];
                        let same = wanted
                            .iter()
                            .zip(cell)
                            .all(|(wanted, is)| wanted.is_none_or(|wanted| wanted == is));
                        *row == failure && same
                    };
                    let mut fitting = rows.iter().filter(|row| fits(row));
                    let (.., decision) = fitting.next().expect("a row for every cell");
                    assert!(fitting.next().is_none(), "one row for a cell");
                    let attempt = Attempt {
                        failure,
                        method,
                        repeatable: marked,
                        replayable,
                        reused,
                        tries: if tries_left { 3 } else { 4 },
                        most_tries: 4,
                        failed_connects: 1,
                        budget,
                    };
                    assert_eq!(decide(&attempt), *decision, "{attempt:?}");
                    let circling = Attempt { failed_connects: MOST_CONNECTS, ..attempt };
                    let ends = if matches!(failure, Connect | Unread) { Decision::GiveUp } else { *decision };
                    assert_eq!(decide(&circling), ends, "connections that fail for ever come to an end");
                }
            }
        }
    }

    #[test]
    fn a_status_is_tried_elsewhere_where_that_changes_nothing() {
        let attempt = Attempt {
            failure: Failure::Status,
            method: &Method::GET,
            repeatable: false,
            replayable: true,
            reused: false,
            tries: 1,
            most_tries: 2,
            failed_connects: 0,
            budget: true,
        };
        let again = |attempt, others| after_status(&attempt, others) == Decision::Retry;
        assert!(again(attempt, true));
        assert!(!again(attempt, false), "the same server would say the same");
        assert!(!again(Attempt { tries: 2, ..attempt }, true));
        assert!(!again(Attempt { budget: false, ..attempt }, true));
        assert!(!again(Attempt { replayable: false, ..attempt }, true));
        for method in &[Method::POST, Method::PUT, Method::DELETE] {
            assert!(!again(Attempt { method, ..attempt }, true), "{method}");
            assert!(again(Attempt { method, repeatable: true, ..attempt }, true), "{method}");
        }
    }

    #[test]
    fn the_first_attempts_follow_at_once_and_later_ones_do_not() {
        let milliseconds = |tries, connects| pause(tries, connects).as_millis();
        assert_eq!([milliseconds(0, 0), milliseconds(0, 4), milliseconds(0, 5)], [0, 0, 20]);
        assert_eq!(
            [milliseconds(1, 0), milliseconds(2, 0), milliseconds(3, 0), milliseconds(9, 0)],
            [20, 80, 320, 1280]
        );
    }

    #[test]
    fn only_safe_methods_share_connections() {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(needs_fresh_connection(&method));
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(!needs_fresh_connection(&method));
        }
    }
}

//! Whether a request that failed at a server is sent again: a pure function of what is known.

use std::time::Duration;

use http::Method;

/// Tries that a request has in all once something of it was sent; connecting is not a try.
const TRIES: u32 = 4;

/// The pause before the second try, four times as long before each further one: workers that go together take some
/// milliseconds over it, and their sockets tell only then that they are gone.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections that may fail in a row without a pause between them, one for each server of most upstreams.
const EAGER_CONNECTS: u32 = 4;

/// Connections that may fail in a row. The queue bounds how long a request waits for a server that is down; this
/// bounds one whose own connections fail while probes succeed.
const CONNECTS: u32 = 1000;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// The connection broke before a byte of the answer.
    BeforeAnswer,
    /// The server was silent for its whole read timeout.
    Silence,
    /// What came is not HTTP.
    Malformed,
    /// The answer had begun.
    WithinAnswer,
}

/// What is known about a failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// How it failed.
    pub failure: Failure,
    /// The method of the request.
    pub method: &'a Method,
    /// Whether what was read of the body can be sent again.
    pub replayable: bool,
    /// Attempts so far on which something was sent, this one included.
    pub tries: u32,
    /// Connections that have failed in a row.
    pub failed_connects: u32,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it to another server.
    Retry,
    /// Tell the client.
    GiveUp,
}

/// Decides. A server that was silent or speaks nonsense may be at work on the request, and so would the next one be:
/// that is no reason to load another.
pub fn decide(attempt: &Attempt<'_>) -> Decision {
    let safe = attempt.method.is_idempotent() && attempt.replayable && attempt.tries < TRIES;
    match attempt.failure {
        Failure::Connect if attempt.failed_connects < CONNECTS => Decision::Retry,
        Failure::BeforeAnswer if safe => Decision::Retry,
        Failure::Connect
        | Failure::BeforeAnswer
        | Failure::Silence
        | Failure::Malformed
        | Failure::WithinAnswer => Decision::GiveUp,
    }
}

/// How long to wait before the next attempt.
pub fn pause(tries: u32, failed_connects: u32) -> Duration {
    match (tries, failed_connects) {
        (0, connects) if connects <= EAGER_CONNECTS => Duration::ZERO,
        (0, _) | (_, 1..) => PAUSE,
        (tries, 0) => PAUSE * 4_u32.saturating_pow(tries.min(TRIES) - 1),
    }
}

/// Whether a request goes out on a connection of its own, so that one the server is just closing cannot cost it.
pub fn needs_fresh_connection(method: &Method) -> bool {
    !method.is_safe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_the_table() {
        use Decision::{GiveUp, Retry};
        use Failure::{BeforeAnswer, Connect, Malformed, Silence, WithinAnswer};
        let rows = [
            // failure, method, replayable, tries, decision
            (Connect, Method::GET, true, 1, Retry),
            (Connect, Method::POST, true, 1, Retry),
            (Connect, Method::POST, false, 900, Retry),
            (BeforeAnswer, Method::GET, true, 1, Retry),
            (BeforeAnswer, Method::HEAD, true, 2, Retry),
            (BeforeAnswer, Method::GET, true, 4, GiveUp),
            (BeforeAnswer, Method::PUT, true, 1, Retry),
            (BeforeAnswer, Method::PUT, false, 1, GiveUp),
            (BeforeAnswer, Method::DELETE, true, 1, Retry),
            (BeforeAnswer, Method::POST, true, 1, GiveUp),
            (BeforeAnswer, Method::PATCH, true, 1, GiveUp),
            (Silence, Method::GET, true, 1, GiveUp),
            (Malformed, Method::GET, true, 1, GiveUp),
            (WithinAnswer, Method::GET, true, 1, GiveUp),
        ];
        for (failure, method, replayable, tries, decision) in rows {
            let attempt = Attempt { failure, method: &method, replayable, tries, failed_connects: 1 };
            assert_eq!(decide(&attempt), decision, "{attempt:?}");
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

//! Whether a request that failed at a server is sent again: a pure function of what is known.

use http::Method;

/// Tries that a request has in all once something of it was sent; connecting is not a try.
const TRIES: u32 = 3;

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
        Failure::Connect => Decision::Retry,
        Failure::BeforeAnswer if safe => Decision::Retry,
        Failure::BeforeAnswer | Failure::Silence | Failure::Malformed | Failure::WithinAnswer => {
            Decision::GiveUp
        }
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
            (BeforeAnswer, Method::GET, true, 3, GiveUp),
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
            let attempt = Attempt { failure, method: &method, replayable, tries };
            assert_eq!(decide(&attempt), decision, "{attempt:?}");
        }
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

//! Passive health check on silence: detects a server that accepts requests and responds to none.
//!
//! A worker that is loading its application accepts connections and sends nothing for a minute. A worker that is busy
//! with one slow request sends nothing for that one, and responds to others. A server is therefore silent when it
//! owes responses, or connections, and has begun none for a while. A silent server gets new requests only when no
//! other server can take them, and counts as healthy again as soon as it begins a response.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time that a server may owe responses, or connections, and begin none before others are preferred.
const OVERDUE_AFTER: Duration = Duration::from_secs(2);

/// Time for which others are preferred to a silent server. Then one more request tests it: a single slow response
/// must not starve a server for ever, and a server that hangs must not get many requests.
const AVOID_FOR: Duration = Duration::from_secs(10);

/// Outstanding connections and responses of a server.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Connections being established.
    connections: Outstanding,
    /// Responses to requests that were sent completely.
    responses: Outstanding,
    /// Time at which the server last got a request.
    chosen_at: Option<Instant>,
    /// Time at which a request timed out, if the server has sent nothing since.
    timed_out_at: Option<Instant>,
}

/// Outstanding events of one kind.
#[derive(Debug, Default)]
struct Outstanding {
    count: usize,
    /// Time of the last one, or at which the first became outstanding.
    since: Option<Instant>,
}

impl Outstanding {
    fn begin(&mut self, now: Instant) {
        if self.count == 0 {
            self.since = Some(now);
        }
        self.count += 1;
    }

    fn completed(&mut self, now: Instant) {
        self.end();
        self.since = Some(now);
    }

    fn end(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.count > 0 && is_longer_than(now, self.since, OVERDUE_AFTER)
    }
}

fn is_longer_than(now: Instant, since: Option<Instant>, most: Duration) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) > most)
}

impl Silence {
    /// The server got a request, and a connection is being established.
    pub(super) fn chosen(&mut self, now: Instant) {
        self.chosen_at = Some(now);
        self.connections.begin(now);
    }

    /// The connection is established.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connections.completed(now);
    }

    /// The connection failed.
    pub(super) fn not_connected(&mut self) {
        self.connections.end();
    }

    /// The request was sent with its body: a response is outstanding.
    pub(super) fn sent(&mut self, now: Instant) {
        self.responses.begin(now);
    }

    /// The response to a request that was sent completely has begun.
    pub(super) fn answered(&mut self, now: Instant) {
        self.responses.end();
        self.progressed(now);
    }

    /// The server sent something: a response to a request that is still being sent, or to a probe.
    pub(super) fn progressed(&mut self, now: Instant) {
        self.responses.since = Some(now);
        self.timed_out_at = None;
    }

    /// A request, or a probe, has timed out.
    pub(super) fn timed_out(&mut self, now: Instant) {
        self.timed_out_at = Some(now);
    }

    /// A request with an outstanding response was abandoned.
    pub(super) fn given_up(&mut self) {
        self.responses.end();
    }

    /// Whether other servers are preferred.
    ///
    /// One request is let through from time to time all the same: a server that is busy with something slow shows by
    /// it that it responds to others.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let overdue = self.responses.is_overdue(now) || self.connections.is_overdue(now);
        (self.timed_out_at.is_some() || overdue)
            && !is_longer_than(now, self.chosen_at.max(self.timed_out_at), AVOID_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owing_and_saying_nothing_is_silence() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert!(!silence.is_silent(at(100)), "nobody has asked");
        silence.chosen(at(100));
        silence.connected(at(100));
        assert!(!silence.is_silent(at(105)), "the request is still being sent");
        silence.sent(at(105));
        assert!(!silence.is_silent(at(107)));
        assert!(silence.is_silent(at(108)));
        silence.chosen(at(108));
        silence.connected(at(108));
        silence.sent(at(108));
        assert!(silence.is_silent(at(109)), "another question is no answer");
        silence.answered(at(110));
        assert!(!silence.is_silent(at(111)), "one slow request is no silence while others are answered");
        assert!(silence.is_silent(at(113)));
        silence.given_up();
        assert!(!silence.is_silent(at(113)), "it owes nothing any more");
    }

    #[test]
    fn nobody_is_silent_for_ever() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        silence.chosen(at(0));
        silence.connected(at(0));
        silence.sent(at(0));
        assert!(silence.is_silent(at(9)));
        assert!(!silence.is_silent(at(11)), "one more may find out");
        silence.chosen(at(11));
        silence.connected(at(11));
        assert!(silence.is_silent(at(12)), "but only one");
        silence.timed_out(at(20));
        silence.given_up();
        assert!(silence.is_silent(at(29)));
        assert!(!silence.is_silent(at(31)));
        silence.chosen(at(31));
        assert!(silence.is_silent(at(31)), "again only one");
        silence.connected(at(31));
        silence.sent(at(31));
        silence.answered(at(32));
        assert!(!silence.is_silent(at(32)));
    }

    #[test]
    fn a_connection_that_is_not_made_is_silence_too() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        silence.chosen(at(0));
        assert!(!silence.is_silent(at(2)));
        assert!(silence.is_silent(at(3)));
        silence.not_connected();
        assert!(!silence.is_silent(at(3)));
        silence.chosen(at(4));
        silence.chosen(at(5));
        silence.connected(at(6));
        assert!(!silence.is_silent(at(7)), "it takes connections");
    }
}

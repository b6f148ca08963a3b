//! Whether a server that takes requests answers any of them.
//!
//! A worker that is loading its application accepts connections and says nothing for a minute. A worker that is at
//! work on one slow request says nothing about that one, and answers others. So a server is silent when it owes
//! answers, or connections, and has begun none for a while: it gets new requests only when no other server can take
//! them, and is as good as any the moment it begins an answer.

use std::time::Duration;

use tokio::time::Instant;

/// How long a server may owe answers, or connections, and begin none before others are preferred.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long others are preferred to a silent server. Then one more request may find out: a single slow answer must not
/// starve a server for ever, and a server that hangs must not get many.
const DOUBT: Duration = Duration::from_secs(10);

/// What a server owes.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Connections that are being made.
    connections: Owed,
    /// Answers to requests sent whole.
    answers: Owed,
    /// When it was last given a request.
    chosen: Option<Instant>,
    /// When a request had waited for its answer as long as it may, if nothing has been heard since.
    doubted: Option<Instant>,
}

/// Things that are owed.
#[derive(Debug, Default)]
struct Owed {
    count: usize,
    /// When one was last given, or the first began to be owed.
    since: Option<Instant>,
}

impl Owed {
    fn begin(&mut self, now: Instant) {
        if self.count == 0 {
            self.since = Some(now);
        }
        self.count += 1;
    }

    fn given(&mut self, now: Instant) {
        self.end();
        self.since = Some(now);
    }

    fn end(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.count > 0 && longer_than(now, self.since, PATIENCE)
    }
}

fn longer_than(now: Instant, since: Option<Instant>, most: Duration) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) > most)
}

impl Silence {
    /// It is given a request, for which a connection is made.
    pub(super) fn chosen(&mut self, now: Instant) {
        self.chosen = Some(now);
        self.connections.begin(now);
    }

    /// The connection is made.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connections.given(now);
    }

    /// No connection was made.
    pub(super) fn not_connected(&mut self) {
        self.connections.end();
    }

    /// A request is sent, with its body: now an answer is due.
    pub(super) fn sent(&mut self, now: Instant) {
        self.answers.begin(now);
    }

    /// The answer to a request that was sent whole has begun.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answers.end();
        self.spoke(now);
    }

    /// It has said something: an answer to a request that is still being sent, or to a question about its health.
    pub(super) fn spoke(&mut self, now: Instant) {
        self.answers.since = Some(now);
        self.doubted = None;
    }

    /// A request, or a question about its health, has waited for its answer as long as it may.
    pub(super) fn timed_out(&mut self, now: Instant) {
        self.doubted = Some(now);
    }

    /// A request that was owed an answer is given up.
    pub(super) fn given_up(&mut self) {
        self.answers.end();
    }

    /// Whether others are preferred.
    ///
    /// One request is let through now and then all the same: a server at work on something slow shows by it that it
    /// answers others.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let overdue = self.answers.is_overdue(now) || self.connections.is_overdue(now);
        (self.doubted.is_some() || overdue) && !longer_than(now, self.chosen.max(self.doubted), DOUBT)
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

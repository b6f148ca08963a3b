//! Whether a server that takes requests answers any of them.
//!
//! A worker that is loading its application accepts connections and says nothing for a minute. A worker that is at
//! work on one slow request says nothing about that one, and answers others. So a server is silent when it owes
//! answers and has begun none for a while: it gets new requests only when no other server can take them, and is as
//! good as any the moment it begins an answer.

use std::time::Duration;

use tokio::time::Instant;

/// How long a server that owes answers may begin none of them before others are preferred.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long others are preferred after a request has waited in vain. Then one more may find out: a single slow answer
/// must not starve a server for ever.
const DOUBT: Duration = Duration::from_secs(10);

/// What a server owes.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Requests sent whole whose answers have not begun.
    owed: usize,
    /// When it last began an answer, or began to owe one.
    since: Option<Instant>,
    /// When it was last given a request.
    chosen: Option<Instant>,
    /// A request has waited for its answer as long as it may; until then others are preferred.
    doubted_until: Option<Instant>,
}

impl Silence {
    /// It is given a request, which is still to be sent.
    pub(super) fn chosen(&mut self, now: Instant) {
        self.chosen = Some(now);
    }

    /// A request is sent, with its body: now an answer is due.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.owed == 0 {
            self.since = Some(now);
        }
        self.owed += 1;
    }

    /// An answer has begun, to a request that was `owed` one or is still being sent.
    pub(super) fn answered(&mut self, now: Instant, owed: bool) {
        self.owed = self.owed.saturating_sub(usize::from(owed));
        self.since = Some(now);
        self.doubted_until = None;
    }

    /// A request has waited for its answer as long as it may.
    pub(super) fn timed_out(&mut self, now: Instant) {
        self.doubted_until = Some(now + DOUBT);
    }

    /// A request that was owed an answer is given up.
    pub(super) fn given_up(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// Whether others are preferred.
    ///
    /// One request is let through now and then all the same: a server at work on something slow shows by it that it
    /// answers others.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let longer_than = |since: Option<Instant>, most| {
            since.is_some_and(|since| now.saturating_duration_since(since) > most)
        };
        let doubted = self.doubted_until.is_some_and(|until| now < until);
        let quiet = self.owed > 0 && longer_than(self.since, PATIENCE) && !longer_than(self.chosen, DOUBT);
        doubted || quiet
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
        assert!(!silence.is_silent(at(105)), "the request is still being sent");
        silence.sent(at(105));
        assert!(!silence.is_silent(at(107)));
        assert!(silence.is_silent(at(108)));
        silence.chosen(at(108));
        silence.sent(at(108));
        assert!(silence.is_silent(at(109)), "another question is no answer");
        silence.answered(at(110), true);
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
        silence.sent(at(0));
        assert!(silence.is_silent(at(9)));
        assert!(!silence.is_silent(at(11)), "one more may find out");
        silence.chosen(at(11));
        assert!(silence.is_silent(at(12)), "but only one");
        silence.timed_out(at(20));
        silence.given_up();
        assert!(silence.is_silent(at(29)));
        assert!(!silence.is_silent(at(31)));
    }
}

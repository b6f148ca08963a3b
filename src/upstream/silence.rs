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
    /// Requests sent whose answers have not begun.
    owed: usize,
    /// When it last began an answer, or began to owe one.
    since: Option<Instant>,
    /// A request has waited for its answer as long as it may; until then others are preferred.
    doubted_until: Option<Instant>,
}

impl Silence {
    /// A request is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.owed == 0 {
            self.since = Some(now);
        }
        self.owed += 1;
    }

    /// An answer has begun.
    pub(super) fn answered(&mut self, now: Instant) {
        self.owed = self.owed.saturating_sub(1);
        self.since = Some(now);
        self.doubted_until = None;
    }

    /// A request has waited for its answer as long as it may.
    pub(super) fn timed_out(&mut self, now: Instant) {
        self.doubted_until = Some(now + DOUBT);
    }

    /// A request is given up without an answer.
    pub(super) fn given_up(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// Whether others are preferred.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let doubted = self.doubted_until.is_some_and(|until| now < until);
        doubted
            || self.owed > 0
                && self.since.is_some_and(|since| now.saturating_duration_since(since) > PATIENCE)
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
        silence.sent(at(100));
        assert!(!silence.is_silent(at(102)));
        assert!(silence.is_silent(at(103)));
        silence.sent(at(104));
        assert!(silence.is_silent(at(104)), "another question is no answer");
        silence.answered(at(105));
        assert!(!silence.is_silent(at(106)), "one slow request is no silence while others are answered");
        assert!(silence.is_silent(at(108)));
        silence.given_up();
        assert!(!silence.is_silent(at(200)), "it owes nothing any more");
        silence.timed_out(at(200));
        assert!(silence.is_silent(at(209)));
        assert!(!silence.is_silent(at(211)), "it gets another chance");
    }
}

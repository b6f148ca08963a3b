//! Two counts over a sliding window of time.

use std::time::Duration;

use tokio::time::Instant;

/// Events of the last one to two spans, and the number of marked events among them.
#[derive(Debug)]
pub(super) struct Window {
    span: Duration,
    /// Start of the current span.
    began: Option<Instant>,
    present: Tally,
    before: Tally,
}

/// Number of events, and of marked ones among them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) all: u64,
    pub(super) marked: u64,
}

impl Window {
    /// Creates an empty window of one to two `span`s.
    pub(super) const fn new(span: Duration) -> Self {
        const NOTHING: Tally = Tally { all: 0, marked: 0 };
        Self { span, began: None, present: NOTHING, before: NOTHING }
    }

    /// Adds events.
    pub(super) fn add(&mut self, now: Instant, all: u64, marked: u64) {
        self.turn(now);
        self.present.all += all;
        self.present.marked += marked;
    }

    /// The events of the last one to two spans.
    pub(super) fn tally(&mut self, now: Instant) -> Tally {
        self.turn(now);
        let (present, before) = (self.present, self.before);
        Tally { all: present.all + before.all, marked: present.marked + before.marked }
    }

    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= self.span {
            self.before = if age < 2 * self.span { self.present } else { Tally::default() };
            self.present = Tally::default();
            self.began = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_forgotten_after_two_spans_at_most() {
        let (start, span) = (Instant::now(), Duration::from_secs(5));
        let mut window = Window::new(span);
        window.add(start, 3, 1);
        window.add(start + span, 2, 0);
        assert_eq!(window.tally(start + span), Tally { all: 5, marked: 1 });
        assert_eq!(window.tally(start + 2 * span), Tally { all: 2, marked: 0 });
        assert_eq!(window.tally(start + 4 * span), Tally::default());
    }
}

//! A worker as arithmetic: one CPU that the requests in service share equally. Time is passed in, in seconds.
//!
//! The simulated queues and the workers behind the proxies are made of it alike.

use std::collections::VecDeque;

/// How many requests a worker serves at once; the others wait inside it, the oldest first.
pub const SLOTS: usize = 4;

/// One worker with its requests, each of which is a `T` to those who sent it.
pub struct Worker<T> {
    now: f64,
    /// What is left of the work of each.
    serving: Vec<(f64, T)>,
    waiting: VecDeque<(f64, T)>,
}

impl<T> Default for Worker<T> {
    fn default() -> Self {
        Self { now: 0.0, serving: Vec::new(), waiting: VecDeque::new() }
    }
}

impl<T> Worker<T> {
    /// How many requests it has, those that wait included.
    pub fn inflight(&self) -> usize {
        self.serving.len() + self.waiting.len()
    }

    /// When the next request is done, if nothing arrives before that.
    pub fn next_done(&self) -> Option<f64> {
        let least = self.serving.iter().map(|(left, _)| *left).min_by(f64::total_cmp)?;
        Some(self.now + least * self.serving.len() as f64)
    }

    /// Goes on to when the next request is done, if that is until `time`, and gives it out with that moment.
    pub fn done_until(&mut self, time: f64) -> Option<(f64, T)> {
        let done = self.next_done().filter(|done| *done <= time)?;
        self.advance(done);
        let least =
            (0..self.serving.len()).min_by(|&a, &b| self.serving[a].0.total_cmp(&self.serving[b].0))?;
        let (_, request) = self.serving.remove(least);
        self.serving.extend(self.waiting.pop_front());
        Some((done, request))
    }

    /// A request arrives at `time`; whatever is done by then has been taken out.
    pub fn arrive(&mut self, time: f64, work: f64, request: T) {
        self.advance(time);
        if self.serving.len() < SLOTS {
            self.serving.push((work, request));
        } else {
            self.waiting.push_back((work, request));
        }
    }

    fn advance(&mut self, time: f64) {
        let each = (time - self.now) / self.serving.len().max(1) as f64;
        for (left, _) in &mut self.serving {
            *left -= each;
        }
        self.now = time;
    }
}

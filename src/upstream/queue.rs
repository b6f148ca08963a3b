//! Requests that wait for a server, by order of arrival.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::oneshot;

use super::{Lease, Server};
use crate::config::QueueOrder;

/// A request in the queue.
pub(super) struct Waiter {
    pub(super) sender: oneshot::Sender<Lease>,
    /// Requirements of the request.
    pub(super) preference: Preference,
}

/// Requirements of a request for the choice of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Preference {
    /// Servers at which the request has failed; others are preferred.
    pub(super) tried: Vec<Arc<Server>>,
    /// Hash key.
    pub(super) key: Option<u64>,
    /// Whether the request is for an event stream or a tunnel, which is no load and takes no place in `max_requests`.
    pub(super) is_stream: bool,
}

/// Queue in order of arrival. A request that comes back, because its server turned out to be down, takes its old
/// place.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: VecDeque<(Ticket, T)>,
    next: u64,
}

/// Position in the order of arrival at an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    /// Draws the next ticket; lower ones go first.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Inserts a request at its place.
    pub(super) fn wait(&mut self, ticket: Ticket, waiter: T) {
        let place = self.waiting.partition_point(|(other, _)| *other < ticket);
        self.waiting.insert(place, (ticket, waiter));
    }

    /// The request that is served next.
    pub(super) fn first(&self, order: QueueOrder) -> Option<&T> {
        let first = match order {
            QueueOrder::Oldest => self.waiting.front(),
            QueueOrder::Newest => self.waiting.back(),
        };
        first.map(|(_, waiter)| waiter)
    }

    /// Removes all requests, which refuses them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Removes the request that is served next.
    pub(super) fn pop(&mut self, order: QueueOrder) -> Option<(Ticket, T)> {
        match order {
            QueueOrder::Oldest => self.waiting.pop_front(),
            QueueOrder::Newest => self.waiting.pop_back(),
        }
    }

    /// Removes a request that no longer waits. Returns false if it is not in the queue.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let found = self.waiting.binary_search_by(|(other, _)| other.cmp(&ticket));
        found.is_ok_and(|place| self.waiting.remove(place).is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_who_comes_back_keeps_its_place() {
        let mut queue = Queue::default();
        let [first, second, third] = [(); 3].map(|()| queue.ticket());
        queue.wait(second, "second");
        queue.wait(third, "third");
        queue.wait(first, "first");
        assert!(queue.leave(second));
        assert!(!queue.leave(second));
        assert_eq!(queue.first(QueueOrder::Newest), Some(&"third"));
        assert_eq!(queue.pop(QueueOrder::Oldest), Some((first, "first")));
        assert_eq!(queue.pop(QueueOrder::Newest), Some((third, "third")));
        assert!(queue.is_empty());
    }
}

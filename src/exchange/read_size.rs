//! Size of the next read of a body.
//!
//! What was read and cannot be passed on takes memory for as long as the other side is slow, of which there may be
//! thousands; and whoever is fast is served best with large pieces. So everybody begins with what holds most responses
//! whole, and shows by how soon a full socket has room again what it can take.

use std::time::Duration;

use tokio::time::Instant;

use crate::net::ROOM;

/// The first piece: most responses are not larger.
const FIRST: usize = 128 * 1024;

/// Pieces while nothing is known of the other side.
const USUAL: usize = 64 * 1024;

/// Pieces for the slow.
const SMALL: usize = 16 * 1024;

/// Longest time until a reader that counts as fast has room again.
const SOON: Duration = Duration::from_millis(50);

/// Pieces that are taken without a pause before they grow.
const STEADY: u32 = 4;

/// Size of the next read, between bounds.
#[derive(Debug)]
pub(crate) struct ReadSize {
    next: usize,
    /// Largest read for a reader that is not known to be fast.
    unproven: usize,
    /// Pieces of this size that were taken without a pause.
    steady: u32,
    blocked: Option<Instant>,
}

impl ReadSize {
    /// For what goes to a client. The kernel takes a lot for a slow one too, before that shows.
    pub(crate) fn of_client() -> Self {
        Self { next: FIRST, unproven: USUAL, steady: 0, blocked: None }
    }

    /// For what goes to a server.
    pub(crate) fn of_server() -> Self {
        Self { next: FIRST, unproven: ROOM, steady: 0, blocked: None }
    }

    /// Bytes to read now.
    pub(crate) fn most(&self) -> usize {
        self.next
    }

    /// Something was read and passed on.
    pub(crate) fn fed(&mut self) {
        if self.next == FIRST {
            self.next = FIRST.min(self.unproven);
        }
        self.steady += 1;
        if self.steady >= STEADY && self.next < self.unproven {
            (self.next, self.steady) = (2 * self.next, 0);
        }
    }

    /// The other side takes no more for now.
    pub(crate) fn blocked(&mut self) {
        self.blocked.get_or_insert_with(Instant::now);
    }

    /// The other side takes more, if it ever did not.
    pub(crate) fn relieved(&mut self) {
        if let Some(since) = self.blocked.take() {
            (self.next, self.steady) = (if since.elapsed() < SOON { ROOM } else { SMALL }, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_all_is_fast() {
        let mut appetite = ReadSize::of_server();
        let mut read = || (appetite.most(), appetite.fed()).0;
        assert_eq!(
            [read(), read(), read(), read(), read(), read()],
            [FIRST, FIRST, FIRST, FIRST, ROOM, ROOM]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_slow_once_need_not_stay_so() {
        let mut appetite = ReadSize::of_client();
        appetite.blocked();
        tokio::time::advance(Duration::from_secs(1)).await;
        appetite.relieved();
        assert_eq!(appetite.most(), SMALL);
        for _ in 0..100 {
            appetite.fed();
        }
        assert_eq!(appetite.most(), USUAL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slow_get_small_pieces_and_the_fast_large_ones() {
        let mut appetite = ReadSize::of_client();
        assert_eq!(appetite.most(), FIRST);
        appetite.fed();
        assert_eq!(appetite.most(), USUAL);
        for (pause, most) in [(1, ROOM), (500, SMALL), (2, ROOM)] {
            appetite.blocked();
            tokio::time::advance(Duration::from_millis(pause)).await;
            appetite.blocked();
            appetite.relieved();
            appetite.fed();
            assert_eq!(appetite.most(), most);
            appetite.relieved();
            assert_eq!(appetite.most(), most);
        }
    }
}

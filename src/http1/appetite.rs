//! How much of a body is read at a time.
//!
//! What was read and cannot be passed on takes memory for as long as the other side is slow, of which there may be
//! thousands; and whoever is fast is served best with large pieces. So everybody begins with what holds most answers
//! whole, and shows by how soon a full socket has room again what it can take.

use std::time::Duration;

use tokio::time::Instant;

use crate::listen::ROOM;

/// The first piece: most answers are not larger.
const FIRST: usize = 128 * 1024;

/// Pieces while nothing is known of the other side.
const USUAL: usize = 64 * 1024;

/// Pieces for the slow.
const SMALL: usize = 16 * 1024;

/// Who has room again within this time is fast.
const SOON: Duration = Duration::from_millis(10);

/// How much is read at a time.
#[derive(Debug)]
pub(super) struct Appetite {
    next: usize,
    blocked: Option<Instant>,
}

impl Appetite {
    pub(super) fn new() -> Self {
        Self { next: FIRST, blocked: None }
    }

    /// How much to read now.
    pub(super) fn most(&self) -> usize {
        self.next
    }

    /// Something was read and passed on.
    pub(super) fn fed(&mut self) {
        if self.next == FIRST {
            self.next = USUAL;
        }
    }

    /// The other side takes no more for now.
    pub(super) fn blocked(&mut self) {
        self.blocked.get_or_insert_with(Instant::now);
    }

    /// The other side takes more, if it ever did not.
    pub(super) fn relieved(&mut self) {
        if let Some(since) = self.blocked.take() {
            self.next = if since.elapsed() < SOON { ROOM } else { SMALL };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_slow_get_small_pieces_and_the_fast_large_ones() {
        let mut appetite = Appetite::new();
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

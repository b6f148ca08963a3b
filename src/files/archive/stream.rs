//! An archive on its way: while one batch is sent, the next one is made in the blocking pool.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio::task::{JoinHandle, spawn_blocking};

use super::source::{Batch, Source};
use crate::answer::{Piece, Pieces};

/// The pieces of an archive.
#[derive(Debug)]
pub(super) struct Stream {
    ready: VecDeque<Piece>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// Nobody has asked yet.
    Idle(Box<Source>),
    Making(JoinHandle<io::Result<(Batch, Box<Source>)>>),
    Nothing,
}

impl Stream {
    pub(super) fn new(source: Source) -> Self {
        Self { ready: VecDeque::new(), next: Next::Idle(Box::new(source)) }
    }
}

fn make(mut source: Box<Source>) -> Next {
    Next::Making(spawn_blocking(move || Ok((source.batch()?, source))))
}

impl Pieces for Stream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            self.next = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Nothing => return Poll::Ready(None),
                Next::Idle(source) => make(source),
                Next::Making(mut making) => {
                    let Poll::Ready(made) = making.poll_unpin(cx) else {
                        self.next = Next::Making(making);
                        return Poll::Pending;
                    };
                    match made.map_err(io::Error::other).flatten() {
                        Ok((batch, source)) => {
                            self.ready = batch.pieces;
                            // Ahead of need, so that no gap appears.
                            if batch.is_last { Next::Nothing } else { make(source) }
                        }
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
            };
        }
    }
}

//! Streaming an archive: while one batch is sent, the next one is generated in the blocking pool.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio::task::{JoinHandle, spawn_blocking};

use super::source::{Batch, MemberSource};
use crate::{
    bulkhead::{Bulkhead, BulkheadPermit},
    response::{Piece, Pieces},
};

/// Stream of an archive's pieces.
#[derive(Debug)]
pub(super) struct ArchiveStream {
    ready: VecDeque<Piece>,
    next: NextPiece,
}

enum NextPiece {
    /// Not polled yet.
    Idle(Box<MemberSource>),
    /// Waiting for a permit for the files of the next members.
    Waiting(Pin<Box<dyn Future<Output = BulkheadPermit> + Send>>, Box<MemberSource>),
    Making(JoinHandle<io::Result<(Batch, Box<MemberSource>)>>),
    Nothing,
}

impl ArchiveStream {
    pub(super) fn new(source: MemberSource) -> Self {
        Self { ready: VecDeque::new(), next: NextPiece::Idle(Box::new(source)) }
    }
}

impl fmt::Debug for NextPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle(_) => "Idle",
            Self::Waiting(..) => "Waiting",
            Self::Making(_) => "Making",
            Self::Nothing => "Nothing",
        })
    }
}

/// Generates a batch once there is a permit of the bulkhead that it needs. An archive that has begun waits for the
/// permit without a limit.
fn make(source: Box<MemberSource>, needs: Option<Arc<Bulkhead>>) -> NextPiece {
    match needs.map(|bulkhead| bulkhead.try_enter().ok_or(bulkhead)).transpose() {
        Ok(permit) => make_with(source, permit),
        Err(bulkhead) => NextPiece::Waiting(Box::pin(async move { bulkhead.wait().await }), source),
    }
}

fn make_with(mut source: Box<MemberSource>, permit: Option<BulkheadPermit>) -> NextPiece {
    NextPiece::Making(spawn_blocking(move || Ok((source.batch(permit.as_ref())?, source))))
}

impl Pieces for ArchiveStream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            self.next = match std::mem::replace(&mut self.next, NextPiece::Nothing) {
                NextPiece::Nothing => return Poll::Ready(None),
                NextPiece::Idle(source) => make(source, None),
                NextPiece::Waiting(mut waiting, source) => {
                    let Poll::Ready(permit) = waiting.as_mut().poll(cx) else {
                        self.next = NextPiece::Waiting(waiting, source);
                        return Poll::Pending;
                    };
                    make_with(source, Some(permit))
                }
                NextPiece::Making(mut making) => {
                    let Poll::Ready(made) = making.poll_unpin(cx) else {
                        self.next = NextPiece::Making(making);
                        return Poll::Pending;
                    };
                    match made.map_err(io::Error::other).flatten() {
                        Ok((batch, source)) => {
                            self.ready = batch.pieces;
                            // Start early, to leave no gap.
                            if batch.is_last { NextPiece::Nothing } else { make(source, batch.needs) }
                        }
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
            };
        }
    }
}

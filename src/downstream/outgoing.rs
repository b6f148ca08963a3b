//! A body on its way to the client, piece by piece.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};

use crate::{
    downstream::{sendfile::FileSend, wire::Wire},
    response::{Piece, Pieces},
};

/// Pieces, and the one that is being sent.
#[derive(Debug)]
pub(crate) struct OutgoingBody {
    pieces: Box<dyn Pieces>,
    current: Option<Current>,
    /// The next piece is being made.
    is_made: bool,
}

#[derive(Debug)]
enum Current {
    Bytes(Bytes),
    File(FileSend),
}

impl OutgoingBody {
    pub(crate) fn new(pieces: Box<dyn Pieces>) -> Self {
        Self { pieces, current: None, is_made: false }
    }

    /// Whether it waits for the disk, and not for the client.
    pub(crate) fn waits_for_disk(&self) -> bool {
        match &self.current {
            Some(Current::File(job)) => job.is_warming(),
            Some(Current::Bytes(_)) => false,
            None => self.is_made,
        }
    }

    /// Sends as much as the socket takes, up to about `most` bytes at a time; tells `progress` the bytes of each part.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        most: u64,
        mut progress: impl FnMut(u64),
    ) -> Poll<io::Result<()>> {
        let mut left = most;
        loop {
            if left == 0 {
                // It is others' turn, or time must pass.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match &mut self.current {
                Some(Current::Bytes(bytes)) if bytes.is_empty() => self.current = None,
                Some(Current::Bytes(bytes)) => {
                    let part = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let sent = ready!(wire.poll_send(cx, &bytes[..part], false))?;
                    bytes.advance(sent);
                    left -= sent as u64;
                    progress(sent as u64);
                }
                Some(Current::File(job)) => {
                    let job_done = job.poll(cx, wire, left, |sent| {
                        left = left.saturating_sub(sent);
                        progress(sent);
                    });
                    ready!(job_done)?;
                    self.current = None;
                }
                None => {
                    self.is_made = true;
                    let next = ready!(self.pieces.poll_next(cx));
                    self.is_made = false;
                    self.current = match next.transpose()? {
                        Some(Piece::Bytes(bytes)) => Some(Current::Bytes(bytes)),
                        Some(Piece::File { file, offset, length }) => {
                            Some(Current::File(FileSend::new(file, offset, length)))
                        }
                        None => return Poll::Ready(Ok(())),
                    };
                }
            }
        }
    }
}

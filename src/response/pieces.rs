//! Bodies that are made while they are sent: of bytes and ranges of files, one after the other.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::bulkhead::OpenFile;

/// A part of a body.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file, sent by the kernel.
    File {
        /// The open file.
        file: Arc<OpenFile>,
        /// Where it starts.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

impl Piece {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// Gives the pieces of a body in their order, as many bytes in all as was promised.
///
/// An error ends the connection: a part must not be taken for the whole.
pub trait Pieces: Send + fmt::Debug {
    /// The next piece; `None` at the end. Must not block: what waits for a disk does so elsewhere.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>>;
}

impl Pieces for VecDeque<Piece> {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        Poll::Ready(self.pop_front().map(Ok))
    }
}

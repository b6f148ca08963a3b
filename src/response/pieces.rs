//! Bodies produced while they are sent: sequences of byte buffers and ranges of files.

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
    /// A range of a file, sent by the kernel (`sendfile`).
    File {
        /// The open file.
        file: Arc<OpenFile>,
        /// Offset of the range in bytes.
        offset: u64,
        /// Length of the range in bytes.
        length: u64,
    },
}

impl Piece {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// Producer of the pieces of a body, in their order. Their total length is the announced one.
///
/// An error closes the connection, so that the client does not take a part for the whole.
pub trait Pieces: Send + fmt::Debug {
    /// The next piece; `None` at the end. Must not block: disks are read on other threads.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>>;
}

impl Pieces for VecDeque<Piece> {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        Poll::Ready(self.pop_front().map(Ok))
    }
}

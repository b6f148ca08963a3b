//! A file, or a range of one, sent by the kernel without passing through the process where that never waits.

use std::{
    fs::File,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    socket::Socket,
    warm::{self, Place},
};

/// Bytes sent before others get their turn on the event loop.
const TURN: u64 = 2 * 1024 * 1024;

/// Bytes that are seen to be in memory at a time.
const WINDOW: u64 = 1024 * 1024;

/// Bytes that are read at a time where nobody knows what is in memory. They are kept until the client has taken them.
const COPIED: u64 = 256 * 1024;

/// A range of an open file, to be sent.
#[derive(Debug)]
pub(crate) struct FileJob {
    file: Arc<File>,
    offset: u64,
    left: u64,
    /// Up to here the file is in memory.
    warm: u64,
    /// What of it is in ours, from `offset` on.
    copied: Bytes,
    /// Brings the next window into memory.
    warming: Option<JoinHandle<io::Result<Warmed>>>,
}

/// Where the next bytes of a file are now.
#[derive(Debug)]
enum Warmed {
    /// So many in the memory of the kernel.
    Kernel(u64),
    /// In ours.
    Copied(Bytes),
}

impl FileJob {
    /// Sends `length` bytes of `file` from `offset` on.
    pub(crate) fn new(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self { file, offset, left: length, warm: offset, copied: Bytes::new(), warming: None }
    }

    /// Whether it waits for the disk, and not for the client.
    pub(super) fn is_warming(&self) -> bool {
        self.warming.is_some()
    }

    /// Sends as much as the socket takes, up to `most` bytes at a time; tells `progress` the bytes of each part.
    ///
    /// # Errors
    ///
    /// A file that has become shorter ends the connection: what was promised cannot be sent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        most: u64,
        mut progress: impl FnMut(u64),
    ) -> Poll<io::Result<()>> {
        let mut turn = TURN.min(self.left).min(most);
        while self.left > 0 {
            if turn == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_warm(cx))?;
            let count = usize::try_from(turn.min(self.warm - self.offset)).unwrap_or(usize::MAX);
            let sent = if self.copied.is_empty() {
                ready!(socket.poll_send_file(cx, &self.file, self.offset, count))?
            } else {
                let sent = ready!(socket.poll_send(cx, &self.copied[..count], false))?;
                self.copied.advance(sent);
                sent
            } as u64;
            if sent == 0 {
                return Poll::Ready(Err(shorter()));
            }
            self.offset += sent;
            self.left -= sent;
            turn = turn.saturating_sub(sent);
            progress(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the next bytes are in memory.
    fn poll_warm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.warm <= self.offset {
            if let Some(warming) = &mut self.warming {
                let warmed = ready!(Pin::new(warming).poll(cx));
                self.warming = None;
                match warmed.map_err(io::Error::other)?? {
                    Warmed::Kernel(length) => self.warm = self.offset + length,
                    Warmed::Copied(bytes) if bytes.is_empty() => return Poll::Ready(Err(shorter())),
                    Warmed::Copied(bytes) => {
                        self.warm = self.offset + bytes.len() as u64;
                        self.copied = bytes;
                    }
                }
                continue;
            }
            let (offset, window, most) = (self.offset, WINDOW.min(self.left), COPIED.min(self.left));
            let file = Arc::clone(&self.file);
            match warm::place(&file, offset, window) {
                Place::Memory => self.warm = offset + window,
                Place::Disk => {
                    self.warming = Some(spawn_blocking(move || {
                        warm::warm(&file, offset, window).map(|()| Warmed::Kernel(window))
                    }));
                }
                Place::Unknown => {
                    self.warming =
                        Some(spawn_blocking(move || warm::read(&file, offset, most).map(Warmed::Copied)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What was promised cannot be sent.
fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent")
}

//! A file, or a range of one, sent by the kernel without passing through the process.

use std::{
    fs::File,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::{JoinHandle, spawn_blocking};

use super::{socket::Socket, warm};

/// Bytes sent before others get their turn on the event loop.
const TURN: u64 = 2 * 1024 * 1024;

/// Bytes that are seen to be in memory at a time.
const WINDOW: u64 = 1024 * 1024;

/// A range of an open file, to be sent.
#[derive(Debug)]
pub(crate) struct FileJob {
    file: Arc<File>,
    offset: u64,
    left: u64,
    /// Up to here the file is in memory.
    warm: u64,
    /// Brings the next window into memory.
    warming: Option<JoinHandle<io::Result<()>>>,
}

impl FileJob {
    /// Sends `length` bytes of `file` from `offset` on.
    pub(crate) fn new(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self { file, offset, left: length, warm: offset, warming: None }
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
        socket: &Socket,
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
            let count = turn.min(self.warm - self.offset);
            let sent = ready!(socket.poll_write_with(cx, |fd| {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                Ok(rustix::fs::sendfile(fd, &*self.file, Some(&mut self.offset), count)?)
            }))? as u64;
            if sent == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was sent",
                )));
            }
            self.left -= sent;
            turn = turn.saturating_sub(sent);
            progress(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the next bytes are in memory.
    fn poll_warm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.warm <= self.offset {
            let window = WINDOW.min(self.left);
            if let Some(warming) = &mut self.warming {
                let warmed = ready!(Pin::new(warming).poll(cx));
                self.warming = None;
                warmed.map_err(io::Error::other)??;
                self.warm = self.offset + window;
            } else if warm::is_cached(&self.file, self.offset, window) {
                self.warm = self.offset + window;
            } else {
                let (file, offset) = (Arc::clone(&self.file), self.offset);
                self.warming = Some(spawn_blocking(move || warm::warm(&file, offset, window)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

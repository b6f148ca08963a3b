//! A file, or a range of one, sent by the kernel without passing through the process.

use std::{
    fs::File,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::socket::Socket;

/// Bytes sent before others get their turn on the event loop.
const TURN: u64 = 2 * 1024 * 1024;

/// A range of an open file, to be sent.
#[derive(Debug)]
pub(crate) struct FileJob {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl FileJob {
    /// Sends `length` bytes of `file` from `offset` on.
    pub(crate) fn new(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self { file, offset, left: length }
    }

    /// Sends as much as the socket takes; tells `progress` the bytes of each part.
    ///
    /// # Errors
    ///
    /// A file that has become shorter ends the connection: what was promised cannot be sent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        mut progress: impl FnMut(u64),
    ) -> Poll<io::Result<()>> {
        let mut turn = TURN.min(self.left);
        while self.left > 0 {
            if turn == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let sent = ready!(socket.poll_write_with(cx, |fd| {
                let count = usize::try_from(turn).unwrap_or(usize::MAX);
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
}

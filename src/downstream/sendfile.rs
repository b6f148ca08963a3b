//! A file, or a range of one, sent by the kernel without passing through the process where that never waits.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::task::spawn_blocking;

use crate::{
    bulkhead::OpenFile,
    downstream::wire::Wire,
    net::page_cache::{self, Residency},
};

/// Bytes sent before others get their turn on the event loop.
const TURN: u64 = 2 * 1024 * 1024;

/// Bytes that are seen to be in memory at a time.
const WINDOW: u64 = 1024 * 1024;

/// Bytes that are read at a time where nobody knows what is in memory. They are kept until the client has taken them.
const COPIED: u64 = 256 * 1024;

/// A range of an open file, to be sent.
pub(crate) struct FileSend {
    file: Arc<OpenFile>,
    offset: u64,
    left: u64,
    /// Up to here the file is in memory.
    warm: u64,
    /// Bytes of the file that were read into our memory, from `offset` on.
    copied: Bytes,
    /// Brings the next window into memory.
    warming: Option<Warming>,
}

/// The work of a thread, and the wait for a permit before it.
type Warming = Pin<Box<dyn Future<Output = io::Result<Warmed>> + Send + Sync>>;

/// Location of the next bytes of a file.
#[derive(Debug)]
enum Warmed {
    /// In the page cache; this many.
    Kernel(u64),
    /// In ours.
    Copied(Bytes),
}

impl FileSend {
    /// Sends `length` bytes of `file` from `offset` on.
    pub(crate) fn new(file: Arc<OpenFile>, offset: u64, length: u64) -> Self {
        Self { file, offset, left: length, warm: offset, copied: Bytes::new(), warming: None }
    }

    /// Whether it waits for the disk, and not for the client.
    pub(crate) fn is_warming(&self) -> bool {
        self.warming.is_some()
    }

    /// Sends as much as the socket takes, up to `most` bytes at a time; tells `progress` the bytes of each part.
    ///
    /// # Errors
    ///
    /// A file that has become shorter ends the connection: what was promised cannot be sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
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
                ready!(wire.poll_send_file(cx, self.file.get()?, self.offset, count))?
            } else {
                let sent = ready!(wire.poll_send(cx, &self.copied[..count], false))?;
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
                let warmed = ready!(warming.as_mut().poll(cx));
                self.warming = None;
                match warmed? {
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
            match page_cache::place(self.file.get()?, offset, window) {
                Residency::Memory => self.warm = offset + window,
                Residency::Disk => {
                    self.warming = Some(blocking(&self.file, move |file| {
                        page_cache::warm(file.get()?, offset, window).map(|()| Warmed::Kernel(window))
                    }));
                }
                Residency::Unknown => {
                    self.warming = Some(blocking(&self.file, move |file| {
                        page_cache::read(file.get()?, offset, most).map(Warmed::Copied)
                    }));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for FileSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut job = f.debug_struct("FileSend");
        job.field("offset", &self.offset).field("left", &self.left).field("warm", &self.warm);
        job.field("is_warming", &self.is_warming()).finish_non_exhaustive()
    }
}

/// Reads a file in the blocking pool. What was begun is finished, so where the file system does not answer it waits for
/// as long as it takes, without a thread.
fn blocking(
    file: &Arc<OpenFile>,
    read: impl FnOnce(&OpenFile) -> io::Result<Warmed> + Send + Sync + 'static,
) -> Warming {
    let file = Arc::clone(file);
    Box::pin(async move {
        let permit = match file.bulkhead().try_enter() {
            Some(permit) => permit,
            None => file.bulkhead().wait().await,
        };
        let read = spawn_blocking(move || {
            let _permit = permit;
            read(&file)
        });
        read.await.map_err(io::Error::other)?
    })
}

/// Error for a file that has become shorter than the length announced.
fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent")
}

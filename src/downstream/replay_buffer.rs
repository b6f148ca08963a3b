//! The body of a request, recorded so that it can be sent again: in memory up to a limit, then in a temporary file.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
use tokio::{
    io::ReadBuf,
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

/// Most bytes in memory; the file is written and read in pieces of this size.
const PIECE: usize = 256 * 1024;

/// The data of one request body, recorded while it is read.
#[derive(Debug)]
pub(crate) struct ReplayBuffer {
    /// Bytes that stay in memory until there are more.
    pub(crate) in_memory: usize,
    file: Option<Arc<File>>,
    /// Bytes in the file; [`tail`](Self::tail) follows them.
    in_file: u64,
    tail: Vec<u8>,
    writing: Option<JoinHandle<io::Result<Written>>>,
    /// Room for the next piece.
    spare: Vec<u8>,
    /// Progress of handing the data out again, while that is under way.
    replay: Option<Replay>,
    /// Why it cannot be sent again: the disk is full, most likely.
    error: Option<io::Error>,
}

/// The file that a piece was written to, and the piece, for its room.
type Written = (Arc<File>, Vec<u8>);

#[derive(Debug)]
struct Replay {
    at: u64,
    /// A piece of the file, and how much of it has been handed out.
    piece: Vec<u8>,
    given: usize,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl ReplayBuffer {
    pub(crate) fn new() -> Self {
        Self {
            in_memory: PIECE,
            file: None,
            in_file: 0,
            tail: Vec::new(),
            writing: None,
            spare: Vec::new(),
            replay: None,
            error: None,
        }
    }

    /// Bytes kept so far.
    pub(crate) fn length(&self) -> u64 {
        self.in_file + self.tail.len() as u64
    }

    /// Whether the request can be sent again.
    pub(crate) fn is_good(&self) -> bool {
        self.error.is_none()
    }

    /// Waits until there is room for more; at most one piece is on its way to the disk.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(writing) = &mut self.writing {
            let written = ready!(writing.poll_unpin(cx));
            self.writing = None;
            match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                Ok((file, mut piece)) => {
                    piece.clear();
                    (self.file, self.spare) = (Some(file), piece);
                }
                Err(error) => self.give_up(error),
            }
        }
        Poll::Ready(())
    }

    /// Waits until nothing is on its way to the disk.
    ///
    /// # Errors
    ///
    /// Why it cannot be sent again.
    pub(crate) fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_room(cx));
        Poll::Ready(match &self.error {
            None => Ok(()),
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
        })
    }

    /// Keeps bytes that have been handed out.
    pub(crate) fn record(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.len() >= self.in_memory && self.writing.is_none() {
            let piece = std::mem::replace(&mut self.tail, std::mem::take(&mut self.spare));
            self.in_file += piece.len() as u64;
            let file = self.file.take();
            self.writing = Some(spawn_blocking(move || {
                let file = match file {
                    Some(file) => file,
                    // Without a name from the start: it is gone with the request, whatever happens.
                    None => Arc::new(tempfile::tempfile()?),
                };
                (&*file).write_all(&piece)?;
                Ok((file, piece))
            }));
        }
    }

    fn give_up(&mut self, error: io::Error) {
        tracing::warn!(%error, "a request body cannot be kept; it goes on, and will not be sent again");
        self.error = Some(error);
        self.file = None;
        (self.tail, self.spare) = (Vec::new(), Vec::new());
    }

    /// Whether something kept is still to be handed out again.
    pub(crate) fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// Hands the data out again from its start.
    pub(crate) fn rewind(&mut self) {
        let is_empty = self.length() == 0;
        self.replay = (!is_empty).then(|| Replay { at: 0, piece: Vec::new(), given: 0, reading: None });
    }

    /// Hands out what is kept; nothing when all has been, or nothing is to be handed out again.
    pub(crate) fn poll_replay(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.replay.is_none() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_room(cx));
        if let Some(error) = &self.error {
            return Poll::Ready(Err(io::Error::new(error.kind(), "the request could not be kept")));
        }
        let Some(replay) = &mut self.replay else { return Poll::Ready(Ok(0)) };
        if replay.at < self.in_file && replay.given == replay.piece.len() {
            let Some(file) = &self.file else {
                return Poll::Ready(Err(io::Error::other("the request's file is missing")));
            };
            let reading = replay.reading.get_or_insert_with(|| {
                let (file, at) = (Arc::clone(file), replay.at);
                let mut piece = std::mem::take(&mut replay.piece);
                replay.given = 0;
                // No more than is left.
                let length = (self.in_file - at).min(PIECE as u64) as usize;
                spawn_blocking(move || {
                    piece.resize(length, 0);
                    file.read_exact_at(&mut piece, at).map(|()| piece)
                })
            });
            let read = ready!(reading.poll_unpin(cx));
            replay.reading = None;
            replay.piece = read.unwrap_or_else(|panic| Err(io::Error::other(panic)))?;
        }
        let source = match replay.at.checked_sub(self.in_file) {
            // No more than is in memory.
            Some(past) => &self.tail[past as usize..],
            None => &replay.piece[replay.given..],
        };
        let count = source.len().min(out.remaining());
        out.put_slice(&source[..count]);
        if replay.at < self.in_file {
            replay.given += count;
        }
        replay.at += count as u64;
        if replay.at == self.in_file + self.tail.len() as u64 {
            self.replay = None;
        }
        Poll::Ready(Ok(count))
    }
}

impl Drop for ReplayBuffer {
    /// To close the file is to delete it, which takes the disk its time.
    fn drop(&mut self) {
        if let (Some(file), Ok(runtime)) = (self.file.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn replay(keep: &mut ReplayBuffer, buffer: usize) -> Vec<u8> {
        let (mut all, mut room) = (Vec::new(), vec![0; buffer]);
        loop {
            let mut out = ReadBuf::new(&mut room);
            if poll_fn(|cx| keep.poll_replay(cx, &mut out)).await.unwrap() == 0 {
                return all;
            }
            all.extend_from_slice(out.filled());
        }
    }

    #[tokio::test]
    async fn what_was_kept_comes_again_whole_however_often() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 17] {
            let request: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut keep = ReplayBuffer::new();
            let mut sent = 0;
            for part in request.chunks(60_000) {
                poll_fn(|cx| keep.poll_room(cx)).await;
                keep.record(part);
                sent += part.len();
                if sent % 7 == 0 {
                    keep.rewind();
                    assert!(replay(&mut keep, 9_999).await == request[..sent], "in the middle");
                }
            }
            for buffer in [1_000, 70_000] {
                keep.rewind();
                assert!(replay(&mut keep, buffer).await == request, "{length} bytes, {buffer} at a time");
            }
            assert_eq!(keep.length(), length as u64);
        }
    }
}

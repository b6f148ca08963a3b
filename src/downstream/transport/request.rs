//! The request in hand: its bytes as they come, recorded where they may have to be sent again.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::Transport;
use crate::{
    downstream::replay_buffer::ReplayBuffer,
    message::BodyFraming,
    net::{BEFORE, Buffer, MinRate},
};

/// Most bytes read ahead of the request in hand (pipelined requests), so that a closing client is noticed.
const READ_AHEAD: usize = 16 * 1024;

/// Requests up to this size are recorded for a second attempt without being asked to; whether a larger one is to be
/// recorded is not known before.
const RECORDED: u64 = 64 * 1024;

/// The record of the request in hand.
#[derive(Debug, Default)]
pub(super) struct Recording {
    buffer: Option<Box<ReplayBuffer>>,
    /// A part of the request was read and not recorded.
    is_incomplete: bool,
    /// The whole request is to be recorded.
    is_wanted: bool,
    /// Rate at which the client sends it (`min_rate`).
    rate: MinRate,
}

impl Transport {
    /// Whether all of the request in hand has arrived.
    pub(crate) fn has_whole_request(&self) -> bool {
        match &self.inbound {
            BodyFraming::Length(left) => *left <= self.received.len() as u64,
            other => other.is_done(),
        }
    }

    /// Whether all of the request's body has been handed out.
    pub(crate) fn has_read_body(&self) -> bool {
        self.inbound.is_done() && !self.replay.buffer.as_ref().is_some_and(|buffer| buffer.is_replaying())
    }

    /// Bytes of data that are sure to follow what has come, or the body is cut off: the rest of a chunk.
    pub(crate) fn announced(&self) -> u64 {
        match &self.inbound {
            BodyFraming::Chunked(chunks) => chunks.data_left().unwrap_or_default(),
            // A length is known before anything of it is taken.
            BodyFraming::Length(_) | BodyFraming::UntilClose => 0,
        }
    }

    /// Begins a request whose body ends there. What is read of it is recorded if it `may_repeat`, as far as it is small.
    pub(crate) fn begin(&mut self, body: BodyFraming, may_repeat: bool) {
        let has_body = !body.is_done();
        self.replay.buffer = (may_repeat && has_body).then(|| Box::new(ReplayBuffer::new()));
        self.replay.is_incomplete = !may_repeat && has_body;
        self.replay.is_wanted = false;
        self.inbound = body;
    }

    /// Drops what has arrived of the request in hand; whether that was all of it.
    pub(crate) fn skip_request(&mut self) -> bool {
        self.replay.buffer = None;
        let rest = self.inbound.count_valid(&self.received);
        self.received.advance(rest);
        self.inbound.is_done()
    }

    /// Whether what was read of the request in hand can be handed out again.
    pub(crate) fn is_replayable(&self) -> bool {
        !self.replay.is_incomplete && self.replay.buffer.as_ref().is_none_or(|buffer| buffer.is_good())
    }

    /// Records all of the request in hand, so that it can be sent again.
    pub(crate) fn keep_request(&mut self) {
        self.replay.is_wanted = true;
    }

    /// Notes that the request in hand will not be sent again.
    pub(crate) fn forget_request(&mut self) {
        self.replay.is_wanted = false;
    }

    /// Forgets what is recorded of a request that will not be sent again.
    pub(crate) fn forget_recorded(&mut self) {
        if self.replay.buffer.take().is_some() {
            self.replay.is_incomplete = true;
        }
    }

    /// Frees what is recorded of a request that has been read to its end.
    pub(crate) fn free_replay(&mut self) {
        self.replay.buffer = None;
    }

    /// Records up to `most` bytes in memory before a file is used.
    pub(crate) fn keep_in_memory(&mut self, most: usize) {
        if let Some(buffer) = &mut self.replay.buffer {
            buffer.in_memory = most;
        }
    }

    /// Waits until what was read of the request in hand is recorded.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub(crate) fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.replay.buffer {
            Some(buffer) => buffer.poll_written(cx),
            None => Poll::Ready(Err(io::ErrorKind::Other.into())),
        }
    }

    /// Whether all that was read of the request in hand is recorded.
    pub(crate) fn has_recorded(&self) -> bool {
        self.replay.is_wanted && self.replay.buffer.as_ref().is_some_and(|buffer| buffer.is_good())
    }

    /// Hands out the request in hand again, from its start.
    pub(crate) fn rewind(&mut self) {
        if let Some(buffer) = &mut self.replay.buffer {
            buffer.rewind();
        }
        // Until it is read from again, it is the servers that are waited for.
        self.replay.rate.waits_for_others();
    }

    /// Notes that nothing is expected of the client for now: the server has yet to ask for the body.
    pub(crate) fn waits_for_server(&mut self) {
        self.replay.rate.waits_for_others();
    }

    /// Ready when the client has left or closed its side, which is taken for the same, as in nginx. Only when its request
    /// has been read.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.received.len() < READ_AHEAD {
            if matches!(ready!(self.poll_read_ahead(cx)), Ok(0) | Err(_)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Reads the next data of the body into `buffer`, from [`BEFORE`] on and `most` bytes of it: what is recorded if the
    /// request is sent again, else what comes, which is recorded where that is wanted. No bytes: the body has ended.
    ///
    /// # Errors
    ///
    /// `InvalidData` for a malformed body, `UnexpectedEof` where the client left before its end.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(replay) = &mut self.replay.buffer {
            if replay.is_replaying() {
                return replay.poll_replay(cx, &mut ReadBuf::new(&mut buffer.room()[..most]));
            }
            if replay.length() > RECORDED && !self.replay.is_wanted {
                (self.replay.buffer, self.replay.is_incomplete) = (None, true);
            } else {
                ready!(replay.poll_room(cx));
            }
        }
        let data = ready!(self.poll_new_body(cx, buffer, most))?;
        if let Some(replay) = &mut self.replay.buffer {
            replay.record(&buffer[BEFORE..BEFORE + data]);
        }
        Poll::Ready(Ok(data))
    }

    fn poll_new_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        while !self.inbound.is_done() {
            let read = if self.received.is_empty() {
                ready!(self.poll_receive_body(cx, &mut buffer.room()[..most]))?
            } else {
                let read = self.received.len().min(most);
                buffer.room()[..read].copy_from_slice(&self.received[..read]);
                self.received.advance(read);
                read
            };
            if read == 0 {
                if self.close.is_tunnel || self.wire()?.has_ended_body() {
                    self.inbound = BodyFraming::Length(0);
                    break;
                }
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let end = BEFORE + read;
            let (data, taken) = self.inbound.unframe(&mut buffer[BEFORE..end]).map_err(|_| malformed())?;
            if taken < read {
                // What follows the body is the next request's.
                let rest = BytesMut::from(&buffer[BEFORE + taken..end]);
                let behind = std::mem::replace(&mut self.received, rest);
                self.received.extend_from_slice(&behind);
            }
            if data > 0 {
                return Poll::Ready(Ok(data));
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Reads what follows the request in hand, for as long as there is not plenty of it.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::take();
        let mut room = ReadBuf::new(&mut buffer.room()[..READ_AHEAD]);
        ready!(self.wire()?.poll_read(cx, &mut room))?;
        self.received.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Reads into `room` no more than surely belongs to the request; chunks have to be looked at.
    fn poll_receive_body(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let most = match self.inbound {
            BodyFraming::UntilClose => room.len(),
            BodyFraming::Length(left) => room.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            BodyFraming::Chunked(_) => room.len().min(READ_AHEAD),
        };
        let mut part = ReadBuf::new(&mut room[..most]);
        let received = self.wire()?.poll_read_body(cx, &mut part);
        if self.close.is_tunnel {
            return received.map_ok(|()| part.filled().len());
        }
        match received {
            Poll::Pending => self.replay.rate.waits(),
            Poll::Ready(_) => self.replay.rate.moved(part.filled().len() as u64, self.min_rate)?,
        }
        ready!(received)?;
        Poll::Ready(Ok(part.filled().len()))
    }
}

/// Error for bytes that are no body; nothing after them is a request.
fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

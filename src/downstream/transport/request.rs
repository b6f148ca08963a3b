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
    message::{BodyFraming, Request},
    net::{Buffer, MinRate},
};

/// Most bytes read ahead of the request in hand (pipelined requests), so that a closing client is noticed.
const READ_AHEAD: usize = 16 * 1024;

/// Requests up to this size are recorded for a second attempt without being asked to; whether a larger one is to be
/// recorded is not known before.
const RECORDED: u64 = 64 * 1024;

/// What is recorded of the request in hand.
#[derive(Debug, Default)]
pub(super) struct Recording {
    buffer: Option<Box<ReplayBuffer>>,
    /// A part of the request was read and not recorded.
    is_incomplete: bool,
    /// All of the request is to be recorded.
    is_wanted: bool,
    /// How fast the client sends it.
    rate: MinRate,
}

impl Transport {
    /// Whether all of the request in hand has arrived.
    pub(crate) fn has_whole_request(&self) -> bool {
        match self.to_come() {
            BodyFraming::Length(left) => *left <= self.received.len() as u64,
            other => other.is_done(),
        }
    }

    /// How much of the request in hand is still to come from the client, whatever is handed out again before.
    fn to_come(&self) -> &BodyFraming {
        self.replay.buffer.as_ref().and_then(|buffer| buffer.then()).unwrap_or(&self.inbound)
    }

    /// Begins a request whose body ends there. What is read of it is recorded if it `may_repeat`, as far as it is small.
    pub(crate) fn begin(&mut self, body: BodyFraming, may_repeat: bool) {
        let has_body = !body.is_done();
        self.replay.buffer = (may_repeat && has_body).then(|| Box::new(ReplayBuffer::new(body.clone())));
        self.replay.is_incomplete = !may_repeat && has_body;
        self.replay.is_wanted = false;
        self.inbound = body;
    }

    /// Has the head of a request without a body read again, by pingora.
    pub(crate) fn hand_over(&mut self, request: &Request) {
        let head = request.in_origin_form();
        let mut received = BytesMut::with_capacity(head.len() + self.received.len());
        received.extend_from_slice(&head);
        received.extend_from_slice(&self.received);
        (self.received, self.inbound) = (received, BodyFraming::Length(head.len() as u64));
    }

    /// Drops what has arrived of the request in hand; whether that was all of it.
    pub(crate) fn skip_request(&mut self) -> bool {
        self.inbound = self.to_come().clone();
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
            buffer.rewind(&self.inbound);
            self.inbound = buffer.whole.clone();
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

    /// Hands out what is recorded if the request is sent again, else what comes, which is recorded where that is wanted.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(buffer) = &mut self.replay.buffer else { return self.poll_receive_new(cx, out) };
        if buffer.length() > RECORDED && !self.replay.is_wanted && !buffer.is_replaying() {
            (self.replay.buffer, self.replay.is_incomplete) = (None, true);
            return self.poll_receive_new(cx, out);
        }
        let start = out.filled().len();
        if ready!(buffer.poll_replay(cx, out))? > 0 {
            self.inbound.count_valid(&out.filled()[start..]);
            return Poll::Ready(Ok(()));
        }
        ready!(buffer.poll_room(cx));
        let received = self.poll_receive_new(cx, out);
        if let Some(buffer) = &mut self.replay.buffer {
            buffer.record(&out.filled()[start..]);
        }
        received
    }

    fn poll_receive_new(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if out.remaining() == 0 || self.hand_out(out) {
                return Poll::Ready(Ok(()));
            }
            if self.inbound.is_malformed() {
                return Poll::Ready(Err(malformed()));
            }
            if self.received.is_empty() && !self.inbound.is_done() {
                // Past the head, bodies go straight to who reads them.
                return self.poll_receive_body(cx, out);
            }
            if self.received.len() >= READ_AHEAD {
                // The client has sent plenty of its next requests: it is there, and nothing more is wanted.
                return Poll::Pending;
            }
            if ready!(self.poll_read_ahead(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Hands out received bytes that belong to the request; false when there are none.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let offered = self.received.len().min(out.remaining());
        let taken = self.inbound.count_valid(&self.received[..offered]);
        out.put_slice(&self.received[..taken]);
        self.received.advance(taken);
        taken > 0
    }

    /// Reads what follows the request in hand, for as long as there is not plenty of it.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::take();
        let mut room = ReadBuf::new(&mut buffer.room()[..READ_AHEAD]);
        ready!(self.wire()?.poll_read(cx, &mut room))?;
        self.received.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Reads without a copy as much as surely belongs to the request; chunks have to be looked at.
    fn poll_receive_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = match self.inbound {
            BodyFraming::UntilClose => out.remaining(),
            BodyFraming::Length(left) => out.remaining().min(usize::try_from(left).unwrap_or(usize::MAX)),
            BodyFraming::Chunked(_) => out.remaining().min(READ_AHEAD),
        };
        let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
        let received = self.wire()?.poll_read(cx, &mut part);
        if self.inbound != BodyFraming::UntilClose {
            match received {
                Poll::Pending => self.replay.rate.waits(),
                Poll::Ready(_) => self.replay.rate.moved(part.filled().len() as u64, self.min_rate)?,
            }
        }
        ready!(received)?;
        let read = part.filled().len();
        let ours = self.inbound.count_valid(part.filled());
        // What follows the last chunk is the next request's.
        self.received.extend_from_slice(&part.filled()[ours..]);
        out.advance(ours);
        Poll::Ready(if ours == 0 && read > 0 { Err(malformed()) } else { Ok(()) })
    }
}

/// What comes is no body, and what follows it is no request.
fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

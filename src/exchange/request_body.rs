//! The body of a request on its way to a server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    downstream::Transport,
    exchange::{Error, admit, failure, read_size::ReadSize},
    message::{BodyFraming, Pipe, PipeStep},
    net::{BEFORE, Buffer},
    upstream::ServerConnection,
};

/// The body of a request on its way.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pipe: Pipe,
    /// What of it may still come, and the limit that this was at first.
    left: Option<(u64, u64)>,
    /// The server takes no more of it, or gets no more.
    refused: Option<io::Error>,
    /// Who is waited for.
    pub(crate) waits_for: WaitsFor,
    /// The client waits to be asked for the body (RFC 9110 §10.1.1), and has sent nothing of it.
    awaits_continue: bool,
    /// The head has not been sent, and may go with the first of the body.
    with_head: bool,
    /// How often it has moved on.
    moved: u64,
    read_size: ReadSize,
}

/// Who is waited for while a body is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    Client,
    Server,
}

impl RequestBody {
    /// A body that ends as `framing` says, and is refused past `most` bytes. One that comes in chunks is sent without
    /// them where its `length` is known.
    pub(crate) fn new(framing: &BodyFraming, length: Option<u64>, most: Option<u64>) -> Self {
        let is_chunked = matches!(framing, BodyFraming::Chunked(_));
        let pipe = Pipe::new(framing.clone(), is_chunked && length.is_none());
        let left = most.map(|most| (most, most));
        Self {
            pipe,
            left,
            refused: None,
            waits_for: WaitsFor::Server,
            awaits_continue: false,
            with_head: true,
            moved: 0,
            read_size: ReadSize::of_server(),
        }
    }

    /// Notes that the client waits for a 100 (Continue) before it sends the body: until that comes from the server, it is
    /// the server that is waited for.
    pub(crate) fn await_continue(&mut self) {
        self.awaits_continue = !self.pipe.is_done();
    }

    /// Whether the client still waits to be asked for the body.
    pub(crate) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// Notes that the client has been asked for the body.
    pub(crate) fn continued(&mut self) {
        self.awaits_continue = false;
    }

    /// Whether all of it has been read from the client.
    pub(crate) fn is_read(&self) -> bool {
        self.pipe.is_done()
    }

    /// Whether the server has taken all of it.
    pub(crate) fn is_sent(&self, server: &ServerConnection) -> bool {
        self.pipe.is_done() && self.refused.is_none() && server.outbound.is_empty()
    }

    /// Nothing more of it is read or sent, and it never counts as sent.
    pub(crate) fn give_up(&mut self) {
        self.refused.get_or_insert(io::ErrorKind::InvalidData.into());
    }

    /// How often it has moved on.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves on as far as both sides let it; ready when there is no more to do.
    ///
    /// # Errors
    ///
    /// What is wrong on the client's side. A server that takes no more may have an answer on its way.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        server: &mut ServerConnection,
    ) -> Poll<Result<(), Error>> {
        loop {
            if self.refused.is_some() {
                return Poll::Ready(Ok(()));
            }
            if (!self.with_head || self.pipe.is_done()) && ready!(self.poll_flush(cx, server)).is_err() {
                continue;
            }
            if self.pipe.is_done() {
                return Poll::Ready(Ok(()));
            }
            self.waits_for = if self.awaits_continue { WaitsFor::Server } else { WaitsFor::Client };
            let mut buffer = Buffer::take();
            let mut room = ReadBuf::new(&mut buffer.room()[..self.read_size.most()]);
            let received = Pin::new(&mut *transport).poll_read(cx, &mut room);
            if received.is_pending() && self.awaits_continue {
                transport.waits_for_server();
            }
            if received.is_pending() && std::mem::take(&mut self.with_head) {
                continue;
            }
            let received = ready!(received);
            self.with_head = false;
            let read = room.filled().len();
            let taken = self.take(received, &mut buffer, read)?;
            self.waits_for = WaitsFor::Server;
            let offered = server.poll_offer(cx, &buffer[taken.out]);
            self.read_size.fed();
            if offered.is_pending() {
                self.read_size.blocked();
            }
            if let Err(error) = ready!(offered) {
                self.refused = Some(error);
            }
        }
    }

    /// Takes what was read into `buffer`.
    ///
    /// # Errors
    ///
    /// What is wrong on the client's side.
    pub(crate) fn take(
        &mut self,
        received: io::Result<()>,
        buffer: &mut Buffer,
        read: usize,
    ) -> Result<PipeStep, Error> {
        received.map_err(|error| stopped(&error))?;
        self.moved += 1;
        self.awaits_continue = false;
        if read == 0 {
            return Err(Error::ClientLeft);
        }
        let taken = self.pipe.take(buffer, BEFORE..BEFORE + read);
        let taken = taken.map_err(|_| Error::Refused(failure::bad_request()))?;
        if let Some((left, limit)) = &mut self.left {
            match left.checked_sub(taken.data as u64) {
                Some(rest) if self.pipe.announced() <= rest => *left = rest,
                _ => return Err(Error::Refused(admit::too_large(*limit))),
            }
        }
        Ok(taken)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, server: &mut ServerConnection) -> Poll<Result<(), ()>> {
        self.waits_for = WaitsFor::Server;
        let unsent = server.outbound.len();
        let flushed = server.poll_flush(cx);
        // Each part that the server takes counts, and the time of the client begins after the last.
        self.moved += u64::from(server.outbound.len() < unsent);
        ready!(flushed).map_or_else(
            |error| {
                self.refused = Some(error);
                Poll::Ready(Err(()))
            },
            |()| {
                self.read_size.relieved();
                Poll::Ready(Ok(()))
            },
        )
    }
}

/// The client's side is broken, or has lost our patience.
fn stopped(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => Error::Refused(failure::body_too_slow()),
        io::ErrorKind::InvalidData => Error::Refused(failure::bad_request()),
        _ => Error::ClientLeft,
    }
}

//! The body of a request on its way to a server.

use std::{
    io,
    task::{Context, Poll, ready},
};

use crate::{
    downstream::Transport,
    exchange::{Error, admit, failure, read_size::ReadSize},
    message::{BodyFraming, chunk},
    net::{BEFORE, Buffer},
    upstream::ServerConnection,
};

/// The body of a request on its way to one server.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// The server gets it in chunks.
    in_chunks: bool,
    /// The client has sent all of it.
    is_read: bool,
    /// Bytes that may still come, and the limit that this was at first (`max_body`).
    left: Option<(u64, u64)>,
    /// Why the server takes no more of it, or gets no more.
    refused: Option<io::Error>,
    /// Side that is waited for.
    pub(super) waits_for: WaitsFor,
    /// The client waits to be asked for the body (RFC 9110 §10.1.1), and has sent nothing of it.
    awaits_continue: bool,
    /// The head has not been sent, and may go with the first of the body.
    with_head: bool,
    /// The body waits until the server has read the head: if the server then resets the connection, it has not begun with
    /// the request.
    after_head: bool,
    /// The first part of the body, which waits for that.
    held_back: Option<Box<[u8]>>,
    /// The server may have got some of the body.
    is_begun: bool,
    /// It is a call, whose client may be silent for as long as the server.
    is_call: bool,
    /// What is read of the body is recorded only until some of it is sent.
    forgets_when_begun: bool,
    /// Steps of progress, on either side.
    moved: u64,
    read_size: ReadSize,
}

/// Side that is waited for while a body is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    Client,
    Server,
}

impl RequestBody {
    /// A body that ends as `framing` says, and is refused past `most` bytes. One without a length is sent in chunks unless
    /// its `length` has become known.
    pub(super) fn new(framing: &BodyFraming, length: Option<u64>, most: Option<u64>) -> Self {
        Self {
            in_chunks: !matches!(framing, BodyFraming::Length(_)) && length.is_none(),
            is_read: framing.is_done(),
            left: most.map(|most| (most, most)),
            refused: None,
            waits_for: WaitsFor::Server,
            awaits_continue: false,
            with_head: true,
            after_head: false,
            held_back: None,
            is_begun: false,
            is_call: false,
            forgets_when_begun: false,
            moved: 0,
            read_size: ReadSize::of_server(),
        }
    }

    /// Has the body wait until the server has read the head. Unless the request `may_repeat`, what is recorded of it is
    /// forgotten once that has happened.
    pub(super) fn follow_head(&mut self, may_repeat: bool) {
        (self.after_head, self.forgets_when_begun) = (true, !may_repeat);
    }

    /// Notes that the client may be silent for as long as the server (`read_timeout`), and slow.
    pub(super) fn outlasts_client(&mut self) {
        self.is_call = true;
    }

    /// Whether the client may be silent for as long as the server.
    pub(super) fn is_call(&self) -> bool {
        self.is_call
    }

    /// Whether the server may have got some of the body.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether the server has yet to read the head: all that it gets before lies there.
    pub(super) fn waits_for_head(&self) -> bool {
        self.held_back.is_some()
    }

    /// Notes that the client waits for a 100 (Continue) before it sends the body: until that comes from the server, it is
    /// the server that is waited for.
    pub(super) fn await_continue(&mut self) {
        self.awaits_continue = !self.is_read;
    }

    /// Whether the client still waits to be asked for the body.
    pub(super) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// Notes that the client has been asked for the body.
    pub(super) fn continued(&mut self) {
        self.awaits_continue = false;
    }

    /// Whether all of it has been read from the client.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Whether the server has taken all of it.
    pub(super) fn is_sent(&self, server: &ServerConnection) -> bool {
        self.is_read && self.held_back.is_none() && self.refused.is_none() && server.outbound.is_empty()
    }

    /// Stops reading and sending it; it never counts as sent.
    pub(super) fn give_up(&mut self) {
        self.refused.get_or_insert(io::ErrorKind::InvalidData.into());
    }

    /// Steps of progress so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Passes on as much as both sides allow; ready when there is no more to do.
    ///
    /// # Errors
    ///
    /// The client's fault. A server that takes no more may have a response on its way.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        server: &mut ServerConnection,
    ) -> Poll<Result<(), Error>> {
        loop {
            if self.refused.is_some() {
                return Poll::Ready(Ok(()));
            }
            if (!self.with_head || self.is_read) && ready!(self.poll_flush(cx, server)).is_err() {
                continue;
            }
            if ready!(self.poll_begin(cx, transport, server)) {
                continue;
            }
            if self.is_read {
                return Poll::Ready(Ok(()));
            }
            self.waits_for = if self.awaits_continue { WaitsFor::Server } else { WaitsFor::Client };
            let mut buffer = Buffer::take();
            let read = self.poll_read(cx, transport, &mut buffer, self.read_size.most());
            if read.is_pending() && (self.awaits_continue || self.is_call) {
                transport.waits_for_server();
            }
            if read.is_pending() && std::mem::take(&mut self.with_head) {
                continue;
            }
            let data = ready!(read)?;
            self.with_head = false;
            self.waits_for = WaitsFor::Server;
            if self.is_read
                && server.is_http2()
                && let Some(trailers) = transport.trailers()
            {
                server.set_trailers(trailers.clone());
            }
            let part = match self.in_chunks {
                true => chunk(&mut buffer, BEFORE, data, self.is_read),
                false => BEFORE..BEFORE + data,
            };
            if self.after_head {
                // Of its own size: many may wait, and for long.
                self.held_back = Some(buffer[part].into());
                continue;
            }
            self.is_begun = true;
            let offered = server.poll_offer(cx, &buffer[part]);
            self.read_size.fed();
            if offered.is_pending() {
                self.read_size.blocked();
            }
            if let Err(error) = ready!(offered) {
                self.refused = Some(error);
            }
        }
    }

    /// Reads the next data into `buffer`, from [`BEFORE`] on; no bytes at the end.
    ///
    /// # Errors
    ///
    /// The client's fault.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        buffer: &mut Buffer,
        most: usize,
    ) -> Poll<Result<usize, Error>> {
        let read = transport.poll_body(cx, buffer, most);
        if let Some((left, limit)) = &mut self.left {
            let data = if let Poll::Ready(Ok(data)) = read { data as u64 } else { 0 };
            match left.checked_sub(data) {
                Some(rest) if transport.announced() <= rest => *left = rest,
                _ => return Poll::Ready(Err(Error::Refused(admit::too_large(*limit)))),
            }
        }
        let data = ready!(read).map_err(|error| client_error(&error))?;
        self.moved += 1;
        self.awaits_continue = false;
        self.is_read = transport.has_read_body();
        Poll::Ready(Ok(data))
    }

    /// Sends the part that was held back, once the server has read the head; false where none is.
    fn poll_begin(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        server: &mut ServerConnection,
    ) -> Poll<bool> {
        let Some(part) = &self.held_back else { return Poll::Ready(false) };
        let begun = server.poll_begin_body(cx, part);
        if begun.is_pending() {
            transport.waits_for_server();
        }
        let begun = ready!(begun);
        (self.held_back, self.after_head) = (None, false);
        match begun {
            Ok(()) => {
                self.is_begun = true;
                self.moved += 1;
                if self.forgets_when_begun {
                    transport.forget_recorded();
                }
            }
            Err(error) => self.refused = Some(error),
        }
        Poll::Ready(true)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, server: &mut ServerConnection) -> Poll<Result<(), ()>> {
        self.waits_for = WaitsFor::Server;
        let unsent = server.outbound.len();
        let flushed = match self.after_head {
            true => server.poll_flush_head(cx),
            false => server.poll_flush(cx),
        };
        // Each part that the server takes is progress, and the client's time begins after the last.
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

/// An error of the client's connection: it left, is too slow (`min_rate`), or sent a malformed body.
fn client_error(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut => Error::Refused(failure::body_too_slow()),
        io::ErrorKind::InvalidData => Error::Refused(failure::bad_request()),
        _ => Error::ClientLeft,
    }
}

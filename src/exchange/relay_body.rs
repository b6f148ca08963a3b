//! The body of a response on its way to the client, while the rest of the request may still be on its own.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BufMut;
use tokio::{io::AsyncWrite, time::Instant};

use crate::{
    cache::Recorder,
    compress::StreamEncoder,
    downstream::Transport,
    exchange::{
        Error, read_size::ReadSize, request_body::RequestBody, response_wait::ProgressTimeout,
        stream_end::StreamEnd,
    },
    message::Pipe,
    upstream::{ServerConnection, retry::Failure},
};

/// Longest time that a response head waits for the first bytes of its body. Applications send the two one after the
/// other: they leave together then, and a server that dies in between can still be replaced by another.
const BODY_FOLLOWS: Duration = Duration::from_millis(5);

/// Why relaying stopped.
#[derive(Debug)]
pub(super) enum RelayEnd {
    /// The server has sent all; the transport still holds what the client has not taken.
    Done,
    /// The same for an event stream that was ended before its server did.
    Cut,
    /// The client left, or takes nothing.
    ClientLeft(Option<io::Error>),
    /// The server broke off, or sent a malformed body.
    Failed(Failure),
}

/// Progress of one step.
enum Step {
    /// There may be more to do at once.
    Again,
    /// There is nothing else to do before the body of the server is read on.
    Read,
}

/// A response body between a server and a client.
pub(super) struct BodyRelay<'a> {
    pub(super) transport: &'a mut Transport,
    pub(super) server: &'a mut ServerConnection,
    pub(super) request_body: &'a mut RequestBody,
    /// The framing on both sides.
    pub(super) pipe: Pipe,
    /// The content coding that is applied, if any; `pipe` writes no chunks then.
    pub(super) encoder: Option<Box<StreamEncoder>>,
    /// Records the content for the cache.
    pub(super) recorder: Option<Box<Recorder>>,
    /// When the stream of events ends before the server ends it.
    pub(super) stream_end: Option<StreamEnd>,
    /// Longest pause of the server.
    pub(super) read_timeout: Duration,
    read_size: ReadSize,
    progress: ProgressTimeout,
    /// Until when the head waits for the first of the body.
    head_waits: Option<Instant>,
    /// The client has not taken what was offered last.
    is_blocked: bool,
    /// Something of the response may have gone to the client.
    pub(super) has_begun: bool,
    /// Bytes of the body passed on.
    pub(super) bytes: u64,
}

impl<'a> BodyRelay<'a> {
    pub(super) fn new(
        transport: &'a mut Transport,
        server: &'a mut ServerConnection,
        request_body: &'a mut RequestBody,
        pipe: Pipe,
        encoder: Option<Box<StreamEncoder>>,
        read_timeout: Duration,
    ) -> Self {
        Self {
            transport,
            server,
            request_body,
            pipe,
            encoder,
            recorder: None,
            stream_end: None,
            read_timeout,
            read_size: ReadSize::of_client(),
            progress: ProgressTimeout::default(),
            head_waits: None,
            is_blocked: false,
            has_begun: false,
            bytes: 0,
        }
    }

    /// Relays until the server has sent all.
    pub(super) async fn run(&mut self) -> RelayEnd {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if let Err(end) = self.send_request_body(cx) {
            return Poll::Ready(end);
        }
        loop {
            if self.has_begun && self.request_body.is_read() {
                // The request will not be sent again.
                self.transport.free_replay();
            }
            if let Err(end) = ready!(self.poll_step(cx)) {
                return Poll::Ready(end);
            }
        }
    }

    /// Moves the body of the request on as far as that goes without waiting.
    fn send_request_body(&mut self, cx: &mut Context<'_>) -> Result<(), RelayEnd> {
        let unsent = self.transport.outbound().len();
        let sent = self.request_body.poll(cx, self.transport, self.server);
        // A transport that has nothing to read sends what is written.
        self.has_begun |= self.transport.outbound().len() < unsent;
        match sent {
            Poll::Ready(Err(Error::ClientLeft)) => return Err(RelayEnd::ClientLeft(None)),
            // The client gets the response all the same; the server must not take a part of the body for the whole.
            Poll::Ready(Err(_)) => self.request_body.give_up(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }

    /// Takes one step: waits for the client where it is behind, then for content to encode, then for the server.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayEnd>> {
        if self.is_blocked {
            ready!(self.poll_flush(cx))?;
            self.is_blocked = false;
            self.read_size.relieved();
        }
        if let Step::Again = ready!(self.poll_encoded(cx))? {
            return Poll::Ready(Ok(()));
        }
        if self.stream_end.as_mut().is_some_and(|end| end.poll(cx).is_ready()) {
            self.transport.outbound().put_slice(self.pipe.cut());
            return Poll::Ready(Err(RelayEnd::Cut));
        }
        if self.server.rest().is_empty()
            && let Step::Again = ready!(self.poll_server(cx))?
        {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.pass_on(cx))
    }

    /// Sends what the encoder has made. Ends where the whole body has been passed on.
    fn poll_encoded(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, RelayEnd>> {
        let Some(encoder) = &mut self.encoder else {
            return Poll::Ready(if self.pipe.is_done() { Err(RelayEnd::Done) } else { Ok(Step::Read) });
        };
        let encoded = match ready!(encoder.poll(cx)) {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::error!(%error, "cannot compress a response");
                return Poll::Ready(Err(RelayEnd::Failed(Failure::WithinResponse)));
            }
        };
        let is_last = encoder.is_finished();
        if !encoded.is_empty() || is_last {
            self.bytes += encoded.len() as u64;
            match self.transport.poll_offer(cx, &chunk(&encoded, is_last)) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(RelayEnd::ClientLeft(Some(error)))),
                // The transport keeps what the client has not taken.
                Poll::Ready(Ok(())) | Poll::Pending if is_last => return Poll::Ready(Err(RelayEnd::Done)),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => {
                    self.blocked();
                    return Poll::Ready(Ok(Step::Again));
                }
            }
        }
        if self.pipe.is_done() {
            encoder_result(encoder.finish())?;
            return Poll::Ready(Ok(Step::Again));
        }
        Poll::Ready(Ok(Step::Read))
    }

    /// Reads more of the body. While nothing comes, what has come so far goes to the client.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, RelayEnd>> {
        if self.recorder.as_mut().is_some_and(|recorder| recorder.poll_ready(cx).is_pending()) {
            return self.poll_pause(cx);
        }
        match self.server.poll_more(cx, self.read_size.most()) {
            Poll::Ready(Ok(0)) => {
                let Some(last) = self.pipe.end() else {
                    return Poll::Ready(Err(RelayEnd::Failed(Failure::BeforeResponse)));
                };
                self.transport.outbound().put_slice(last);
                Poll::Ready(Ok(Step::Again))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Step::Read)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(RelayEnd::Failed(Failure::BeforeResponse))),
            Poll::Pending if !self.has_begun => {
                let deadline = *self.head_waits.get_or_insert_with(|| Instant::now() + BODY_FOLLOWS);
                ready!(self.transport.alarm.poll(cx, deadline));
                self.has_begun = true;
                Poll::Ready(Ok(Step::Again))
            }
            Poll::Pending => self.poll_pause(cx),
        }
    }

    /// The server pauses: the client gets all that the server has sent so far, and neither is waited for without end.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, RelayEnd>> {
        if let Some(encoder) = self.encoder.as_mut().filter(|encoder| encoder.is_open()) {
            encoder_result(encoder.flush())?;
            return Poll::Ready(Ok(Step::Again));
        }
        ready!(self.poll_flush(cx))?;
        if self.request_body.is_read() && self.transport.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(RelayEnd::ClientLeft(None)));
        }
        let so_far = self.bytes + self.request_body.moved();
        let over = self.progress.poll(cx, self.transport, so_far, self.read_timeout);
        over.map(|()| Err(RelayEnd::Failed(Failure::ReadTimeout)))
    }

    /// Passes on what was read of the body.
    fn pass_on(&mut self, cx: &mut Context<'_>) -> Result<(), RelayEnd> {
        let Some((mut buffer, range)) = self.server.take_rest() else { return Ok(()) };
        let (start, end) = (range.start, range.end);
        let taken = self.pipe.take(&mut buffer, range).map_err(|_| RelayEnd::Failed(Failure::Malformed))?;
        self.has_begun = true;
        if self.pipe.is_done()
            && let Some(trailers) = self.server.take_trailers()
        {
            self.transport.set_trailers(trailers);
        }
        if let Some(recorder) = &mut self.recorder {
            // A chunk is made around the content, which stays where it is.
            recorder.write(&buffer[start..start + taken.data]);
        }
        if let Some(end) = &mut self.stream_end {
            end.pass(&buffer[start..start + taken.data]);
        }
        if let Some(encoder) = &mut self.encoder {
            encoder_result(encoder.write(&buffer[taken.out]))?;
        } else {
            self.bytes += taken.data as u64;
            match self.transport.poll_offer(cx, &buffer[taken.out]) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(RelayEnd::ClientLeft(Some(error))),
                Poll::Pending => {
                    self.blocked();
                    // The last of it is flushed by whoever relays.
                    self.is_blocked = !self.pipe.is_done();
                }
            }
        }
        self.read_size.fed();
        // Bytes past the body belong to nobody: the connection is not used again.
        self.server.unread(buffer, start + taken.taken..end);
        Ok(())
    }

    fn blocked(&mut self) {
        self.is_blocked = true;
        self.read_size.blocked();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayEnd>> {
        Pin::new(&mut *self.transport).poll_flush(cx).map_err(|error| RelayEnd::ClientLeft(Some(error)))
    }
}

fn encoder_result<E>(result: Result<(), E>) -> Result<(), RelayEnd> {
    result.map_err(|_| RelayEnd::Failed(Failure::WithinResponse))
}

/// Encoded content as a chunk, followed by the last chunk at the end (RFC 9112 §7.1).
fn chunk(encoded: &[u8], is_last: bool) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(encoded.len() + 32);
    if !encoded.is_empty() {
        chunk.extend_from_slice(format!("{:x}\r\n", encoded.len()).as_bytes());
        chunk.extend_from_slice(encoded);
        chunk.extend_from_slice(b"\r\n");
    }
    if is_last {
        chunk.extend_from_slice(b"0\r\n\r\n");
    }
    chunk
}

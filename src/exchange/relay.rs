//! A server's answer on its way to the client, while the rest of the request may still be on its own.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

use crate::{
    compress::{self, StreamEncoder},
    downstream::Transport,
    exchange::{
        Exchange,
        attempt::{AttemptEnd, ProgressTimeout},
        failure, internal_redirect,
        read_size::ReadSize,
        record::Sent,
        request_body::{RequestBody, Stopped},
        respond::write_date,
        response_head, select,
    },
    files::archive,
    message::{BodyFraming, EditHeaders, HeaderEdits, Pipe, ResponseHead},
    upstream::{
        ServerConnection,
        retry::{Decision, Failure},
    },
};

/// Most bytes of a body that nobody wants which are read to keep the connection.
const MOST_SKIPPED: usize = 64 * 1024;

/// How long the head of an answer waits for the first of its body. Applications send them one after the other: so they
/// leave together, and a server that dies in between is none that has answered.
const BODY_FOLLOWS: Duration = Duration::from_millis(5);

/// How far an answer has come.
#[derive(Debug, Default)]
struct Progress {
    /// Something of it may have gone to the client.
    begun: bool,
    /// Bytes of its body.
    bytes: u64,
}

/// How relaying ends.
enum RelayEnd {
    /// The server has said all.
    Done,
    /// The client has left, or takes nothing.
    ClientLeft(Option<io::Error>),
    /// The server has broken off, or speaks nonsense.
    Failed(Failure),
}

impl Exchange<'_> {
    /// Passes on an interim answer (RFC 9110 §15.2).
    pub(crate) async fn pass_on_interim(&mut self, head: &ResponseHead) -> Result<(), AttemptEnd> {
        if self.request.head.version == Version::HTTP_10 {
            // It knows of none.
            return Ok(());
        }
        let mut fields = HeaderEdits::new(&head.lines);
        response_head::hide(&mut fields);
        let out = self.transport.outbound();
        write_status(out, head);
        fields.write(out);
        out.put_slice(b"\r\n");
        self.transport.flush().await.map_err(|_| AttemptEnd::Silently(Sent::nothing()))
    }

    /// Passes on an answer.
    pub(crate) async fn relay(
        &mut self,
        mut server: ServerConnection,
        mut upload: RequestBody,
        head: &ResponseHead,
        framing: BodyFraming,
        mut fields: HeaderEdits<'_>,
    ) -> Result<Sent, AttemptEnd> {
        let status = head.status;
        response_head::pass_on(status, &mut fields, self.exchange);
        let mut squeeze = self.squeeze(status, &mut fields);
        // Where an answer ends with its connection, the client's need not: it gets chunks, if it knows them.
        let is_open = !matches!(framing, BodyFraming::Length(_));
        let has_body = !framing.is_done();
        let chunks =
            (is_open || (squeeze.is_some() && has_body)) && self.request.head.version != Version::HTTP_10;
        self.persists &= upload.is_read() && (chunks || !is_open);
        let (connection, now) = (self.connection(), self.now());
        let out = self.transport.outbound();
        write_status(out, head);
        fields.write(out);
        if fields.get(&header::DATE).is_none() {
            write_date(out, now);
        }
        if chunks {
            out.put_slice(b"Transfer-Encoding: chunked\r\n");
        }
        out.put_slice(connection);
        out.put_slice(b"\r\n");

        // What is coded is put into chunks afterwards.
        let mut pipe = Pipe::new(framing, chunks && squeeze.is_none());
        if !has_body {
            squeeze = None;
        }
        let mut progress = Progress::default();
        let end = self.relay_body(&mut server, &mut upload, &mut pipe, squeeze, &mut progress).await;
        let bytes = progress.bytes;
        let end = match end {
            RelayEnd::Done => {
                // The server has done its part: its place is free, however long the client takes over the rest.
                self.exchange.lease = None;
                self.keep(server, &upload, head);
                self.persists &= upload.is_read();
                match self.transport.flush().await {
                    Ok(()) => return Ok(Sent { status, bytes }),
                    Err(error) => RelayEnd::ClientLeft(Some(error)),
                }
            }
            end => end,
        };
        match end {
            RelayEnd::Failed(failure) if !progress.begun => {
                // The client knows nothing of this answer, and may get another.
                self.transport.outbound().clear();
                self.exchange.answered = false;
                return Err(self.failed(failure));
            }
            RelayEnd::Failed(_) => {
                self.failed(Failure::WithinAnswer);
            }
            RelayEnd::ClientLeft(Some(error)) => {
                tracing::debug!(%error, "the client did not take all of its answer");
            }
            RelayEnd::ClientLeft(None) | RelayEnd::Done => {}
        }
        if is_open && !chunks {
            // What ends with the connection must not seem to have ended well.
            self.transport.reset_at_close();
        }
        let unsent = self.transport.outbound().len() as u64;
        Err(AttemptEnd::Silently(Sent { status, bytes: bytes.saturating_sub(unsent) }))
    }

    /// Relays until the server has said all, and what the client has not taken by then is on our hands.
    async fn relay_body(
        &mut self,
        server: &mut ServerConnection,
        upload: &mut RequestBody,
        pipe: &mut Pipe,
        mut squeeze: Option<Box<StreamEncoder>>,
        progress: &mut Progress,
    ) -> RelayEnd {
        let mut patience = ProgressTimeout::default();
        let mut wait_until = None;
        let mut appetite = ReadSize::of_client();
        let read_timeout = select::read_timeout(self.exchange);
        let transport = &mut *self.transport;
        // What was offered last has not been taken.
        let mut blocked = false;
        poll_fn(|cx| {
            let unsent = transport.outbound().len();
            let uploaded = upload.poll(cx, transport, server);
            // A transport that has nothing to read sends what is written.
            progress.begun |= transport.outbound().len() < unsent;
            match uploaded {
                Poll::Ready(Err(Stopped::ClientLeft)) => return Poll::Ready(RelayEnd::ClientLeft(None)),
                // The client gets the answer all the same; the server must not take for whole what is not.
                Poll::Ready(Err(Stopped::Refused(_))) => upload.give_up(),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            loop {
                if progress.begun && upload.is_read() {
                    // It will not be sent again.
                    transport.free_replay();
                }
                if blocked {
                    if let Err(error) = ready!(flush(transport, cx)) {
                        return Poll::Ready(RelayEnd::ClientLeft(Some(error)));
                    }
                    blocked = false;
                    appetite.relieved();
                }
                if let Some(squeeze) = &mut squeeze {
                    let coded = match ready!(squeeze.poll(cx)) {
                        Ok(coded) => coded,
                        Err(error) => {
                            tracing::error!(%error, "an answer could not be coded");
                            return Poll::Ready(RelayEnd::Failed(Failure::WithinAnswer));
                        }
                    };
                    if !coded.is_empty() || squeeze.is_finished() {
                        progress.bytes += coded.len() as u64;
                        let chunk = chunk(&coded, squeeze.is_finished());
                        let is_last = squeeze.is_finished();
                        match transport.poll_offer(cx, &chunk) {
                            Poll::Ready(Ok(())) if is_last => return Poll::Ready(RelayEnd::Done),
                            Poll::Ready(Ok(())) => {}
                            Poll::Ready(Err(error)) => return Poll::Ready(RelayEnd::ClientLeft(Some(error))),
                            // What is left of it is on our hands.
                            Poll::Pending if is_last => return Poll::Ready(RelayEnd::Done),
                            Poll::Pending => {
                                blocked = true;
                                appetite.blocked();
                                continue;
                            }
                        }
                    }
                    if pipe.is_done() {
                        if squeeze.finish().is_err() {
                            return Poll::Ready(RelayEnd::Failed(Failure::WithinAnswer));
                        }
                        continue;
                    }
                } else if pipe.is_done() {
                    return Poll::Ready(RelayEnd::Done);
                }
                if server.rest().is_empty() {
                    match server.poll_more(cx, appetite.most()) {
                        Poll::Ready(Ok(0)) => {
                            let Some(last) = pipe.end() else {
                                return Poll::Ready(RelayEnd::Failed(Failure::BeforeAnswer));
                            };
                            transport.outbound().put_slice(last);
                            continue;
                        }
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(RelayEnd::Failed(Failure::BeforeAnswer)),
                        Poll::Pending => {
                            if !progress.begun {
                                let deadline =
                                    *wait_until.get_or_insert_with(|| Instant::now() + BODY_FOLLOWS);
                                ready!(transport.alarm.poll(cx, deadline));
                                progress.begun = true;
                                continue;
                            }
                            if let Some(squeeze) = squeeze.as_mut().filter(|squeeze| squeeze.is_open()) {
                                // What the server has said so far is to be heard.
                                if squeeze.flush().is_err() {
                                    return Poll::Ready(RelayEnd::Failed(Failure::WithinAnswer));
                                }
                                continue;
                            }
                            // Nothing to read is the moment to send a started answer.
                            if let Err(error) = ready!(flush(transport, cx)) {
                                return Poll::Ready(RelayEnd::ClientLeft(Some(error)));
                            }
                            if upload.is_read() && transport.poll_gone(cx).is_ready() {
                                return Poll::Ready(RelayEnd::ClientLeft(None));
                            }
                            let over =
                                patience.poll(cx, transport, progress.bytes + upload.moved(), read_timeout);
                            return over.map(|()| RelayEnd::Failed(Failure::Silence));
                        }
                    }
                }
                let Some((mut buffer, range)) = server.take_rest() else { continue };
                let (start, end) = (range.start, range.end);
                let Ok(taken) = pipe.take(&mut buffer, range) else {
                    return Poll::Ready(RelayEnd::Failed(Failure::Malformed));
                };
                progress.begun = true;
                if let Some(squeeze) = &mut squeeze {
                    if squeeze.write(&buffer[taken.out]).is_err() {
                        return Poll::Ready(RelayEnd::Failed(Failure::WithinAnswer));
                    }
                    appetite.fed();
                    server.unread(buffer, start + taken.taken..end);
                    continue;
                }
                progress.bytes += taken.data as u64;
                match transport.poll_offer(cx, &buffer[taken.out]) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(RelayEnd::ClientLeft(Some(error))),
                    Poll::Pending => {
                        blocked = !pipe.is_done();
                        appetite.blocked();
                    }
                }
                appetite.fed();
                // More than the body: nobody has asked for that, and the connection is not used again.
                server.unread(buffer, start + taken.taken..end);
            }
        })
        .await
    }

    /// The encoder of an answer that is sent in a coding, which its head says from now on.
    fn squeeze(&self, status: StatusCode, fields: &mut HeaderEdits<'_>) -> Option<Box<StreamEncoder>> {
        let settings = self.exchange.route.as_ref()?.settings.compress.as_ref()?;
        let request = &self.request.head;
        // What is said to HEAD is that of an answer to GET.
        let length = fields.get(&header::CONTENT_LENGTH);
        let length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
        let decided = compress::decide(settings, request, status, fields, length);
        // What is coded goes in chunks.
        let (coding, level) = decided.filter(|_| request.version != Version::HTTP_10)?;
        // Too many may be at it: then the head must not say that it is coded.
        let squeeze = StreamEncoder::new(coding, level)?;
        compress::code(fields, coding);
        Some(Box::new(squeeze))
    }

    /// Keeps the server's connection where it can be used again.
    fn keep(&self, server: ServerConnection, upload: &RequestBody, head: &ResponseHead) {
        // Some applications send the body that HEAD only asks about, a moment later: it would be the next client's.
        let may_follow = self.request.head.method == Method::HEAD && head.says_where_its_body_ends();
        if head.is_persistent() && upload.is_sent(&server) && !may_follow {
            server.keep();
        }
    }

    /// Leaves an answer whose body nobody wants; its connection is kept if the rest is short and comes soon.
    pub(crate) fn leave(
        &self,
        mut server: ServerConnection,
        upload: &RequestBody,
        head: &ResponseHead,
        framing: BodyFraming,
    ) {
        if !head.is_persistent() || !upload.is_sent(&server) {
            return;
        }
        let mut pipe = Pipe::new(framing, false);
        let wait = select::read_timeout(self.exchange);
        let mut left = MOST_SKIPPED;
        let mut rest = Box::pin(async move {
            while !pipe.is_done() && left > 0 {
                match collect(&mut server, &mut pipe).await {
                    Ok(part) => left = left.saturating_sub(part.len().max(1)),
                    Err(_) => return,
                }
            }
            if pipe.is_done() {
                server.keep();
            }
        });
        // Nearly always it is there.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if rest.as_mut().poll(&mut cx).is_pending() {
            tokio::spawn(timeout(wait, rest));
        }
    }

    /// Sends an archive in place of the list of its members.
    pub(crate) async fn archive(
        &mut self,
        mut server: ServerConnection,
        upload: &RequestBody,
        head: &ResponseHead,
        framing: BodyFraming,
        fields: &HeaderEdits<'_>,
    ) -> Result<Sent, AttemptEnd> {
        let wait = select::read_timeout(self.exchange);
        let mut pipe = Pipe::new(framing, false);
        let mut list = BytesMut::new();
        let whole = loop {
            if pipe.is_done() {
                break true;
            }
            match timeout(wait, collect(&mut server, &mut pipe)).await {
                Ok(Ok(part)) if list.len() + part.len() <= archive::MOST_LIST => {
                    list.extend_from_slice(&part);
                }
                _ => break false,
            }
        };
        self.exchange.lease = None;
        if whole {
            self.keep(server, upload, head);
        }
        let (table, crcs, parts) = (self.state.table(), self.state.crcs(), &self.request.head);
        let list = whole.then(|| list.freeze());
        let answer = internal_redirect::archive(table, parts, list, &fields.map(), crcs, self.exchange).await;
        Ok(self.respond(answer).await)
    }

    /// Takes note that the server has failed.
    pub(crate) fn failed(&mut self, failure: Failure) -> AttemptEnd {
        let (metrics, request) = (&self.state.metrics, &self.request.head);
        let replayable = self.transport.is_replayable();
        match failure::exchange_failed(metrics, request, replayable, failure, self.exchange) {
            Decision::Retry => AttemptEnd::Again,
            Decision::GiveUp => AttemptEnd::Told(failure::explain(failure)),
        }
    }
}

/// The next part of a body.
async fn collect(server: &mut ServerConnection, pipe: &mut Pipe) -> io::Result<Bytes> {
    if server.rest().is_empty() && poll_fn(|cx| server.poll_more(cx, MOST_SKIPPED)).await? == 0 {
        return pipe.end().map(|_| Bytes::new()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
    }
    let Some((mut buffer, range)) = server.take_rest() else { return Ok(Bytes::new()) };
    let (start, end) = (range.start, range.end);
    let taken = pipe.take(&mut buffer, range).map_err(io::Error::other)?;
    let part = Bytes::copy_from_slice(&buffer[taken.out]);
    server.unread(buffer, start + taken.taken..end);
    Ok(part)
}

/// What was coded as a chunk, and the last one behind it at the end (RFC 9112 §7.1).
fn chunk(coded: &[u8], is_last: bool) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(coded.len() + 32);
    if !coded.is_empty() {
        chunk.extend_from_slice(format!("{:x}\r\n", coded.len()).as_bytes());
        chunk.extend_from_slice(coded);
        chunk.extend_from_slice(b"\r\n");
    }
    if is_last {
        chunk.extend_from_slice(b"0\r\n\r\n");
    }
    chunk
}

fn flush(transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(transport).poll_flush(cx)
}

fn write_status(out: &mut BytesMut, head: &ResponseHead) {
    out.reserve(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.reason());
    out.put_slice(b"\r\n");
}

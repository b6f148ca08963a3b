//! The response of a server on its way to the client.

use bytes::{BufMut, BytesMut};
use http::{Method, StatusCode, Version, header};
use tokio::io::AsyncWriteExt;

use crate::{
    cache::Recorder,
    compress::{self, StreamEncoder},
    exchange::{
        Error, Exchange,
        record::Sent,
        relay_body::{BodyRelay, RelayEnd},
        request_body::RequestBody,
        respond::write_date,
        response_head, select,
    },
    message::{BodyFraming, EditHeaders, HeaderEdits, Pipe, ResponseHead},
    upstream::{ServerConnection, retry::Failure},
};

/// Last fields of a head that asks for a WebSocket, or agrees to one.
pub(super) const SWITCHES: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// The head of a response as the client gets it.
struct RelayedHead {
    status: StatusCode,
    /// The client gets the body in chunks.
    in_chunks: bool,
    /// The body ends with the client's connection.
    ends_with_connection: bool,
    /// Compresses the body.
    encoder: Option<Box<StreamEncoder>>,
    /// Records the body for the cache.
    recorder: Option<Box<Recorder>>,
}

impl Exchange<'_> {
    /// Passes on an interim response (RFC 9110 §15.2).
    pub(super) async fn relay_interim(&mut self, head: &ResponseHead) -> Result<(), Error> {
        if self.request.head.version == Version::HTTP_10 {
            // HTTP/1.0 has none.
            return Ok(());
        }
        let mut fields = HeaderEdits::new(&head.lines);
        response_head::hide(&mut fields);
        let out = self.transport.outbound();
        write_status(out, head);
        fields.write(out);
        out.put_slice(b"\r\n");
        self.transport.flush().await.map_err(|_| Error::ClientLeft)
    }

    /// Passes on that the server switches to the protocol of WebSockets.
    pub(super) async fn switch(
        &mut self,
        server: ServerConnection,
        head: &ResponseHead,
        mut fields: HeaderEdits<'_>,
    ) -> Result<Sent, Error> {
        response_head::pass_on(head.status, &mut fields, &self.request.head, self.context);
        let out = self.transport.outbound();
        write_status(out, head);
        fields.write(out);
        out.put_slice(SWITCHES);
        self.transport.flush().await.map_err(|_| Error::ClientLeft)?;
        self.switched = Some(Box::new(server));
        Ok(Sent { status: head.status, bytes: 0 })
    }

    /// Passes on a response.
    pub(super) async fn relay(
        &mut self,
        mut server: ServerConnection,
        mut request_body: RequestBody,
        head: &ResponseHead,
        framing: BodyFraming,
        fields: HeaderEdits<'_>,
    ) -> Result<Sent, Error> {
        let stream_end = self.stream_end(head.status, &fields, &framing);
        let relayed = self.write_relayed_head(head, &framing, &request_body, fields);
        let RelayedHead { status, in_chunks, ends_with_connection, encoder, recorder } = relayed;
        // Encoded content is put into chunks after it was encoded.
        let pipe = Pipe::new(framing, in_chunks && encoder.is_none());
        let read_timeout = select::read_timeout(self.context);
        let mut relay =
            BodyRelay::new(self.transport, &mut server, &mut request_body, pipe, encoder, read_timeout);
        (relay.recorder, relay.stream_end) = (recorder, stream_end);
        let mut end = relay.run().await;
        let (bytes, has_begun, recorder) = (relay.bytes, relay.has_begun, relay.recorder.take());
        if matches!(end, RelayEnd::Done | RelayEnd::Cut) {
            if let Some(recorder) = recorder {
                recorder.finish();
            }
            // The server has done its part: its place is free, however long the client takes over the rest.
            self.context.lease = None;
            if matches!(end, RelayEnd::Done) {
                self.keep(server, &request_body, head);
            }
            self.persists &= request_body.is_read();
            match self.transport.flush().await {
                Ok(()) => return Ok(Sent { status, bytes }),
                Err(error) => end = RelayEnd::ClientLeft(Some(error)),
            }
        }
        match end {
            RelayEnd::Failed(failure) if !has_begun => {
                // The client has seen nothing of this response, and may get another.
                self.transport.outbound().clear();
                self.context.has_response = false;
                return Err(self.failed(failure));
            }
            RelayEnd::Failed(_) => {
                self.failed(Failure::WithinResponse);
            }
            RelayEnd::ClientLeft(Some(error)) => {
                tracing::debug!(request_id = %self.context.id, %error, "the client did not take all of the response");
            }
            RelayEnd::ClientLeft(None) | RelayEnd::Done | RelayEnd::Cut => {}
        }
        if ends_with_connection {
            // A part of it must not seem to be the whole.
            self.transport.reset_at_close();
        }
        let unsent = self.transport.outbound().len() as u64;
        Err(Error::Incomplete(Sent { status, bytes: bytes.saturating_sub(unsent) }))
    }

    /// Edits and writes the head that the client gets.
    fn write_relayed_head(
        &mut self,
        head: &ResponseHead,
        framing: &BodyFraming,
        request_body: &RequestBody,
        mut fields: HeaderEdits<'_>,
    ) -> RelayedHead {
        let status = head.status;
        let recorder = if self.context.cache.is_some() {
            response_head::hide(&mut fields);
            self.recorder(status, &fields, framing)
        } else {
            None
        };
        response_head::pass_on(status, &mut fields, &self.request.head, self.context);
        let encoder = self.encoder(status, &mut fields);
        // Where a response ends with the server's connection, the client's need not end: it gets chunks, if it knows them.
        let is_open = !matches!(framing, BodyFraming::Length(_));
        let has_body = !framing.is_done();
        let wants_chunks = is_open || (encoder.is_some() && has_body);
        let in_chunks = wants_chunks && self.request.head.version != Version::HTTP_10;
        self.persists &= request_body.is_read() && (in_chunks || !is_open);
        let (connection, now) = (self.connection(), self.now());
        let out = self.transport.outbound();
        write_status(out, head);
        fields.write(out);
        if fields.get(&header::DATE).is_none() {
            write_date(out, now);
        }
        if in_chunks {
            out.put_slice(b"Transfer-Encoding: chunked\r\n");
        }
        out.put_slice(connection);
        out.put_slice(b"\r\n");
        let encoder = encoder.filter(|_| has_body);
        RelayedHead { status, in_chunks, ends_with_connection: is_open && !in_chunks, encoder, recorder }
    }

    /// The encoder of a response that is compressed, which its head says from now on.
    fn encoder(&self, status: StatusCode, fields: &mut HeaderEdits<'_>) -> Option<Box<StreamEncoder>> {
        let settings = self.context.route.as_ref()?.settings.compress.as_ref()?;
        let request = &self.request.head;
        // The head of a response to HEAD is that of the response to GET.
        let length = fields.get(&header::CONTENT_LENGTH);
        let length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
        let decided = compress::decide(settings, request, status, fields, length);
        // Compressed content goes in chunks, which HTTP/1.0 does not have.
        let (coding, level) = decided.filter(|_| request.version != Version::HTTP_10)?;
        // Too many encoders may be at work: then the head must not name a coding.
        let encoder = StreamEncoder::new(coding, level)?;
        compress::set_coding_headers(fields, coding);
        Some(Box::new(encoder))
    }

    /// Keeps the server's connection where it can be used again.
    pub(super) fn keep(&self, server: ServerConnection, request_body: &RequestBody, head: &ResponseHead) {
        // Some applications send the body of a response to HEAD a moment later: it would be the next client's.
        let may_follow = self.request.head.method == Method::HEAD && head.says_where_its_body_ends();
        if head.is_persistent() && request_body.is_sent(&server) && !may_follow {
            server.keep();
        }
    }
}

fn write_status(out: &mut BytesMut, head: &ResponseHead) {
    out.reserve(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.reason());
    out.put_slice(b"\r\n");
}

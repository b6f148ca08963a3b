//! Sending responses of our own.

use std::{cell::RefCell, time::SystemTime};

use bytes::{BufMut, BytesMut};
use http::{Method, StatusCode, Version, header};
use tokio::io::AsyncWriteExt;

use crate::{
    clock,
    exchange::{
        Exchange,
        finish::{encode_for_client, finish},
        record::Sent,
        response_head::pace,
    },
    message::{write_field, write_number},
    observe::BodySource,
    response::{Body, Explanation, Response},
};

impl Exchange<'_> {
    /// Tells the client why there is no other response.
    pub(crate) async fn explain(&mut self, explanation: &Explanation) -> Sent {
        let response = explanation.answer(&self.request.head.headers);
        let response = finish(response, &self.request.head, self.context);
        self.respond(response).await
    }

    /// Sends a response of ours.
    pub(crate) async fn respond(&mut self, response: Response) -> Sent {
        let response = encode_for_client(response, &self.request.head, self.context).await;
        // What the client has still to send, nobody reads.
        self.persists &= self.transport.skip_request();
        if response.status == StatusCode::PAYLOAD_TOO_LARGE {
            self.persists = false;
            self.transport.close_unannounced();
        }
        if !self.context.has_response {
            self.transport.limit(self.context.route.as_ref().and_then(|route| pace(route, None)));
        }
        let status = response.status;
        self.context.how = match response.body {
            Body::Pieces { how, .. } => how,
            Body::Empty | Body::Bytes(_) => BodySource::Memory,
        };
        let has_length = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.write_response_head(&response, has_length);
        let mut bytes = 0;
        if has_length && self.request.head.method != Method::HEAD {
            match response.body {
                Body::Empty => {}
                Body::Bytes(body) => {
                    bytes = body.len() as u64;
                    if !self.transport.append(&body)
                        && let Err(error) = self.transport.write_all(&body).await
                    {
                        return self.broken(&error, status);
                    }
                }
                Body::Pieces { pieces, length, .. } if length > 0 => self.transport.queue(pieces),
                Body::Pieces { .. } => {}
            }
        }
        let flushed = self.transport.flush().await;
        bytes += self.transport.queued_bytes();
        match flushed {
            Ok(()) => Sent { status, bytes },
            Err(error) => self.broken(&error, status),
        }
    }

    fn write_response_head(&mut self, response: &Response, has_length: bool) {
        let (connection, now) = (self.connection(), self.now());
        write_head(self.transport.outbound(), response, has_length, connection, now);
    }

    /// The Connection header: none where both sides know (RFC 9112 §9.3).
    pub(crate) fn connection(&mut self) -> &'static [u8] {
        self.persists &= !self.transport.peer.listener.is_closing();
        match (self.persists, self.request.head.version) {
            (false, _) => b"Connection: close\r\n",
            (true, Version::HTTP_10) => b"Connection: keep-alive\r\n",
            (true, _) => b"",
        }
    }

    /// The time of a response. One that has waited for no server is made when it is asked for.
    pub(crate) fn now(&self) -> SystemTime {
        let context = &self.context;
        if context.upstream().is_none() {
            return context.time;
        }
        context.time + clock::now().saturating_duration_since(context.started)
    }

    /// The client has not taken its response.
    pub(crate) fn broken(&mut self, error: &std::io::Error, status: StatusCode) -> Sent {
        tracing::debug!(%error, "the client did not take all of its response");
        self.persists = false;
        Sent { status, bytes: self.transport.queued_bytes() }
    }
}

/// Writes the head of a response of ours (RFC 9112 §4), up to the empty line; `connection` is a whole line or nothing.
pub(crate) fn write_head(
    out: &mut BytesMut,
    response: &Response,
    has_length: bool,
    connection: &[u8],
    now: SystemTime,
) {
    // Nearly all heads, and small bodies.
    out.reserve(2048);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(response.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(response.status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    for (name, value) in &response.headers {
        write_field(out, name, value);
    }
    if has_length {
        out.put_slice(b"Content-Length: ");
        write_number(out, response.body.length());
        out.put_slice(b"\r\n");
    }
    if !response.headers.contains_key(header::DATE) {
        write_date(out, now);
    }
    out.put_slice(connection);
    out.put_slice(b"\r\n");
}

/// Writes when the response was made (RFC 9110 §6.6.1). The text of a second is made once.
pub(crate) fn write_date(out: &mut BytesMut, now: SystemTime) {
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    DATE.with_borrow_mut(|(made, text)| {
        if *made != second {
            *made = second;
            *text = format!("Date: {}\r\n", httpdate::fmt_http_date(now));
        }
        out.put_slice(text.as_bytes());
    });
}

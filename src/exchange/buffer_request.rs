//! Taking in the whole body of a request before a server is asked (`buffer`): a client that is slow to send it keeps no
//! server waiting.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
};

use bytes::BufMut;
use http::{Version, header};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::{
    config::Buffering,
    exchange::{
        Exchange,
        attempt::{AttemptEnd, ProgressTimeout},
        failure,
        record::Sent,
        request_body::{RequestBody, Stopped},
    },
    net::Buffer,
};

/// Most bytes of a body that wait in memory; the rest of a larger one follows as it comes.
const MOST_IN_MEMORY: u64 = 1 << 20;

/// Read at once: more of it is kept than passed on.
const PIECE: usize = 64 * 1024;

impl Exchange<'_> {
    /// Whether there is a body, and its route wants it whole.
    pub(crate) fn spools(&self) -> bool {
        !self.request.body.is_done() && self.buffering() != Buffering::Off
    }

    fn buffering(&self) -> Buffering {
        self.exchange.route.as_ref().map_or(Buffering::Off, |route| route.settings.buffer)
    }

    /// Waits for the body as the route says.
    pub(crate) async fn spool(&mut self) -> Result<(), AttemptEnd> {
        let most = self.exchange.route.as_ref().and_then(|route| route.settings.max_body);
        let in_memory = (self.buffering() == Buffering::Memory).then_some(MOST_IN_MEMORY);
        self.transport.keep_request();
        if in_memory.is_some() {
            self.transport.keep_in_memory(MOST_IN_MEMORY as usize + PIECE);
        }
        self.invite().await?;
        let mut upload = RequestBody::new(&self.request.body, None, most);
        let mut patience = ProgressTimeout::default();
        let limit = self.state.settings().client_body_timeout;
        let transport = &mut *self.transport;
        let (mut so_far, mut content) = (0, 0);
        let taken = poll_fn(|cx| {
            loop {
                if upload.is_read() || in_memory.is_some_and(|most| so_far >= most) {
                    let kept = ready!(transport.poll_recorded(cx));
                    return Poll::Ready(kept.map_err(|error| Stopped::Refused(failure::no_room(&error))));
                }
                let mut buffer = Buffer::take();
                let mut room = ReadBuf::new(&mut buffer.room()[..PIECE]);
                let Poll::Ready(received) = Pin::new(&mut *transport).poll_read(cx, &mut room) else {
                    ready!(patience.poll(cx, transport, so_far, limit));
                    return Poll::Ready(Err(Stopped::Refused(failure::body_timeout())));
                };
                let read = room.filled().len();
                so_far += read as u64;
                match upload.take(received, &mut buffer, read) {
                    Ok(taken) => content += taken.data as u64,
                    Err(stopped) => return Poll::Ready(Err(stopped)),
                }
                if !transport.has_recorded() {
                    // The disk is full; the rest of the body need not come.
                    let kept = ready!(transport.poll_recorded(cx));
                    return Poll::Ready(kept.map_err(|error| Stopped::Refused(failure::no_room(&error))));
                }
            }
        });
        if let Err(stopped) = taken.await {
            self.persists = false;
            return Err(stopped.into());
        }
        if upload.is_read() {
            self.length = Some(content);
        } else if !self.exchange.repeats_any_method() {
            // The rest is passed on as it comes, and not kept.
            self.transport.forget_request();
        }
        Ok(())
    }

    /// Asks for a body whose client waits to be asked (RFC 9110 §10.1.1): no server will.
    async fn invite(&mut self) -> Result<(), AttemptEnd> {
        let parts = &self.request.head;
        if parts.version == Version::HTTP_10 || !parts.headers.has(header::EXPECT) {
            return Ok(());
        }
        self.transport.outbound().put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.transport.flush().await.map_err(|_| AttemptEnd::Silently(Sent::nothing()))
    }
}

//! Taking in the whole body of a request before a server is asked (`buffer`): a client that is slow to send it keeps no
//! server waiting.

use std::{
    future::poll_fn,
    task::{Poll, ready},
};

use bytes::BufMut;
use http::{Version, header};
use tokio::io::AsyncWriteExt;

use crate::{
    config::Buffering,
    exchange::{Error, Exchange, failure, request_body::RequestBody, response_wait::ProgressTimeout},
    message::BodyFraming,
    net::Buffer,
};

/// Most bytes of a body that wait in memory; the rest of a larger one follows as it comes.
const MOST_IN_MEMORY: u64 = 1 << 20;

/// Read at once: more of it is kept than passed on.
const PIECE: usize = 64 * 1024;

impl Exchange<'_> {
    /// Whether there is a body, and its route wants it whole.
    pub(super) fn buffers_request(&self) -> bool {
        !self.request.body.is_done() && self.buffering() != Buffering::Off
    }

    fn buffering(&self) -> Buffering {
        let Some(route) = &self.context.route else { return Buffering::Off };
        let is_uwsgi = route.upstream.as_ref().is_some_and(|upstream| upstream.settings().uwsgi.is_some());
        match route.settings.buffer {
            // A uwsgi request has a length, which its head tells; in HTTP/1.0 there are no chunks.
            Buffering::Off
                if (is_uwsgi || self.needs_length)
                    && !matches!(self.request.body, BodyFraming::Length(_)) =>
            {
                Buffering::Disk
            }
            buffering => buffering,
        }
    }

    /// Waits for the body as the route says.
    pub(super) async fn buffer_request(&mut self) -> Result<(), Error> {
        let most = self.context.route.as_ref().and_then(|route| route.settings.max_body);
        let in_memory = (self.buffering() == Buffering::Memory).then_some(MOST_IN_MEMORY);
        self.transport.keep_request();
        if in_memory.is_some() {
            self.transport.keep_in_memory(MOST_IN_MEMORY as usize + PIECE);
        }
        self.invite().await?;
        let mut request_body = RequestBody::new(&self.request.body, None, most);
        let mut progress = ProgressTimeout::default();
        let limit = self.state.settings().client_body_timeout;
        let transport = &mut *self.transport;
        let mut so_far = 0;
        let taken = poll_fn(|cx| {
            loop {
                if request_body.is_read() || in_memory.is_some_and(|most| so_far >= most) {
                    let kept = ready!(transport.poll_recorded(cx));
                    return Poll::Ready(kept.map_err(|error| Error::Refused(failure::no_room(&error))));
                }
                let mut buffer = Buffer::take();
                let Poll::Ready(read) = request_body.poll_read(cx, transport, &mut buffer, PIECE) else {
                    ready!(progress.poll(cx, transport, so_far, limit));
                    return Poll::Ready(Err(Error::Refused(failure::body_timeout())));
                };
                so_far += read? as u64;
                if !transport.has_recorded() {
                    // The disk is full; the rest of the body need not come.
                    let kept = ready!(transport.poll_recorded(cx));
                    return Poll::Ready(kept.map_err(|error| Error::Refused(failure::no_room(&error))));
                }
            }
        });
        if let Err(error) = taken.await {
            self.persists = false;
            return Err(error);
        }
        if request_body.is_read() {
            self.length = Some(so_far);
        } else if !self.context.repeats_any_method() {
            // The rest is passed on as it comes, and not kept.
            self.transport.forget_request();
        }
        Ok(())
    }

    /// Asks for a body whose client waits to be asked (RFC 9110 §10.1.1): no server will.
    pub(super) async fn invite(&mut self) -> Result<(), Error> {
        let parts = &self.request.head;
        if parts.version == Version::HTTP_10 || !parts.headers.has(header::EXPECT) {
            return Ok(());
        }
        self.transport.outbound().put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.transport.flush().await.map_err(|_| Error::ClientLeft)
    }
}

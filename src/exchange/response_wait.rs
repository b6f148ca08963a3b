//! The wait for the head of a response, while the body of the request is on its way.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    clock,
    downstream::Transport,
    exchange::{
        Error, Exchange, failure,
        request_body::{RequestBody, WaitsFor},
        select,
    },
    message::ResponseHead,
    upstream::{Lease, ServerConnection, StreamError, retry::Failure},
};

/// Read at once while the head of a response comes: with it most responses come whole.
const HEAD_READ: usize = 128 * 1024;

/// Why no head came.
enum NoHead {
    /// The fault is the client's, or ours.
    Ended(Error),
    /// The fault is the server's.
    Failed(Failure),
}

/// A timeout that starts anew with each progress.
#[derive(Debug, Default)]
pub(super) struct ProgressTimeout {
    /// The progress so far, and since when there is no more.
    since: Option<(u64, Instant)>,
}

impl ProgressTimeout {
    /// Ready when there was no progress for as long as `limit`; `so_far` grows with each.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        so_far: u64,
        limit: Duration,
    ) -> Poll<()> {
        let since = match self.since {
            Some((before, since)) if before == so_far => since,
            _ => clock::now(),
        };
        self.since = Some((so_far, since));
        transport.alarm.poll(cx, since + limit)
    }
}

/// The timeouts of a wait for a response.
struct Timeouts {
    /// Longest wait for the server once it has the request.
    read: Duration,
    /// Longest wait until the server takes more of the request.
    send: Duration,
    /// Longest wait until the client sends more of the request.
    client_body: Duration,
}

impl Exchange<'_> {
    /// Sends the request, and waits for the head of a response.
    pub(super) async fn response_head(
        &mut self,
        server: &mut ServerConnection,
        request_body: &mut RequestBody,
    ) -> Result<ResponseHead, Error> {
        let settings = self.context.lease.as_ref().map(Lease::settings);
        let timeouts = Timeouts {
            read: select::read_timeout(self.context),
            send: select::send_timeout(self.context),
            client_body: self.state.settings().client_body_timeout,
        };
        let most = settings.map_or(usize::MAX, |settings| settings.max_response_head);
        let mut progress = ProgressTimeout::default();
        let (transport, lease) = (&mut *self.transport, &mut self.context.lease);
        let head = poll_fn(|cx| {
            let is_sent = match request_body.poll(cx, transport, server) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoHead::Ended(error))),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            // The rest of a request that is here does not wait for the client.
            if (is_sent || (request_body.is_read() && request_body.waits_for_head()))
                && let Some(lease) = lease
            {
                lease.sent();
            }
            if let Poll::Ready(head) = poll_head(server, cx, most, request_body.is_begun()) {
                return Poll::Ready(head.map_err(NoHead::Failed));
            }
            if request_body.is_read() && transport.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(NoHead::Ended(Error::ClientLeft)));
            }
            let (limit, end) = timeouts.of(is_sent, request_body);
            // A part of a head is no progress: it is to come as one.
            let so_far = request_body.moved() + u64::from(is_sent);
            progress.poll(cx, transport, so_far, limit).map(|()| Err(end))
        });
        match head.await {
            Ok(head) => Ok(head),
            Err(NoHead::Ended(error)) => {
                // Where the request's body ends cannot be trusted: what follows is no request.
                self.persists = false;
                Err(error)
            }
            Err(NoHead::Failed(failure)) => Err(self.failed(failure)),
        }
    }
}

impl Timeouts {
    /// The timeout that runs now, and what it means if it ends.
    fn of(&self, is_sent: bool, request_body: &RequestBody) -> (Duration, NoHead) {
        let silence = NoHead::Failed(Failure::ReadTimeout);
        match request_body.waits_for {
            _ if is_sent || request_body.awaits_continue() => (self.read, silence),
            // It lies in the socket of a server that is busy with others.
            _ if request_body.waits_for_head() => (self.read, silence),
            WaitsFor::Server => (self.send, silence),
            WaitsFor::Client if request_body.is_call() => {
                (self.read, NoHead::Ended(Error::Refused(failure::body_timeout())))
            }
            WaitsFor::Client => (self.client_body, NoHead::Ended(Error::Refused(failure::body_timeout()))),
        }
    }
}

/// Reads until a head is whole, which has at most so many bytes. `is_begun`: the server may have got some of the body.
fn poll_head(
    server: &mut ServerConnection,
    cx: &mut Context<'_>,
    most: usize,
    is_begun: bool,
) -> Poll<Result<ResponseHead, Failure>> {
    loop {
        if !server.rest().is_empty() {
            match server.head(most) {
                Ok(Some((head, length))) => {
                    server.advance(length);
                    return Poll::Ready(Ok(head));
                }
                Ok(None) => {}
                Err(malformed) => {
                    tracing::warn!(server = server.server.label, "{malformed}");
                    return Poll::Ready(Err(Failure::Malformed));
                }
            }
        }
        match server.poll_more(cx, HEAD_READ) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(failure_of(server, &error, is_begun))),
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(Failure::BeforeResponse)),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// What an error says that comes in place of a response.
fn failure_of(server: &ServerConnection, error: &io::Error, is_begun: bool) -> Failure {
    match StreamError::told_by(error) {
        Some(StreamError::Unprocessed) => return Failure::Unread,
        Some(malformed @ StreamError::Malformed) => {
            tracing::warn!(server = server.server.label, "{malformed}");
            return Failure::Malformed;
        }
        None => {}
    }
    let is_reset = error.kind() == io::ErrorKind::ConnectionReset;
    match is_reset && server.tells_what_is_read() && server.rest().is_empty() && !is_begun {
        true => Failure::Unread,
        false => Failure::BeforeResponse,
    }
}

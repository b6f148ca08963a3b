//! The life of a client's connection: wait for a head, have its request served, again.
//!
//! Between two requests nothing of a request is alive: the task holds the socket, a few words and a timer.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use tokio::{
    io::{AsyncWriteExt, ReadBuf},
    time::{Instant, timeout},
};

use super::{
    Limits, Peer, Serve,
    accept::Accepted,
    buffer::Buffer,
    head::{self, Refusal, Request},
    place::Place,
    transport::Transport,
};
use crate::answer;

/// Read at once while a head arrives.
const HEAD_READ: usize = 16 * 1024;

/// What waiting for the next request has come to.
enum Next {
    /// A whole head is there.
    Request(Box<Request>),
    /// It cannot be read; an answer is owed.
    Refused(Refusal),
    /// The client has gone, or has been idle too long, or we are stopping.
    Close,
}

/// Serves the requests of one connection, one after the other.
async fn serve(mut transport: Box<Transport>, limits: Limits, serve: Serve) {
    let listener = Arc::clone(&transport.peer.listener);
    let mut closing = Closing { closed: pin!(listener.closed()), is_asked: false };
    let mut idle = Idle::Fresh(Instant::now() + limits.client_header_timeout);
    loop {
        let request = match next_request(&mut transport, &limits, idle, &mut closing).await {
            Next::Request(request) => request,
            Next::Refused(refusal) => return refuse(transport, refusal).await,
            Next::Close => return,
        };
        let active = transport.place.as_ref().map(Place::active);
        let Some(again) = serve(transport, request).await else { return };
        drop(active);
        transport = again;
        transport.park();
        idle = Idle::Kept(Instant::now() + limits.keepalive_timeout);
    }
}

/// Whether the listener is closing. Asked once, it wakes the task when that comes; the task never gives its wake-up to
/// another.
struct Closing<'a, F> {
    closed: Pin<&'a mut F>,
    is_asked: bool,
}

impl<F: Future<Output = ()>> Closing<'_, F> {
    fn is_closing(&mut self, transport: &Transport, cx: &mut Context<'_>) -> bool {
        if transport.peer.listener.is_closing() {
            return true;
        }
        if self.is_asked {
            return false;
        }
        self.is_asked = true;
        self.closed.as_mut().poll(cx).is_ready()
    }
}

/// A connection that waits for a request, and until when.
#[derive(Debug, Clone, Copy)]
enum Idle {
    /// For its first. Its client cannot know that we are stopping, and may not send a POST again.
    Fresh(Instant),
    /// For another one. Its client knows that a kept connection may close at any time.
    Kept(Instant),
}

/// What a connection gets for its first request once we are stopping.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Waits for the first byte for as long as the connection may be idle, then for the rest of the head within its own
/// total deadline.
async fn next_request<F: Future<Output = ()>>(
    transport: &mut Transport,
    limits: &Limits,
    idle: Idle,
    closing: &mut Closing<'_, F>,
) -> Next {
    let mut arriving = Arriving::default();
    let (mut begun, mut last) = (None, None);
    poll_fn(|cx| {
        if let Poll::Ready(next) = arriving.poll(transport, cx) {
            return Poll::Ready(next);
        }
        if !transport.received.is_empty() {
            // A request that has begun is taken even while we are stopping.
            let deadline = *begun.get_or_insert_with(|| Instant::now() + limits.client_header_timeout);
            return transport.alarm.poll(cx, deadline).map(|()| Next::Refused(Refusal::TOO_SLOW));
        }
        let is_closing = closing.is_closing(transport, cx);
        let until = match idle {
            Idle::Kept(_) if is_closing => return Poll::Ready(Next::Close),
            Idle::Fresh(until) if is_closing => {
                *last.get_or_insert_with(|| until.min(Instant::now() + FIRST_REQUEST))
            }
            Idle::Fresh(until) | Idle::Kept(until) => until,
        };
        transport.alarm.poll(cx, until).map(|()| Next::Close)
    })
    .await
}

/// A head on its way.
#[derive(Debug, Default)]
struct Arriving {
    /// Bytes that were looked at and held no whole head.
    seen: usize,
}

impl Arriving {
    /// Takes the next head, or the end of the connection.
    fn poll(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            if transport.received.len() > self.seen {
                match head::read(&transport.received, self.seen) {
                    Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
                    Ok(Some((request, length))) => {
                        transport.received.advance(length);
                        return Poll::Ready(Next::Request(Box::new(request)));
                    }
                    Ok(None) => self.seen = transport.received.len(),
                }
            }
            let mut buffer = Buffer::take();
            let mut room = ReadBuf::new(&mut buffer.room()[..HEAD_READ]);
            if ready!(transport.poll_read_socket(cx, &mut room)).is_err() || room.filled().is_empty() {
                return Poll::Ready(Next::Close);
            }
            // Nearly always the whole head, and nothing but the head, comes at once.
            let mut rest = room.filled();
            if transport.received.is_empty() {
                match head::read(rest, 0) {
                    Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
                    Ok(Some((request, length))) => {
                        rest = &rest[length..];
                        transport.received.extend_from_slice(rest);
                        return Poll::Ready(Next::Request(Box::new(request)));
                    }
                    Ok(None) => self.seen = rest.len(),
                }
            }
            transport.received.extend_from_slice(rest);
        }
    }
}

/// Answers a head that cannot be served, and closes.
async fn refuse(mut transport: Box<Transport>, refusal: Refusal) {
    tracing::debug!(peer = %transport.peer, status = refusal.status.as_u16(), "{}", refusal.sentence);
    transport.peer.listener.metrics.refused(refusal.status);
    let answer = answer::bare(refusal.status, refusal.sentence);
    let farewell = async {
        transport.write_all(&answer).await?;
        transport.flush().await
    };
    if let Err(error) = farewell.await {
        tracing::debug!(%error, "the client did not take the refusal");
    }
}

/// Longest time that a closed connection is read from, so that the client gets its answer.
const LINGER: Duration = Duration::from_secs(5);

/// Reads what a client still sends after its answer: closing at once would reset the connection, and the client
/// would lose the answer (RFC 9112 §9.6).
pub(super) fn linger(transport: &mut Transport) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let Ok(mut socket) = transport.socket().duplicate() else { return };
    if rustix::net::shutdown(&socket, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let place = transport.place.take();
    runtime.spawn(async move {
        // It counts as a connection until it is closed.
        let _place = place;
        let drain = poll_fn(|cx| {
            let mut buffer = Buffer::take();
            loop {
                let mut room = ReadBuf::new(buffer.room());
                match socket.poll_read(cx, &mut room) {
                    Poll::Ready(Ok(())) if !room.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        // Either way the connection is closed now.
        let _ = timeout(LINGER, drain).await;
    });
}

/// The whole life of a connection that has just been accepted, on the thread that serves it.
pub(super) async fn run(accepted: Accepted, place: Place, limits: Limits, engine: Serve) {
    match accepted.register() {
        Ok((socket, address)) => {
            let peer = Arc::new(Peer { listener: Arc::clone(place.listener()), address });
            serve(Box::new(Transport::new(socket, peer, &limits, place)), limits, engine).await;
        }
        Err(error) => tracing::error!(%error, "a connection could not be taken over"),
    }
}

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

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncWriteExt, ReadBuf},
    time::{Instant, timeout},
};

use crate::{
    clock,
    downstream::{
        Serve, Served,
        handshake::{self, EstablishedConnection},
        http2,
        transport::{Link, Transport},
        wire::Wire,
    },
    listen::{
        AcceptedSocket, AddressCounts, ConnectionGuard, ConnectionSettings, Listener, Peer, RefusedRequest,
    },
    message::{Refusal, Request, first_line, read_request},
    net::{Buffer, IdleTimeout, Socket},
    response,
};

/// Read at once while a head arrives.
const HEAD_READ: usize = 16 * 1024;

/// Outcome of the wait for the next request.
enum NextRequest {
    /// A whole head is there.
    Request(Box<Request>),
    /// A malformed head, which gets a response.
    Refused(Refusal),
    /// The client has gone, or has been idle too long, or we are stopping.
    Close,
}

/// Has a connection that has just been accepted served on this thread: its requests one after the other.
pub(crate) fn start(
    accepted: AcceptedSocket,
    mut place: ConnectionGuard,
    limits: Arc<ConnectionSettings>,
    serve: Serve,
    addresses: Arc<AddressCounts>,
) {
    let (socket, address) = match accepted.register() {
        Ok(registered) => registered,
        Err(error) => return tracing::error!(%error, "a connection could not be taken over"),
    };
    let listener = Arc::clone(place.listener());
    if !handshake::is_needed(&listener) {
        let peer = Peer { listener, address, announced_port: None, tls: None };
        return serve_http1(
            EstablishedConnection { socket: Socket::Plain(socket), peer, is_h2: false },
            place,
            limits,
            serve,
        );
    }
    tokio::spawn(async move {
        // Boxed, so that a connection of HTTP/2 does not keep the room that a handshake needs.
        match Box::pin(handshake::establish(socket, address, &mut place, &limits, &addresses)).await {
            Ok(established) if established.is_h2 => {
                Box::pin(http2::serve(established, place, limits, serve)).await;
            }
            Ok(established) => serve_http1(established, place, limits, serve),
            Err(error) => tracing::debug!(%error, "connection setup failed"),
        }
    });
}

/// Serves a connection of HTTP/1.1 in a task of its own.
///
/// There may be very many of these: what the task holds between two requests is all that an idle connection costs.
fn serve_http1(
    established: EstablishedConnection,
    place: ConnectionGuard,
    limits: Arc<ConnectionSettings>,
    serve: Serve,
) {
    let EstablishedConnection { socket, peer, .. } = established;
    let listener = Arc::clone(&peer.listener);
    let mut link =
        Link { wire: Wire::Socket(socket), peer, place: Some(place), alarm: IdleTimeout::default() };
    tokio::spawn(clock::keep(async move {
        let mut closing = Closing { closed: pin!(listener.closed()), is_asked: false };
        let mut waiting = IdleWait::new(Phase::Fresh, limits.client_header_timeout);
        let mut received = BytesMut::new();
        loop {
            let next = poll_fn(|cx| waiting.poll(&mut link, &mut received, &limits, &mut closing, cx)).await;
            let active = link.place.as_ref().map(ConnectionGuard::active);
            let mut transport = |link| Box::new(Transport::new(link, std::mem::take(&mut received), &limits));
            let served = match next {
                NextRequest::Request(request) => serve(transport(link), request),
                NextRequest::Refused(refusal) => return Box::pin(refuse(transport(link), refusal)).await,
                NextRequest::Close => return link.wire.close_notify(),
            };
            let kept = match served.await {
                Served::Kept(kept) => kept,
                Served::Ended => return,
                Served::Tunnel(tunnel) => return tunnel.await,
            };
            drop(active);
            (link, received) = match kept.park() {
                Some(parked) => parked,
                None => return,
            };
            if !received.is_empty() {
                // Others of this thread have their turn before the next of many that came at once.
                tokio::task::yield_now().await;
            }
            waiting = IdleWait::new(Phase::Kept, limits.keepalive_timeout);
        }
    }));
}

/// Whether the listener is closing. Asked once, it wakes the task when that comes; the task never gives its wake-up to
/// another.
struct Closing<'a, F> {
    closed: Pin<&'a mut F>,
    is_asked: bool,
}

impl<F: Future<Output = ()>> Closing<'_, F> {
    fn is_closing(&mut self, listener: &Listener, cx: &mut Context<'_>) -> bool {
        if !std::mem::replace(&mut self.is_asked, true) && self.closed.as_mut().poll(cx).is_ready() {
            return true;
        }
        listener.is_closing()
    }
}

/// A connection that waits for a request, and until when.
struct IdleWait {
    until: Instant,
    phase: Phase,
    /// Bytes of the head that were looked at and hold no end of it.
    seen: u32,
}

/// Phase of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first request. The client cannot know that the proxy is stopping, and may not send a POST again.
    Fresh,
    /// Another one. Its client knows that a kept connection may close at any time.
    Kept,
    /// The last one: we are stopping, and it is there or may be on its way.
    Last,
    /// The rest of a head. A request that has begun is taken even while we are stopping.
    Begun,
}

/// Longest wait for the last request of a connection while the proxy stops.
const LAST_REQUEST: Duration = Duration::from_secs(1);

impl IdleWait {
    fn new(phase: Phase, at_most: Duration) -> Self {
        Self { until: clock::now() + at_most, phase, seen: 0 }
    }

    /// Waits for the first byte for as long as the connection may be idle, then for the rest of the head within its own
    /// total deadline.
    fn poll<F: Future<Output = ()>>(
        &mut self,
        link: &mut Link,
        received: &mut BytesMut,
        limits: &ConnectionSettings,
        closing: &mut Closing<'_, F>,
        cx: &mut Context<'_>,
    ) -> Poll<NextRequest> {
        if let Poll::Ready(next) = poll_head(&mut link.wire, received, &mut self.seen, cx) {
            return Poll::Ready(next);
        }
        match self.phase {
            Phase::Begun => {}
            _ if has_begun(received) => {
                *self = Self { seen: self.seen, ..Self::new(Phase::Begun, limits.client_header_timeout) }
            }
            Phase::Last => {}
            Phase::Fresh | Phase::Kept => {
                if closing.is_closing(&link.peer.listener, cx) {
                    // What has come at the last moment is still taken.
                    if self.phase == Phase::Kept && !link.wire.socket().is_some_and(Socket::has_received) {
                        return Poll::Ready(NextRequest::Close);
                    }
                    *self = Self {
                        until: self.until.min(clock::now() + LAST_REQUEST),
                        phase: Phase::Last,
                        ..*self
                    };
                }
            }
        }
        let end = if self.phase == Phase::Begun {
            NextRequest::Refused(Refusal::TOO_SLOW)
        } else {
            NextRequest::Close
        };
        link.alarm.poll(cx, self.until).map(|()| end)
    }
}

/// Whether there is more than what may be half of an empty line.
fn has_begun(received: &[u8]) -> bool {
    !matches!(received, [] | [b'\r'])
}

/// Takes the next head, or the end of the connection. The first `seen` bytes of `received` hold no whole head.
fn poll_head(
    wire: &mut Wire,
    received: &mut BytesMut,
    seen: &mut u32,
    cx: &mut Context<'_>,
) -> Poll<NextRequest> {
    let request = |request| Poll::Ready(NextRequest::Request(Box::new(request)));
    loop {
        // An empty line between two requests is none (RFC 9112 §2.2), and does not make one begin.
        while received.starts_with(b"\r\n") {
            received.advance(2);
            *seen = 0;
        }
        if received.len() > *seen as usize {
            match read_request(received, *seen as usize) {
                Err(refusal) => return Poll::Ready(NextRequest::Refused(refusal)),
                Ok(Some((read, length))) => {
                    // Its buffer has grown with the head, which has a copy of itself.
                    *received = BytesMut::from(&received[length..]);
                    return request(read);
                }
                // No longer than a head may be.
                Ok(None) => *seen = received.len() as u32,
            }
        }
        let mut buffer = Buffer::take();
        let mut room = ReadBuf::new(&mut buffer.room()[..HEAD_READ]);
        if ready!(wire.poll_read(cx, &mut room)).is_err() || room.filled().is_empty() {
            return Poll::Ready(NextRequest::Close);
        }
        let mut came = room.filled();
        if received.is_empty() {
            // Nearly always the whole head, and nothing but the head, comes at once.
            match read_request(came, 0) {
                Err(refusal) => {
                    // Who has more to send must get its response all the same: this has the connection linger.
                    received.extend_from_slice(came);
                    return Poll::Ready(NextRequest::Refused(refusal));
                }
                Ok(Some((read, length))) => {
                    came = &came[length..];
                    received.extend_from_slice(came);
                    return request(read);
                }
                Ok(None) => *seen = came.len() as u32,
            }
        }
        received.extend_from_slice(came);
    }
}

/// Answers a head that cannot be served, and closes.
async fn refuse(mut transport: Box<Transport>, refusal: Refusal) {
    tracing::debug!(peer = %transport.peer, status = refusal.status.as_u16(), "{}", refusal.sentence);
    transport.peer.listener.metrics.refused(refusal.status);
    let line = first_line(&transport.received).to_vec();
    let (answer, body) = response::error_bytes(refusal.status, refusal.sentence);
    let farewell = async {
        transport.write_all(&answer).await?;
        transport.flush().await
    };
    let sent = farewell.await;
    if let Err(error) = &sent {
        tracing::debug!(%error, "the client did not take the refusal");
    }
    let (peer, bytes) = (&transport.peer, if sent.is_ok() { body as u64 } else { 0 });
    peer.listener.note(&RefusedRequest { peer, line: &line, status: refusal.status, bytes });
}

/// Longest time that a closed connection is read from, so that the client gets its response.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Closes a connection whose response is sent. Where the client is sending more, that is read first for a while: closing
/// at once would reset the connection, and the client would lose the response (RFC 9112 §9.6). It keeps its place meanwhile.
pub(crate) fn linger_on_close(socket: &Socket, has_unread: bool, place: impl Send + 'static) {
    let raw = socket.raw();
    // The end of the response goes out before a reset can: from here on nothing that comes late costs the client anything.
    if rustix::net::shutdown(raw, rustix::net::Shutdown::Write).is_err()
        || !(has_unread || raw.has_received())
    {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let Ok(mut socket) = raw.duplicate() else { return };
    runtime.spawn(async move {
        // It counts as a connection until it is closed.
        let _place = place;
        let drain = poll_fn(|cx| {
            let mut buffer = Buffer::take();
            loop {
                let mut room = ReadBuf::new(buffer.room());
                match socket.poll_read_some(cx, &mut room) {
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

//! HTTP/2 (RFC 9113): each stream becomes a request like those of HTTP/1.1, and its response goes back on the stream.
//!
//! What serves requests speaks HTTP/1.1 to a transport; here the transport's socket is a [`stream`]. So nothing else
//! knows of two protocols, and whatever holds for the one holds for the other.

mod error;
mod frames;
pub(crate) mod head;
mod heads;
mod hpack;
mod huffman;
mod stream;

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    server::{Connection, SendResponse},
};
use http::{HeaderValue, header};
use tokio::time::{Instant, timeout};

use crate::{
    clock, config,
    downstream::{
        Serve, Served,
        handshake::EstablishedConnection,
        http2::{error::Fault, frames::Frames},
        transport::{Link, Transport},
        wire::Wire,
    },
    listen::{ConnectionGuard, ConnectionSettings, Peer, RefusedRequest},
    message::Refusal,
    net::IdleTimeout,
};
#[cfg(any(fuzzing, test))]
pub(crate) use frames::rewritten;
#[cfg(any(fuzzing, test))]
pub(crate) use hpack::fields;
pub(crate) use stream::Http2Stream;

/// Windows of a connection that has shown nothing yet: what somebody may have us keep who sends bodies that nobody
/// reads.
const FIRST_STREAM_WINDOW: u32 = 1 << 20;
const FIRST_CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of bodies that are passed on before the windows become as large as the configuration says.
const PROVEN: u64 = 256 << 10;

/// Most bytes of a response that wait in a stream for the client.
const SEND_BUFFER: usize = 64 << 10;

/// Largest frame that clients may send: large bodies take fewer of them.
const MAX_FRAME: u32 = 64 << 10;

/// Longest wait for a client to close after GOAWAY.
const FAREWELL: Duration = Duration::from_secs(2);

/// State that the streams of one connection share.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    began: Instant,
    open: AtomicUsize,
    /// Milliseconds from the beginning until a stream ended last, or the client took data that had waited for it.
    ended: AtomicU64,
    /// The client has not taken all that is to be sent: streams end for us before that.
    blocked: AtomicBool,
    /// Milliseconds from the beginning until the client took something last while data waited for it.
    taken_at: AtomicU64,
    /// A response was given up because the client takes nothing of it, or too little.
    gave_up: AtomicBool,
    /// Bytes of bodies that were passed on.
    taken: AtomicU64,
    /// The code of the error that the client has made, with which the connection ends; 0 while there is none.
    error: AtomicU32,
}

/// Counts a stream for as long as it lasts.
struct OpenConnection(Arc<ConnectionState>);

impl ConnectionState {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            open: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            taken_at: AtomicU64::new(0),
            gave_up: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            error: AtomicU32::new(0),
        }
    }

    fn open(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// The connection is to end with this code.
    fn end(&self, reason: Reason) {
        self.error.store(reason.into(), Ordering::Relaxed);
    }

    fn ends_with(&self) -> Option<Reason> {
        Some(self.error.load(Ordering::Relaxed)).filter(|code| *code != 0).map(Reason::from)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Not idle yet.
    fn is_used(&self) {
        self.ended.store(self.now(), Ordering::Relaxed);
    }

    /// The client, which is behind, has taken something, or is behind from now on.
    fn has_taken(&self) {
        self.taken_at.store(self.now(), Ordering::Relaxed);
    }

    /// Time at which the client took something last; `None` while no data waits for it.
    fn blocked_since(&self) -> Option<Instant> {
        let taken = Duration::from_millis(self.taken_at.load(Ordering::Relaxed));
        self.blocked.load(Ordering::Relaxed).then_some(self.began + taken)
    }

    /// Time for which the connection has been idle; `None` while it is not.
    fn idle_since(&self) -> Option<Instant> {
        let ended = Duration::from_millis(self.ended.load(Ordering::Relaxed));
        self.is_idle().then_some(self.began + ended)
    }

    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.is_used();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves the requests of a connection until either side has had enough.
pub(crate) async fn serve(
    established: EstablishedConnection,
    place: ConnectionGuard,
    limits: Arc<ConnectionSettings>,
    serve: Serve,
) {
    let EstablishedConnection { socket, peer, .. } = established;
    let shared = Arc::new(ConnectionState::new());
    let place = Arc::new(place);
    let frames = Frames::new(socket, limits.http2, Arc::clone(&shared), Arc::clone(&place));
    let handshake = builder(&limits.http2).handshake(frames);
    let mut connection = match timeout(limits.client_header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no HTTP/2"),
        Err(_) => return tracing::debug!(%peer, "the beginning of HTTP/2 took too long"),
    };
    let pings = connection.ping_pong();
    let (has_grown, malformed, asked) = (false, Vec::new(), None);
    let mut requests =
        Requests { connection, shared, peer, place, limits, serve, has_grown, malformed, pings, asked };
    requests.run().await;
}

fn builder(http2: &config::Http2) -> h2::server::Builder {
    let resets = http2.max_resets as usize;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(http2.max_concurrent_streams)
        .initial_window_size(FIRST_STREAM_WINDOW.min(http2.stream_window))
        .initial_connection_window_size(FIRST_CONNECTION_WINDOW.min(http2.connection_window))
        .max_frame_size(MAX_FRAME)
        .enable_connect_protocol()
        .max_header_list_size(http2.max_header_list)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(resets)
        .max_pending_accept_reset_streams(resets)
        .max_local_error_reset_streams(Some(resets));
    builder
}

/// A connection and all that its requests need.
struct Requests {
    connection: Connection<Frames, Bytes>,
    shared: Arc<ConnectionState>,
    peer: Peer,
    place: Arc<ConnectionGuard>,
    limits: Arc<ConnectionSettings>,
    serve: Serve,
    /// The windows are as large as they become.
    has_grown: bool,
    /// Streams of malformed requests, which end with an error once they are answered.
    malformed: Vec<SendStream<Bytes>>,
    /// Asks whether the client is there, and when it was asked.
    pings: Option<PingPong>,
    asked: Option<Instant>,
}

/// Next event of a connection.
enum NextEvent {
    Request(Box<(http::Request<RecvStream>, SendResponse<Bytes>)>),
    /// The connection has ended, or cannot go on.
    End(Option<h2::Error>),
    /// The proxy is stopping.
    Closing,
    /// The connection has been idle for too long.
    Idle,
    /// The client takes nothing.
    Stuck,
    /// The client has made this error.
    Error(Reason),
}

impl Requests {
    async fn run(&mut self) {
        let listener = Arc::clone(&self.peer.listener);
        let mut closed = pin!(listener.closed());
        let mut alarm = IdleTimeout::default();
        // Once no more requests are wanted: since when. Those on their way are taken (RFC 9113 §6.8).
        let mut leaving: Option<Instant> = None;
        let mut at_most = self.limits.client_header_timeout;
        loop {
            let next = poll_fn(|cx| {
                self.grow();
                if let Poll::Ready(accepted) = self.connection.poll_accept(cx) {
                    return Poll::Ready(match accepted {
                        Some(Ok(request)) => NextEvent::Request(Box::new(request)),
                        Some(Err(error)) => NextEvent::End(Some(error)),
                        None => NextEvent::End(None),
                    });
                }
                self.reset_malformed();
                if let Some(reason) = self.shared.ends_with() {
                    return Poll::Ready(NextEvent::Error(reason));
                }
                if leaving.is_none() && (closed.as_mut().poll(cx).is_ready() || listener.is_closing()) {
                    return Poll::Ready(NextEvent::Closing);
                }
                self.poll_patience(cx, &mut alarm, leaving, at_most)
            });
            match next.await {
                NextEvent::Request(request) => {
                    let (request, respond) = *request;
                    if leaving.is_none() {
                        at_most = self.limits.keepalive_timeout;
                    }
                    self.begin(request, respond);
                }
                NextEvent::Closing | NextEvent::Idle if leaving.is_none() => {
                    (leaving, at_most) = (Some(Instant::now()), FAREWELL);
                    self.connection.graceful_shutdown();
                }
                NextEvent::Stuck => {
                    tracing::debug!(peer = %self.peer, "the client takes nothing (send_timeout)");
                    self.shared.gave_up.store(true, Ordering::Relaxed);
                    self.connection.abrupt_shutdown(Reason::NO_ERROR);
                    // As far as that is taken at once; in either case the connection ends with a reset.
                    let _ = timeout(Duration::ZERO, poll_fn(|cx| self.connection.poll_closed(cx))).await;
                    return;
                }
                // It has not taken its leave.
                NextEvent::Closing | NextEvent::Idle => return,
                NextEvent::Error(reason) => {
                    tracing::debug!(peer = %self.peer, ?reason, "an HTTP/2 connection is closed");
                    if reason == Reason::ENHANCE_YOUR_CALM {
                        self.peer.listener.metrics.flooded.inc();
                    }
                    self.connection.abrupt_shutdown(reason);
                    return self.farewell().await;
                }
                NextEvent::End(error) => {
                    if let Some(error) = error {
                        tracing::debug!(peer = %self.peer, %error, "a connection of HTTP/2 ends");
                    }
                    return;
                }
            }
        }
    }

    /// Ready when the client has been idle for as long as it may be, `at_most` so long, or takes nothing.
    fn poll_patience(
        &mut self,
        cx: &mut Context<'_>,
        alarm: &mut IdleTimeout,
        leaving: Option<Instant>,
        at_most: Duration,
    ) -> Poll<NextEvent> {
        loop {
            if let Some(since) = self.shared.blocked_since() {
                ready!(alarm.poll(cx, since + self.limits.send_timeout));
                return Poll::Ready(NextEvent::Stuck);
            }
            let since = self.shared.idle_since().max(leaving.filter(|_| self.shared.is_idle()));
            if since.is_some() && self.shared.gave_up.load(Ordering::Relaxed) {
                if let Some(asked) = self.is_there(cx) {
                    ready!(alarm.poll(cx, asked + FAREWELL));
                    return Poll::Ready(NextEvent::Stuck);
                }
                continue;
            }
            ready!(alarm.poll(cx, since.unwrap_or_else(Instant::now) + at_most));
            if since.is_some() {
                return Poll::Ready(NextEvent::Idle);
            }
        }
    }

    /// Makes the windows large, once the bodies of this connection have found somebody who takes them.
    fn grow(&mut self) {
        if self.has_grown || self.shared.taken.load(Ordering::Relaxed) < PROVEN {
            return;
        }
        self.has_grown = true;
        self.connection.set_target_window_size(self.limits.http2.connection_window);
        if let Err(error) = self.connection.set_initial_window_size(self.limits.http2.stream_window) {
            tracing::debug!(%error, "the windows stay as they are");
        }
    }

    /// Has a request served.
    fn begin(&mut self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (parts, body) = request.into_parts();
        if let Some(fault) = parts.headers.get(heads::FAULT).and_then(|fault| Fault::of(fault.as_bytes())) {
            let line = parts.headers.get(heads::LINE).map_or(&b""[..], HeaderValue::as_bytes);
            let stream = self.refuse(respond, fault.refusal(), line, fault.is_stream_error());
            self.malformed.extend(stream);
            return;
        }
        let open = self.shared.open();
        let active = self.place.active();
        let request = match head::downgrade(&parts, body.is_end_stream()) {
            Ok(request) => request,
            Err(refusal) => {
                self.refuse(respond, refusal, &head::first_line(&parts), false);
                return;
            }
        };
        let stream = Http2Stream::new(respond, body, &request, Arc::clone(&self.shared));
        let link = Link {
            wire: Wire::Stream(Box::new(stream)),
            peer: self.peer.clone(),
            place: None,
            alarm: IdleTimeout::default(),
        };
        let transport = Box::new(Transport::new(link, BytesMut::new(), &self.limits));
        let served = (self.serve)(transport, Box::new(request));
        tokio::spawn(clock::keep(async move {
            if let Served::Tunnel(tunnel) = served.await {
                tunnel.await;
            }
            drop((active, open));
        }));
    }

    /// Asks a client that has been given up with a response whether it reads at all: that its windows are full may be on
    /// purpose. Since when it has been asked, while it has not said so.
    fn is_there(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let Some(pings) = &mut self.pings else { return Some(self.shared.began) };
        let asked = *self.asked.get_or_insert_with(|| {
            // Fails when one is on its way, whose response is as good.
            let _ = pings.send_ping(Ping::opaque());
            Instant::now()
        });
        if !matches!(pings.poll_pong(cx), Poll::Ready(Ok(_))) {
            return Some(asked);
        }
        self.asked = None;
        self.shared.gave_up.store(false, Ordering::Relaxed);
        None
    }

    /// Responds to a request that cannot be served, and takes note of it; the stream, where it `stays_open`.
    fn refuse(
        &self,
        respond: SendResponse<Bytes>,
        refusal: Refusal,
        line: &[u8],
        stays_open: bool,
    ) -> Option<SendStream<Bytes>> {
        let Refusal { status, sentence } = refusal;
        let peer = &self.peer;
        tracing::debug!(%peer, status = status.as_u16(), "{sentence}");
        peer.listener.metrics.refused(status);
        let stream = refuse(respond, refusal, stays_open);
        let bytes = if stream.is_some() { sentence.len() as u64 } else { 0 };
        peer.listener.note(&RefusedRequest { peer, line, status, bytes });
        stream.filter(|_| stays_open)
    }

    /// Ends the streams of malformed requests with an error, once their responses have left: a reset takes the place of
    /// what waits to be sent.
    fn reset_malformed(&mut self) {
        if !self.shared.blocked.load(Ordering::Relaxed) {
            for mut stream in self.malformed.drain(..) {
                stream.send_reset(Reason::PROTOCOL_ERROR);
            }
        }
    }

    /// Sends what is left to say, if the client takes it soon.
    async fn farewell(&mut self) {
        let end = poll_fn(|cx| self.connection.poll_closed(cx));
        // Either way it is over.
        let _ = timeout(FAREWELL, end).await;
    }
}

/// Responds to a request that cannot be served; `None` when the client has given it up.
fn refuse(mut respond: SendResponse<Bytes>, refusal: Refusal, stays_open: bool) -> Option<SendStream<Bytes>> {
    let mut response = http::Response::new(());
    *response.status_mut() = refusal.status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let body = Bytes::from_static(refusal.sentence.as_bytes());
    let mut stream = respond.send_response(response, false).ok()?;
    stream.send_data(body, !stays_open).ok()?;
    Some(stream)
}

/// An error of HTTP/2 as one of a socket.
fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

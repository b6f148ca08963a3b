//! Connections to servers: connecting, the keep-alive pool of each thread, reading and writing.

use std::{
    cell::RefCell,
    io,
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use http::HeaderMap;
use tokio::{io::ReadBuf, time::Instant};

use crate::{
    clock,
    message::{MalformedHead, ResponseHead},
    net::{BEFORE, Buffer, ROOM, Socket, keep},
    tls::TlsClient,
    upstream::{
        self,
        http2::{self, NotHttp2},
        lease::Lease,
        server::Server,
        uwsgi::{self, PacketTooLarge},
        wire::Wire,
    },
};

/// Most idle connections that a thread keeps per server.
const MOST_IDLE: usize = 64;

/// Interval at which a thread closes idle connections that have ended.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct ServerConnection {
    wire: Wire,
    pub(crate) server: Arc<Server>,
    /// Bytes written and not yet accepted by the kernel.
    pub(crate) outbound: BytesMut,
    /// Bytes read and not yet consumed.
    rest: Option<(Buffer, Range<usize>)>,
    /// TLS connector of the connection, if the connection is encrypted.
    tls: Option<Arc<TlsClient>>,
    /// Longest time that the connection may stay idle for reuse; `None` if it may not be reused.
    most: Option<Duration>,
    /// A write has reported that the server reset the connection.
    was_reset: bool,
    /// Whether the server speaks uwsgi.
    uwsgi: bool,
    asks_for_bodies: bool,
    /// Nothing has been sent over it.
    is_new: bool,
}

/// The head of a request cannot be said in what the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CannotTranslate {
    /// It is too large for uwsgi.
    #[error(transparent)]
    TooLarge(#[from] PacketTooLarge),
    /// Its host or target are none of HTTP/2.
    #[error(transparent)]
    NotHttp2(#[from] NotHttp2),
}

/// Idle connection kept for reuse.
struct IdleConnection {
    socket: Socket,
    /// TLS connector of the connection, if the connection is encrypted.
    tls: Option<Arc<TlsClient>>,
    since: Instant,
    /// Longest time that the connection may stay idle.
    most: Duration,
}

/// Idle connections of a thread, by server. A list, because servers are few.
#[derive(Default)]
struct ConnectionPool {
    servers: Vec<(Arc<Server>, Vec<IdleConnection>)>,
    is_swept: bool,
}

thread_local! {
    static POOL: RefCell<ConnectionPool> = RefCell::default();
}

impl ServerConnection {
    /// Takes an idle connection from the pool.
    pub(crate) fn reuse(lease: &Lease) -> Option<Self> {
        if lease.settings().http2 {
            // Requests share its connections: see `connect`.
            return None;
        }
        let (server, tls) = (lease.server(), lease.upstream().tls());
        let socket = POOL.with_borrow_mut(|pool| pool.take(server, tls.as_ref()))?;
        Some(Self::new(Wire::Socket(socket), tls, lease))
    }

    /// Opens a new connection, or a stream of HTTP/2.
    ///
    /// # Errors
    ///
    /// The system's error, or a timeout.
    pub(crate) async fn connect(lease: &Lease) -> io::Result<Self> {
        if lease.settings().http2 {
            let stream = http2::open(lease).await?;
            return Ok(Self::new(Wire::Stream(Box::new(stream)), None, lease));
        }
        let (server, within, tls) =
            (lease.server(), lease.settings().connect_timeout, lease.upstream().tls());
        let socket = upstream::connect(server, tls.as_ref(), within).await?;
        Ok(Self { is_new: true, ..Self::new(Wire::Socket(socket), tls, lease) })
    }

    fn new(wire: Wire, tls: Option<Arc<TlsClient>>, lease: &Lease) -> Self {
        let (server, uwsgi) = (Arc::clone(lease.server()), lease.settings().uwsgi.is_some());
        Self {
            wire,
            asks_for_bodies: !uwsgi && !server.speaks_http_1_0(),
            server,
            outbound: BytesMut::new(),
            rest: None,
            tls,
            most: None,
            was_reset: false,
            uwsgi,
            is_new: false,
        }
    }

    /// Reads a response head from the bytes that were read; `None` when more must be read.
    pub(crate) fn head(&self, most: usize) -> Result<Option<(ResponseHead, usize)>, MalformedHead> {
        if self.uwsgi {
            return uwsgi::read_head(self.rest(), most);
        }
        let head = ResponseHead::read(self.rest(), most)?;
        // An interim response tells nothing: Paste, which speaks HTTP/1.0, says "HTTP/1.1 100 Continue".
        if let Some((head, _)) = head.as_ref().filter(|(head, _)| !head.is_interim()) {
            self.server.responded_in(head.version);
        }
        Ok(head)
    }

    /// Turns the head of a request, which is all that is pending, into what the server speaks. `params` gives the further
    /// variables of a uwsgi request.
    ///
    /// # Errors
    ///
    /// The head is too large for uwsgi, or cannot be said in HTTP/2.
    pub(crate) fn translate(
        &mut self,
        params: impl FnOnce() -> Vec<(String, Vec<u8>)>,
    ) -> Result<(), CannotTranslate> {
        if self.uwsgi {
            self.outbound = uwsgi::packet(&self.outbound, &params())?;
        }
        if let Wire::Stream(stream) = &mut self.wire {
            stream.send_head(&self.outbound)?;
            self.outbound = BytesMut::new();
        }
        Ok(())
    }

    /// Whether the server tells when it wants a body that waits (`100 Continue`). uwsgi and HTTP/1.0 have no words for it, and
    /// servers of HTTP/2 seldom do.
    pub(crate) fn asks_for_bodies(&self) -> bool {
        self.asks_for_bodies && !self.is_http2()
    }

    /// Whether the server speaks HTTP/2: it takes trailers, and tells which requests it has not processed.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.wire, Wire::Stream(_))
    }

    /// Sets the trailers that follow the body of the request, where the server takes them.
    pub(crate) fn set_trailers(&mut self, trailers: HeaderMap) {
        if let Wire::Stream(stream) = &mut self.wire {
            stream.set_trailers(trailers);
        }
    }

    /// Takes the trailers of a response whose body has been read.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.wire.take_trailers()
    }

    /// Allows reuse of the connection after at most `most` of idle time.
    pub(crate) fn allow_reuse(&mut self, most: Duration) {
        // uwsgi has one request on a connection.
        self.most = Some(most).filter(|_| !self.uwsgi);
    }

    pub(crate) fn may_be_kept(&self) -> bool {
        self.most.is_some()
    }

    /// Returns the connection to the pool, if it may be reused.
    pub(crate) fn keep(self) {
        let is_over = self.rest.is_none() && self.outbound.is_empty();
        // The connection of a stream is kept by itself.
        let Wire::Socket(mut socket) = self.wire else { return };
        if let Some(most) = self.most.filter(|_| is_over && !socket.has_decrypted()) {
            let kept = IdleConnection { socket, tls: self.tls, since: clock::now(), most };
            POOL.with_borrow_mut(|pool| pool.keep(self.server, kept));
        }
    }

    /// Writes pending output and then `bytes`. Bytes that the kernel does not accept are buffered: if the socket is
    /// not ready, the next flush sends them.
    pub(crate) fn poll_offer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let waiting = self.outbound.len();
        let sent = match self.wire.poll_send_both(cx, &self.outbound, bytes) {
            Poll::Ready(sent) => sent.inspect_err(|error| self.was_reset |= is_reset(error))?,
            Poll::Pending => 0,
        };
        self.outbound.advance(sent.min(waiting));
        let left = &bytes[sent.saturating_sub(waiting)..];
        keep(&mut self.outbound, left);
        self.poll_flush(cx)
    }

    /// Writes pending output.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.outbound.is_empty() && std::mem::take(&mut self.is_new) {
            let sent = self.wire.send_at_once(&self.outbound);
            self.outbound.advance(sent.inspect_err(|error| self.was_reset |= is_reset(error))?);
        }
        while !self.outbound.is_empty() {
            let sent = ready!(self.wire.poll_send(cx, &self.outbound));
            self.outbound.advance(sent.inspect_err(|error| self.was_reset |= is_reset(error))?);
        }
        let flushed = self.wire.poll_flush(cx);
        flushed.map(|flushed| flushed.inspect_err(|error| self.was_reset |= is_reset(error)))
    }

    /// Ends what is sent; the server may still send.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(cx)
    }

    /// Has the kernel watch whether the server's machine is still there.
    pub(crate) fn keep_alive(&self) {
        self.wire.keep_alive();
    }

    /// Whether a reset tells that the server has not read all that was sent.
    pub(crate) fn tells_what_is_read(&self) -> bool {
        self.wire.tells_what_is_read()
    }

    /// Writes the pending head of a request. Where the server [tells what it reads](Self::tells_what_is_read),
    /// [`poll_begin_body`](Self::poll_begin_body) then waits until it has read the head.
    pub(crate) fn poll_flush_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.is_empty() {
            let sent = ready!(self.wire.poll_send_and_wait(cx, &self.outbound));
            self.outbound.advance(sent.inspect_err(|error| self.was_reset |= is_reset(error))?);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the first part of a body behind the head, which has been flushed. An error means that the server gets
    /// nothing of it.
    pub(crate) fn poll_begin_body(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let sent = ready!(self.wire.poll_send(cx, bytes));
        let sent = sent.inspect_err(|error| self.was_reset |= is_reset(error))?;
        keep(&mut self.outbound, &bytes[sent..]);
        Poll::Ready(Ok(()))
    }

    /// Reads more behind the bytes not yet consumed, which must be fewer than [`ROOM`]. Returns the bytes read, at
    /// most `most`, or 0 at the end of the stream.
    ///
    /// The kernel reports a reset only once: after a write has reported it, the next read sees an end of the stream.
    /// Here that read is an error too; otherwise a response that ends with its connection would pass for complete.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let (mut buffer, mut range) = self.rest.take().unwrap_or_else(|| (Buffer::take(), BEFORE..BEFORE));
        if range.end == BEFORE + ROOM {
            buffer.copy_within(range.clone(), BEFORE);
            range = BEFORE..BEFORE + range.len();
        }
        let end = (range.end + most).min(BEFORE + ROOM);
        let mut room = ReadBuf::new(&mut buffer[range.end..end]);
        let read = self.wire.poll_read(cx, &mut room).map_ok(|()| room.filled().len());
        if let Poll::Ready(Ok(more)) = read {
            range.end += more;
        }
        self.unread(buffer, range);
        match read {
            Poll::Ready(Ok(0)) if self.was_reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            read => read,
        }
    }

    /// Bytes read and not yet consumed.
    pub(crate) fn rest(&self) -> &[u8] {
        self.rest.as_ref().map_or(&[], |(buffer, range)| &buffer[range.clone()])
    }

    /// Consumes `bytes`.
    pub(crate) fn advance(&mut self, bytes: usize) {
        if let Some((buffer, range)) = self.rest.take() {
            self.unread(buffer, range.start + bytes..range.end);
        }
    }

    /// Takes the unconsumed bytes together with their buffer.
    pub(crate) fn take_rest(&mut self) -> Option<(Buffer, Range<usize>)> {
        self.rest.take()
    }

    /// Puts back bytes that were not consumed.
    pub(crate) fn unread(&mut self, buffer: Buffer, range: Range<usize>) {
        if !range.is_empty() {
            self.rest = Some((buffer, range));
        }
    }
}

/// Whether a failed write means that the server reset the connection. A broken pipe means that it had closed its
/// stream in order before.
fn is_reset(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::BrokenPipe
}

impl ConnectionPool {
    /// The most recently used idle connection that is still open: the others may then reach their idle timeout.
    ///
    /// A connection made with another TLS connector is closed: a reload may have changed which certificates are
    /// trusted.
    fn take(&mut self, server: &Arc<Server>, tls: Option<&Arc<TlsClient>>) -> Option<Socket> {
        let (_, kept) = self.servers.iter_mut().find(|(known, _)| Arc::ptr_eq(known, server))?;
        while let Some(last) = kept.pop() {
            let is_same = match (&last.tls, tls) {
                (Some(then), Some(now)) => Arc::ptr_eq(then, now),
                (None, None) => true,
                _ => false,
            };
            if is_same && !last.has_ended(clock::now()) {
                return Some(last.socket);
            }
        }
        None
    }

    fn keep(&mut self, server: Arc<Server>, new: IdleConnection) {
        match self.servers.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &server)) {
            Some((_, kept)) if kept.len() >= MOST_IDLE => {}
            Some((_, kept)) => kept.push(new),
            None => self.servers.push((server, vec![new])),
        }
        if !self.is_swept {
            self.is_swept = true;
            tokio::spawn(sweep());
        }
    }
}

impl IdleConnection {
    /// Whether the server has closed the connection or sent unexpected bytes, or the idle timeout has passed.
    fn has_ended(&self, now: Instant) -> bool {
        self.socket.has_something() || now.saturating_duration_since(self.since) >= self.most
    }
}

/// Closes idle connections that have ended, until none is left.
async fn sweep() {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let is_empty = POOL.with_borrow_mut(|pool| {
            let now = Instant::now();
            pool.servers.retain_mut(|(_, kept)| {
                kept.retain(|kept| !kept.has_ended(now));
                !kept.is_empty()
            });
            pool.is_swept = !pool.servers.is_empty();
            pool.servers.is_empty()
        });
        if is_empty {
            return;
        }
    }
}

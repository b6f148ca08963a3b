//! HTTP/2 to servers (RFC 9113): connections that requests share, and [streams](stream) that look like sockets of
//! HTTP/1.1.
//!
//! What serves requests writes and reads HTTP/1.1, so balancing, retries, timeouts and logs know of one protocol. Each
//! thread has its own connections to a server: one, or more if the server allows fewer streams at once than are needed.

mod error;
mod head;
mod stream;

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::StatusCode;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{connect::connect, lease::Lease, server::Server};
use crate::{clock, config::UpstreamSettings, net::Socket, tls::TlsClient};
pub(crate) use error::StreamError;
pub(super) use head::NotHttp2;
pub(super) use stream::Http2Stream;

/// Window of a stream: most bytes of a response that wait for a slow client.
const STREAM_WINDOW: u32 = 256 << 10;

/// Window of a connection, as large as can be: streams that wait for slow clients must not stop the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Most bytes of a request that wait in a stream for the server.
const SEND_BUFFER: usize = 64 << 10;

/// Largest head of a response, as HTTP/2 counts it: the largest `max_response_head`, and 32 bytes for each of 256 fields.
const MAX_HEAD: u32 = (256 << 10) + 256 * 32;

/// Interval at which a thread closes idle connections.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A connection that requests share.
struct Session {
    send: SendRequest<Bytes>,
    /// TLS connector of the connection, if it is encrypted.
    tls: Option<Arc<TlsClient>>,
    state: Arc<SessionState>,
    /// Longest time that it may stay idle (`keepalive`).
    most: Duration,
}

/// State that the streams of a connection share.
#[derive(Debug)]
struct SessionState {
    began: Instant,
    open: AtomicUsize,
    /// Milliseconds from the beginning until a stream ended last.
    ended: AtomicU64,
}

/// Counts a stream for as long as it lasts.
#[derive(Debug)]
struct OpenStream(Arc<SessionState>);

/// Connections of a thread to one server.
struct Sessions {
    server: Arc<Server>,
    open: Vec<Session>,
    /// Result of the connection that is being made.
    connecting: Option<watch::Receiver<Option<Connected>>>,
}

/// Connections of a thread, by server. A list, because servers are few.
#[derive(Default)]
struct Pool {
    servers: Vec<Sessions>,
    is_swept: bool,
}

/// Result of connecting, which several requests wait for.
type Connected = Result<(), ConnectError>;

/// A copy of an error.
#[derive(Debug, Clone)]
struct ConnectError {
    kind: io::ErrorKind,
    code: Option<i32>,
    text: Arc<str>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Opens a stream, on a connection that has room for it, or on a new one.
///
/// # Errors
///
/// The system's error, a timeout, or that the server does not speak HTTP/2.
pub(super) async fn open(lease: &Lease) -> io::Result<Http2Stream> {
    let (server, tls) = (lease.server(), lease.upstream().tls());
    loop {
        let found = POOL.with_borrow_mut(|pool| {
            let sessions = pool.of(server);
            sessions.take(tls.as_ref()).ok_or_else(|| sessions.connect(lease, tls.as_ref()))
        });
        let mut connecting = match found {
            Ok((send, open)) => return Ok(Http2Stream::new(send, open, tls.is_some())),
            Err(connecting) => connecting,
        };
        match connecting.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(error))) => return Err(error.into()),
            Ok(_) => {}
            Err(_) => return Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

/// Connects to a server for one probe, which tells whether it speaks HTTP/2.
///
/// # Errors
///
/// The server cannot be connected to, or does not speak HTTP/2.
pub(super) async fn probe(
    server: &Server,
    tls: Option<&Arc<TlsClient>>,
    settings: &UpstreamSettings,
) -> io::Result<Prober> {
    let (send, connection) = handshake(server, tls, settings).await?;
    Ok(Prober { send, connection, is_encrypted: tls.is_some() })
}

/// A connection for one probe.
pub(super) struct Prober {
    send: SendRequest<Bytes>,
    connection: Connection<Socket, Bytes>,
    is_encrypted: bool,
}

impl Prober {
    /// Sends the head of a request of HTTP/1.1 that has no body. Returns the status of the response.
    ///
    /// # Errors
    ///
    /// The server breaks off.
    pub(super) async fn status(mut self, request: &[u8]) -> io::Result<StatusCode> {
        let (request, _) = head::request(request, self.is_encrypted).map_err(io::Error::other)?;
        let (mut response, _) = self.send.send_request(request, true).map_err(error::of)?;
        poll_fn(|cx| {
            let end = Pin::new(&mut self.connection).poll(cx);
            if let Poll::Ready(response) = Pin::new(&mut response).poll(cx) {
                return Poll::Ready(response.map(|response| response.status()).map_err(error::of));
            }
            end.map(|_| Err(io::ErrorKind::UnexpectedEof.into()))
        })
        .await
    }
}

/// Makes a connection, and waits until the server has begun to speak HTTP/2 with its SETTINGS: how many streams it
/// takes is known then, and that it is no server of another protocol.
async fn handshake(
    server: &Server,
    tls: Option<&Arc<TlsClient>>,
    settings: &UpstreamSettings,
) -> io::Result<(SendRequest<Bytes>, Connection<Socket, Bytes>)> {
    let shaking = async {
        let socket = connect(server, tls, settings.connect_timeout).await?;
        if tls.is_some() && !socket.has_agreed_on(b"h2") {
            let error = "the server does not speak HTTP/2 over TLS (ALPN)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, error));
        }
        socket.keep_alive();
        socket.give_up_after(settings.send_timeout);
        let (send, mut connection) = builder().handshake(socket).await.map_err(error::of_handshake)?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error::of_handshake(error))),
            Poll::Pending if send.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok((send, connection))
    };
    timeout(settings.connect_timeout, shaking).await.map_err(|_| io::ErrorKind::TimedOut)?
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Until its SETTINGS come: see `handshake`.
        .initial_max_send_streams(0)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD);
    builder
}

impl Pool {
    fn of(&mut self, server: &Arc<Server>) -> &mut Sessions {
        let known = self.servers.iter().position(|sessions| Arc::ptr_eq(&sessions.server, server));
        let place = known.unwrap_or_else(|| {
            let server = Arc::clone(server);
            self.servers.push(Sessions { server, open: Vec::new(), connecting: None });
            self.servers.len() - 1
        });
        if !self.is_swept {
            self.is_swept = true;
            tokio::spawn(sweep());
        }
        &mut self.servers[place]
    }
}

impl Sessions {
    /// A place on a connection that takes another stream. One that was made with another TLS connector is left: a reload
    /// may have changed which certificates are trusted.
    fn take(&mut self, tls: Option<&Arc<TlsClient>>) -> Option<(SendRequest<Bytes>, OpenStream)> {
        let now = clock::now();
        self.open.retain_mut(|session| {
            session.is_usable(now) && session.tls.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr)
        });
        let free = self.open.iter().find(|session| session.has_room())?;
        Some((free.send.clone(), OpenStream::new(&free.state)))
    }

    /// Makes a connection, unless one is being made.
    fn connect(&mut self, lease: &Lease, tls: Option<&Arc<TlsClient>>) -> watch::Receiver<Option<Connected>> {
        let is_on_its_way = |connecting: &&watch::Receiver<Option<Connected>>| {
            connecting.has_changed().is_ok() && connecting.borrow().is_none()
        };
        if let Some(connecting) = self.connecting.as_ref().filter(is_on_its_way) {
            return connecting.clone();
        }
        let (sender, receiver) = watch::channel(None);
        self.connecting = Some(receiver.clone());
        let (server, settings, tls) =
            (Arc::clone(lease.server()), Arc::clone(lease.settings()), tls.cloned());
        // Others wait for it too: it does not end with the request that began it.
        tokio::spawn(async move {
            let result = Box::pin(handshake(&server, tls.as_ref(), &settings)).await;
            POOL.with_borrow_mut(|pool| {
                let sessions = pool.of(&server);
                sessions.connecting = None;
                let result = result.map(|(send, connection)| {
                    let state = Arc::new(SessionState::new());
                    sessions.open.push(Session { send, tls, state, most: settings.keepalive });
                    tokio::spawn(drive(connection, server));
                });
                sender.send_replace(Some(result.map_err(ConnectError::from)));
            });
        });
        receiver
    }
}

/// Keeps a connection going until it ends.
async fn drive(connection: Connection<Socket, Bytes>, server: Arc<Server>) {
    if let Err(error) = connection.await {
        tracing::debug!(server = server.label, %error, "a connection of HTTP/2 to a server ends");
    }
}

impl Session {
    /// Whether it may take streams: the server has not said goodbye, and it was not idle for too long.
    fn is_usable(&mut self, now: Instant) -> bool {
        let is_open =
            !matches!(self.send.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)));
        let is_due =
            self.state.idle_since().is_some_and(|since| now.saturating_duration_since(since) > self.most);
        is_open && !is_due
    }

    fn has_room(&self) -> bool {
        self.state.open.load(Ordering::Relaxed) < self.send.current_max_send_streams()
    }
}

impl SessionState {
    fn new() -> Self {
        Self { began: Instant::now(), open: AtomicUsize::new(0), ended: AtomicU64::new(0) }
    }

    /// Since when no stream is open; `None` while one is.
    fn idle_since(&self) -> Option<Instant> {
        let ended = Duration::from_millis(self.ended.load(Ordering::Relaxed));
        (self.open.load(Ordering::Relaxed) == 0).then_some(self.began + ended)
    }
}

impl OpenStream {
    fn new(state: &Arc<SessionState>) -> Self {
        state.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(now, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self { kind: error.kind(), code: error.raw_os_error(), text: error.to_string().into() }
    }
}

impl From<&ConnectError> for io::Error {
    fn from(error: &ConnectError) -> Self {
        match error.code {
            Some(code) => Self::from_raw_os_error(code),
            None => Self::new(error.kind, error.text.to_string()),
        }
    }
}

/// Closes idle connections, until none is left. A connection that nothing holds says goodbye and ends.
async fn sweep() {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let is_empty = POOL.with_borrow_mut(|pool| {
            let now = Instant::now();
            pool.servers.retain_mut(|sessions| {
                sessions.open.retain_mut(|session| session.is_usable(now));
                !sessions.open.is_empty() || sessions.connecting.is_some()
            });
            pool.is_swept = !pool.servers.is_empty();
            pool.servers.is_empty()
        });
        if is_empty {
            return;
        }
    }
}

//! Accepting connections within their limits.

use std::{
    io,
    net::{self, SocketAddr},
    os::unix,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SocketFlags, acceptfrom_with, sockopt::socket_peercred},
};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{AcquireError, Semaphore},
    time::Instant,
};

use super::{Connect, ConnectionSettings, Listener, Purpose, peer::PeerAddress};
use crate::{
    listen::{
        address_counts::AddressCounts, guard::ConnectionGuard, reserved_fds::ReservedFds,
        threads::WorkerThreads,
    },
    net::RawSocket,
};

/// Reserved file descriptors of an operators' listener.
const RESERVED_FDS: usize = 8;

/// Pause after the system refuses a connection for lack of a resource (file descriptors, memory).
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted connection that is not registered with an event loop.
pub(crate) enum AcceptedSocket {
    Tcp(net::TcpStream, SocketAddr),
    Unix(unix::net::UnixStream, u32),
}

impl Acceptor {
    async fn accept(&self) -> io::Result<AcceptedSocket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(AcceptedSocket::Tcp(stream.into_std()?, address))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok(AcceptedSocket::Unix(stream.into_std()?, uid))
            }
        }
    }
}

impl Acceptor {
    /// Accepts a pending connection even if the runtime has not been notified of it; `None` if there is none.
    fn accept_now(&self) -> Option<io::Result<AcceptedSocket>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accepted = match self {
            Self::Tcp(listener) => acceptfrom_with(listener, flags),
            Self::Unix(listener) => acceptfrom_with(listener, flags),
        };
        let (socket, address) = match accepted {
            Err(Errno::AGAIN) => return None,
            Err(error) => return Some(Err(error.into())),
            Ok(accepted) => accepted,
        };
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        Some(match address {
            Some(address) => Ok(AcceptedSocket::Tcp(socket.into(), address)),
            None => match socket_peercred(&socket) {
                Ok(peer) => Ok(AcceptedSocket::Unix(socket.into(), peer.uid.as_raw())),
                Err(error) => Err(error.into()),
            },
        })
    }
}

impl AcceptedSocket {
    /// Registers the connection with the event loop of this thread.
    pub(crate) fn register(self) -> io::Result<(RawSocket, PeerAddress)> {
        Ok(match self {
            Self::Tcp(stream, address) => {
                (RawSocket::Tcp(TcpStream::from_std(stream)?), PeerAddress::Tcp(address))
            }
            Self::Unix(stream, uid) => {
                (RawSocket::Unix(UnixStream::from_std(stream)?), PeerAddress::Unix { uid })
            }
        })
    }
}

/// Destination of accepted connections, and their limits.
pub(super) struct Destination {
    /// Free places.
    pub(super) room: Arc<Semaphore>,
    /// Connections by address.
    pub(super) addresses: Arc<AddressCounts>,
    pub(super) connect: Connect,
    pub(super) workers: Arc<WorkerThreads>,
}

/// Accepts on one listener until it closes. Clients' connections are served by `workers`, operators' by the event
/// loop that runs this.
pub(super) async fn run(
    acceptor: Acceptor,
    listener: Arc<Listener>,
    limits: impl Fn() -> Arc<ConnectionSettings>,
    destination: Destination,
) {
    let mut closed = pin!(listener.closed());
    let mut backoff = AcceptBackoff::new(&listener);
    let reserved = match listener.purpose {
        Purpose::Admin => ReservedFds::of(RESERVED_FDS),
        Purpose::Sites => ReservedFds::default(),
    };
    while !listener.is_closing() {
        let accepted = tokio::select! {
            () = closed.as_mut() => break,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                backoff.succeeded();
                if let Err(error) = destination.serve(&listener, limits(), connection, &reserved).await {
                    return tracing::error!(%error, "stopped accepting connections");
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if !reserved.give_up() {
                    backoff.failed(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    // Connections that are pending at the end are served; closing the socket would reset them.
    while let Some(accepted) = acceptor.accept_now() {
        match accepted {
            Ok(connection) => {
                if destination.serve(&listener, limits(), connection, &reserved).await.is_err() {
                    return;
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(_) => return,
        }
    }
}

impl Destination {
    /// Serves a connection as soon as there is room, or closes it if its address has too many.
    async fn serve(
        &self,
        listener: &Arc<Listener>,
        limits: Arc<ConnectionSettings>,
        accepted: AcceptedSocket,
        reserved: &ReservedFds,
    ) -> Result<(), AcquireError> {
        let counted = match (limits.per_address, &accepted) {
            (Some(most), AcceptedSocket::Tcp(_, address)) if !is_exempt(listener, *address) => {
                let Some(counted) = self.addresses.take(address.ip(), most) else {
                    tracing::debug!(%address, "connection closed: max_connections_per_address reached");
                    listener.metrics.too_many.inc();
                    return Ok(());
                };
                Some(counted)
            }
            _ => None,
        };
        // A connection that has no place waits here, and those after it wait in the listen queue.
        let permit = Arc::clone(&self.room).acquire_owned().await?;
        let (listener, connect) = (Arc::clone(listener), Arc::clone(&self.connect));
        let addresses = Arc::clone(&self.addresses);
        match listener.purpose {
            Purpose::Sites => self.workers.serve(move |worker_guard| {
                let guard = ConnectionGuard::of_client(listener, permit, counted, worker_guard);
                connect(accepted, guard, limits, addresses);
            }),
            Purpose::Admin => {
                let guard = ConnectionGuard::of_operator(listener, permit, reserved.clone());
                connect(accepted, guard, limits, addresses);
            }
        }
        Ok(())
    }
}

/// Whether the limit per address does not apply: to operators, and to trusted proxies that speak for many clients.
fn is_exempt(listener: &Listener, address: SocketAddr) -> bool {
    listener.purpose == Purpose::Admin || PeerAddress::Tcp(address).is_trusted(&listener.settings().trust)
}

/// Time without failures after which accepting counts as recovered: until then a descriptor that is free for a moment
/// is logged only once.
const RECOVERED_AFTER: Duration = Duration::from_secs(5);

/// Backoff while the system refuses connections for lack of a resource (file descriptors, memory). Logs the beginning
/// and the end of that.
struct AcceptBackoff<'a> {
    listener: &'a Listener,
    since: Option<Instant>,
    last: Instant,
}

impl<'a> AcceptBackoff<'a> {
    fn new(listener: &'a Listener) -> Self {
        Self { listener, since: None, last: Instant::now() }
    }

    /// Records a failure to accept.
    fn failed(&mut self, error: &io::Error) {
        self.last = Instant::now();
        if self.since.is_none() {
            self.since = Some(self.last);
            self.listener.metrics.pauses.inc();
            let listener = &self.listener.configured;
            tracing::error!(%listener, %error, "cannot accept connections: clients wait; retrying ten times a second");
        }
    }

    /// Records an accepted connection.
    fn succeeded(&mut self) {
        if let Some(since) = self.since.take_if(|_| self.last.elapsed() >= RECOVERED_AFTER) {
            let listener = &self.listener.configured;
            tracing::warn!(%listener, after = ?since.elapsed(), "accepting connections again");
        }
    }
}

/// Whether the error concerns only this connection: the client closed it before it was accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}

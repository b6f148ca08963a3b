//! Accepting connections, as many as there is room for.

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
    net::Raw,
};

/// Files that an operators' listener keeps open for nothing.
const SPARE: usize = 8;

/// Pause after the system refuses a connection for want of something (file descriptors, memory).
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that no event loop knows any more, or yet.
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
    /// Accepts whoever is there, even if the runtime has not been told yet; `None` when nobody is.
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
    /// From now on the event loop of this thread knows it.
    pub(crate) fn register(self) -> io::Result<(Raw, PeerAddress)> {
        Ok(match self {
            Self::Tcp(stream, address) => (Raw::Tcp(TcpStream::from_std(stream)?), PeerAddress::Tcp(address)),
            Self::Unix(stream, uid) => (Raw::Unix(UnixStream::from_std(stream)?), PeerAddress::Unix { uid }),
        })
    }
}

/// Where accepted connections go, and what says whether they may.
pub(super) struct To {
    /// Places that are left.
    pub(super) room: Arc<Semaphore>,
    /// Connections by address.
    pub(super) addresses: Arc<AddressCounts>,
    pub(super) connect: Connect,
    pub(super) workers: Arc<WorkerThreads>,
}

/// Accepts on one listener until it closes. Clients' connections are served by `workers`, those of operators by the
/// event loop that runs this.
pub(super) async fn run(
    acceptor: Acceptor,
    listener: Arc<Listener>,
    limits: impl Fn() -> Arc<ConnectionSettings>,
    to: To,
) {
    let mut closed = pin!(listener.closed());
    let mut want = AcceptBackoff::new(&listener);
    let spare = match listener.purpose {
        Purpose::Admin => ReservedFds::of(SPARE),
        Purpose::Sites => ReservedFds::default(),
    };
    while !listener.is_closing() {
        let accepted = tokio::select! {
            () = closed.as_mut() => break,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(connection) => {
                want.succeeded();
                if let Err(error) = to.take(&listener, limits(), connection, &spare).await {
                    return tracing::error!(%error, "no room for connections");
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if !spare.give_up() {
                    want.failed(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    // Who has connected before the end is served; closing the socket would reset them.
    while let Some(accepted) = acceptor.accept_now() {
        match accepted {
            Ok(connection) => {
                if to.take(&listener, limits(), connection, &spare).await.is_err() {
                    return;
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(_) => return,
        }
    }
}

impl To {
    /// Has a connection served as soon as there is room, or closes it when its address has too many.
    async fn take(
        &self,
        listener: &Arc<Listener>,
        limits: Arc<ConnectionSettings>,
        accepted: AcceptedSocket,
        spare: &ReservedFds,
    ) -> Result<(), AcquireError> {
        let counted = match (limits.per_address, &accepted) {
            (Some(most), AcceptedSocket::Tcp(_, address)) if !is_exempt(listener, *address) => {
                let Some(counted) = self.addresses.take(address.ip(), most) else {
                    tracing::debug!(%address, "closed: max_connections_per_address");
                    listener.metrics.too_many.inc();
                    return Ok(());
                };
                Some(counted)
            }
            _ => None,
        };
        // A connection that there is no room for waits here, and those after it in the listen queue.
        let permit = Arc::clone(&self.room).acquire_owned().await?;
        let (listener, connect) = (Arc::clone(listener), Arc::clone(&self.connect));
        let addresses = Arc::clone(&self.addresses);
        match listener.purpose {
            Purpose::Sites => self.workers.serve(move |seat| {
                let place = ConnectionGuard::of_client(listener, permit, counted, seat);
                connect(accepted, place, limits, addresses);
            }),
            Purpose::Admin => {
                let place = ConnectionGuard::of_operator(listener, permit, spare.clone());
                connect(accepted, place, limits, addresses);
            }
        }
        Ok(())
    }
}

/// Operators, and proxies in front that speak for many clients.
fn is_exempt(listener: &Listener, address: SocketAddr) -> bool {
    listener.purpose == Purpose::Admin || PeerAddress::Tcp(address).is_trusted(&listener.settings().trust)
}

/// Accepting goes well again when it has for so long: until then a file that is free for a moment is only told of once.
const WELL_AFTER: Duration = Duration::from_secs(5);

/// The system gives no connections for want of something (files, memory): told when that begins and when it is over.
struct AcceptBackoff<'a> {
    listener: &'a Listener,
    since: Option<Instant>,
    last: Instant,
}

impl<'a> AcceptBackoff<'a> {
    fn new(listener: &'a Listener) -> Self {
        Self { listener, since: None, last: Instant::now() }
    }

    /// A connection was not accepted, for this reason.
    fn failed(&mut self, error: &io::Error) {
        self.last = Instant::now();
        if self.since.is_none() {
            self.since = Some(self.last);
            self.listener.metrics.pauses.inc();
            let listener = &self.listener.configured;
            tracing::error!(%listener, %error, "cannot accept: clients wait; trying again ten times a second");
        }
    }

    /// A connection was accepted.
    fn succeeded(&mut self) {
        if let Some(since) = self.since.take_if(|_| self.last.elapsed() >= WELL_AFTER) {
            let listener = &self.listener.configured;
            tracing::warn!(%listener, after = ?since.elapsed(), "accepting again");
        }
    }
}

/// Whether the client alone is concerned: it left before it was accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}

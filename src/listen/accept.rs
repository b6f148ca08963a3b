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
    sync::Semaphore,
};

use super::{
    Limits, Listener, Purpose, Serve, connection,
    peer::PeerAddress,
    place::Place,
    socket::Raw,
    workers::{Seat, Workers},
};

/// Pause after the system refuses a connection for want of something (file descriptors, memory).
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that no event loop knows any more, or yet.
pub(super) enum Accepted {
    Tcp(net::TcpStream, SocketAddr),
    Unix(unix::net::UnixStream, u32),
}

impl Acceptor {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Accepted::Tcp(stream.into_std()?, address))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok(Accepted::Unix(stream.into_std()?, uid))
            }
        }
    }
}

impl Acceptor {
    /// Accepts whoever is there, even if the runtime has not been told yet; `None` when nobody is.
    fn accept_now(&self) -> Option<io::Result<Accepted>> {
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
            Some(address) => Ok(Accepted::Tcp(socket.into(), address)),
            None => match socket_peercred(&socket) {
                Ok(peer) => Ok(Accepted::Unix(socket.into(), peer.uid.as_raw())),
                Err(error) => Err(error.into()),
            },
        })
    }
}

impl Accepted {
    /// From now on the event loop of this thread knows it.
    pub(super) fn register(self) -> io::Result<(Raw, PeerAddress)> {
        Ok(match self {
            Self::Tcp(stream, address) => (Raw::Tcp(TcpStream::from_std(stream)?), PeerAddress::Tcp(address)),
            Self::Unix(stream, uid) => (Raw::Unix(UnixStream::from_std(stream)?), PeerAddress::Unix { uid }),
        })
    }
}

/// Accepts on one listener until it closes. Clients' connections are served by `workers`, those of operators by the
/// event loop that runs this.
pub(super) async fn run(
    acceptor: Acceptor,
    listener: Arc<Listener>,
    limits: impl Fn() -> Arc<Limits>,
    room: Arc<Semaphore>,
    serve: Serve,
    workers: Arc<Workers>,
) {
    let mut closed = pin!(listener.closed());
    let purpose = listener.purpose;
    let start = |permit, accepted: Accepted| {
        let (listener, limits, serve) = (Arc::clone(&listener), limits(), Arc::clone(&serve));
        let start = move |seat: Option<Seat>| {
            connection::start(accepted, Place::take(listener, permit, seat), limits, serve);
        };
        match purpose {
            Purpose::Sites => workers.serve(|seat| start(Some(seat))),
            Purpose::Admin => start(None),
        }
    };
    // A connection that there is no room for waits here, and those after it in the listen queue.
    let room = || async { Arc::clone(&room).acquire_owned().await.map_err(io::Error::other) };
    while !listener.is_closing() {
        let accepted = tokio::select! {
            () = closed.as_mut() => break,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(connection) => match room().await {
                Ok(permit) => start(permit, connection),
                Err(error) => return tracing::error!(%error, "no room for connections"),
            },
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(listener = %listener.configured, %error, "cannot accept; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // Who has connected before the end is served; closing the socket would reset them.
    while let Some(accepted) = acceptor.accept_now() {
        match accepted {
            Ok(connection) => match room().await {
                Ok(permit) => start(permit, connection),
                Err(_) => return,
            },
            Err(error) if is_about_one_connection(&error) => {}
            Err(_) => return,
        }
    }
}

/// Whether the client alone is concerned: it left before it was accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}

//! Accepting connections, as many as there is room for.

use std::{io, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::unconstrained,
};

use super::{
    Limits, Listener, Serve, connection,
    peer::{Peer, PeerAddress},
    place::Place,
    socket::Socket,
    transport::Transport,
};

/// Pause after the system refuses a connection for want of something (file descriptors, memory).
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    async fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are coalesced here; waiting for acknowledgements would only delay their ends.
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream), PeerAddress::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Socket::Unix(stream), PeerAddress::Unix { uid }))
            }
        }
    }
}

/// Accepts on one listener until it closes.
pub(super) async fn run(
    acceptor: Acceptor,
    listener: Arc<Listener>,
    limits: impl Fn() -> Limits,
    room: Arc<Semaphore>,
    serve: Serve,
) {
    let mut closed = pin!(listener.closed());
    let start = |permit, (socket, address)| {
        let peer = Arc::new(Peer { listener: Arc::clone(&listener), address });
        let place = Place::take(Arc::clone(&listener), permit);
        let limits = limits();
        connection::spawn(Transport::new(socket, peer, &limits, place), limits, &serve);
    };
    // A connection that there is no room for waits here, and those after it in the listen queue.
    let room = || async { Arc::clone(&room).acquire_owned().await.map_err(io::Error::other) };
    loop {
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
    while let Some(accepted) = unconstrained(acceptor.accept()).now_or_never() {
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

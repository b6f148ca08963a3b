//! Connecting to servers, with TLS if the upstream is configured for it.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use tokio::{
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

use super::Server;
use crate::{
    config::Address,
    net::{RawSocket, Socket},
    tls::TlsClient,
};

/// Connects to a server, including the TLS handshake if the upstream has `tls`
/// ([`Upstream::tls`](super::Upstream::tls)).
///
/// # Errors
///
/// The system's error, a certificate that does not match, or a timeout.
pub(crate) async fn connect(
    server: &Server,
    tls: Option<&Arc<TlsClient>>,
    within: Duration,
) -> io::Result<Socket> {
    let connecting = async {
        let raw = match &server.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                RawSocket::Tcp(stream)
            }
            Address::Unix(path) => RawSocket::Unix(connect_unix(path).await?),
        };
        match tls {
            None => Ok(Socket::Plain(raw)),
            Some(tls) => tls.connect(raw, &server.host).await,
        }
    };
    timeout(within, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Pause before another try to connect to a socket whose listen queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(10);

/// Connects to a unix socket, which takes no time. While its listen queue is full, which TCP waits for by itself, the
/// system says EAGAIN.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    while let Err(error) = rustix::net::connect(&socket, &address) {
        match error {
            Errno::AGAIN => sleep(QUEUE_FULL).await,
            Errno::INTR => {}
            error => return Err(error.into()),
        }
    }
    UnixStream::from_std(socket.into())
}

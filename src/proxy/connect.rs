//! Connections to servers for requests that ask for an upgrade (WebSocket).
//!
//! The engine (0.9.1) sends a request and reads its answer in one loop that takes whichever is ready. When a 101 is
//! there before the loop has seen the end of the (empty) request body, that end is taken for the end of the tunnel, and
//! the connection closes. So the first reads of such a connection are put off for a moment, in which the end of the
//! request, which is ready from the start, is seen.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use pingora_core::{
    connectors::l4::Connect,
    protocols::l4::{
        socket::SocketAddr,
        stream::Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
};
use pingora_error::{Error, ErrorType, OkOrErr, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Reads that are put off, each for one turn of the loop. One is enough unless the runtime makes the loop yield.
const PUT_OFF: u8 = 3;

/// Connects for an upgrade.
pub(super) fn connector(within: Duration) -> Arc<dyn Connect + Send + Sync> {
    Arc::new(Connector { within })
}

#[derive(Debug)]
struct Connector {
    within: Duration,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let connecting = async {
            Ok::<Box<dyn VirtualSocket>, io::Error>(match address {
                SocketAddr::Inet(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(Patient { stream, put_off: PUT_OFF })
                }
                SocketAddr::Unix(address) => {
                    let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
                    Box::new(Patient { stream: UnixStream::connect(path).await?, put_off: PUT_OFF })
                }
            })
        };
        let connected = timeout(self.within, connecting).await.ok();
        let socket = connected.or_err(ErrorType::ConnectTimedout, "connecting for an upgrade")?;
        let socket = socket.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "connecting for an upgrade", error)
        })?;
        Ok(VirtualSocketStream::new(socket).into())
    }
}

/// A stream whose first reads are put off.
#[derive(Debug)]
struct Patient<S> {
    stream: S,
    put_off: u8,
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.put_off > 0 {
            self.put_off -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> VirtualSocket for Patient<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug,
{
    /// What the engine sets is set already.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

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
use pingora_error::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::{self, Lease, Server, Upstream};

/// Reads that are put off, each for one turn of the loop. One is enough unless the runtime makes the loop yield.
pub(super) const PUT_OFF: u8 = 3;

/// Connects to a server of this upstream, for an upgrade.
pub(super) fn connector(lease: &Lease, put_off: u8) -> Arc<dyn Connect + Send + Sync> {
    Arc::new(Connector {
        upstream: Arc::clone(lease.upstream()),
        server: Arc::clone(lease.server()),
        put_off,
    })
}

/// Connects as we do ourselves.
struct Connector {
    upstream: Arc<Upstream>,
    server: Arc<Server>,
    put_off: u8,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        let within = self.upstream.settings().connect_timeout;
        let connected = upstream::connect(&self.upstream, &self.server, within).await;
        let stream = connected.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "connecting", error)
        })?;
        Ok(VirtualSocketStream::new(Box::new(Patient { stream, put_off: self.put_off })).into())
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connector to {}", self.server.label)
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

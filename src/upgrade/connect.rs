//! Connections to upstream servers for the engine (pingora), one request each.
//!
//! The server's response is checked here as strictly as in our own exchange ([`CheckedResponse`]) before the engine
//! (0.9.1) parses it: the engine accepts bare line feeds, conflicting lengths, and heads of up to 1 MiB.
//!
//! The engine sends a request and reads its response in one loop that takes whichever is ready. When a 101 arrives
//! before the loop has seen the end of the (empty) request body, the engine takes that end for the end of the tunnel
//! and closes the connection. So the first reads of the response to an upgrade request are delayed for a moment, in
//! which the loop sees the end of the request, which is ready from the start.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::BytesMut;
use http::{Method, StatusCode};
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

use crate::{
    message::{BodyFraming, MOST_INTERIM, ResponseHead},
    net::Buffer,
    upstream::{self, Lease, Server, Upstream},
};

/// Delayed reads, each for one turn of the loop. One is enough unless the runtime makes the loop yield.
const DELAYED_READS: u8 = 3;

/// Bytes read at once while a head arrives.
const HEAD_READ: usize = 16 * 1024;

/// Creates the connector for one request.
pub(super) fn connector(lease: &Lease) -> Arc<dyn Connect + Send + Sync> {
    let (upstream, server) = (Arc::clone(lease.upstream()), Arc::clone(lease.server()));
    Arc::new(CheckedConnector { upstream, server, max_head: lease.settings().max_response_head })
}

/// Connects in the same way as our own exchange.
struct CheckedConnector {
    upstream: Arc<Upstream>,
    server: Arc<Server>,
    /// Most bytes of the head of the response.
    max_head: usize,
}

#[async_trait]
impl Connect for CheckedConnector {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        let within = self.upstream.settings().connect_timeout;
        let tls = self.upstream.tls();
        let connected = upstream::connect(&self.server, tls.as_ref(), within).await;
        let stream = connected.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "connecting", error)
        })?;
        Ok(VirtualSocketStream::new(Box::new(Checked::new(stream, self.max_head))).into())
    }
}

impl fmt::Debug for CheckedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connector to {}", self.server.label)
    }
}

/// Stream that carries one checked response.
#[derive(Debug)]
struct Checked<S> {
    stream: S,
    delayed: u8,
    response: CheckedResponse,
    /// Bytes that were read and have not been checked, or are not yet complete.
    received: BytesMut,
    /// Bytes that were checked and have not been handed to the engine.
    good: BytesMut,
}

impl<S> Checked<S> {
    fn new(stream: S, max_head: usize) -> Self {
        let response = CheckedResponse { max_head, at: ResponsePhase::ResponseHead, interim: 0 };
        Self { stream, delayed: DELAYED_READS, response, received: BytesMut::new(), good: BytesMut::new() }
    }
}

/// Checker of a server's response.
#[derive(Debug)]
struct CheckedResponse {
    /// Most bytes of a head.
    max_head: usize,
    at: ResponsePhase,
    /// Interim responses so far.
    interim: u32,
}

#[derive(Debug)]
enum ResponsePhase {
    ResponseHead,
    Body(BodyFraming),
    Tunnel,
}

impl CheckedResponse {
    /// Number of the received bytes that may be handed to the engine; 0 when more must arrive first.
    ///
    /// # Errors
    ///
    /// When the response is ambiguous: two programs could read it in different ways.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let malformed = |error: &dyn std::error::Error| {
            tracing::warn!("{error}");
            io::Error::from(io::ErrorKind::InvalidData)
        };
        match &mut self.at {
            ResponsePhase::Tunnel => Ok(bytes.len()),
            ResponsePhase::Body(framing) => framing.count(bytes).map_err(|error| malformed(&error)),
            ResponsePhase::ResponseHead => {
                let read = ResponseHead::read(bytes, self.max_head).map_err(|error| malformed(&error))?;
                let Some((head, length)) = read else { return Ok(0) };
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    self.at = ResponsePhase::Tunnel;
                } else if head.is_interim() && self.interim == MOST_INTERIM {
                    return Err(io::ErrorKind::InvalidData.into());
                } else if head.is_interim() {
                    self.interim += 1;
                } else {
                    self.at =
                        ResponsePhase::Body(head.framing(&Method::GET).map_err(|error| malformed(&error))?);
                }
                Ok(length)
            }
        }
    }

    /// Whether the response is complete, so that the connection may end.
    fn is_done(&self) -> bool {
        matches!(&self.at, ResponsePhase::Body(framing) if framing.is_done())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Checked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.delayed > 0 {
            this.delayed -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if !this.good.is_empty() {
                let part = this.good.split_to(this.good.len().min(out.remaining()));
                out.put_slice(&part);
                return Poll::Ready(Ok(()));
            }
            if this.response.is_done() {
                // Bytes after the response are discarded.
                return Poll::Ready(Ok(()));
            }
            if !this.received.is_empty() {
                let good = this.response.take(&this.received)?;
                this.good = this.received.split_to(good);
                if good > 0 {
                    continue;
                }
            }
            if !matches!(this.response.at, ResponsePhase::ResponseHead) {
                return this.poll_body(cx, out);
            }
            let mut buffer = Buffer::take();
            let mut room = ReadBuf::new(&mut buffer.room()[..HEAD_READ]);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut room))?;
            if room.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.received.extend_from_slice(room.filled());
        }
    }
}

impl<S: AsyncRead + Unpin> Checked<S> {
    /// Reads the body into the engine's buffer without a copy.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let arrived = &out.filled()[start..];
        if !arrived.is_empty() {
            let good = self.response.take(arrived)?;
            self.received.extend_from_slice(&arrived[good..]);
            out.set_filled(start + good);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Checked<S> {
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

impl<S> VirtualSocket for Checked<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + fmt::Debug,
{
    /// Does nothing: the socket options are set already.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

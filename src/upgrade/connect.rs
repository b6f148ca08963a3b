//! Connections to servers for the engine, on each of which one request is answered.
//!
//! What a server answers is checked here as strictly as in our own exchange ([`CheckedResponse`]), before the engine (0.9.1) sees
//! it: that takes bare line feeds and conflicting lengths, and heads of up to 1 MiB.
//!
//! The engine sends a request and reads its answer in one loop that takes whichever is ready. When a 101 is
//! there before the loop has seen the end of the (empty) request body, that end is taken for the end of the tunnel, and
//! the connection closes. So the first reads for a request that asks for an upgrade are put off for a moment, in which the
//! end of the request, which is ready from the start, is seen.

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

/// Reads that are put off, each for one turn of the loop. One is enough unless the runtime makes the loop yield.
const PUT_OFF: u8 = 3;

/// Read at once while a head comes.
const HEAD_READ: usize = 16 * 1024;

/// Connects to a server for one request.
pub(super) fn connector(lease: &Lease) -> Arc<dyn Connect + Send + Sync> {
    let (upstream, server) = (Arc::clone(lease.upstream()), Arc::clone(lease.server()));
    Arc::new(CheckedConnector { upstream, server, max_head: lease.settings().max_response_head })
}

/// Connects as we do ourselves.
struct CheckedConnector {
    upstream: Arc<Upstream>,
    server: Arc<Server>,
    /// Most bytes of the head of its response.
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

/// A stream on which one answer comes.
#[derive(Debug)]
struct Checked<S> {
    stream: S,
    put_off: u8,
    answer: CheckedResponse,
    /// Read, and not yet looked at, or not yet enough.
    received: BytesMut,
    /// Read and good.
    good: BytesMut,
}

impl<S> Checked<S> {
    fn new(stream: S, max_head: usize) -> Self {
        let answer = CheckedResponse { max_head, at: ResponsePhase::ResponseHead, interim: 0 };
        Self { stream, put_off: PUT_OFF, answer, received: BytesMut::new(), good: BytesMut::new() }
    }
}

/// The answer of a server as it comes.
#[derive(Debug)]
struct CheckedResponse {
    /// Most bytes of its head.
    max_head: usize,
    at: ResponsePhase,
    /// Interim answers so far.
    interim: u32,
}

#[derive(Debug)]
enum ResponsePhase {
    ResponseHead,
    Body(BodyFraming),
    Tunnel,
}

impl CheckedResponse {
    /// How many of the bytes that have come may be handed out; 0 when more must come first.
    ///
    /// # Errors
    ///
    /// What two programs could read in two ways.
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

    /// Whether the connection may end here.
    fn is_done(&self) -> bool {
        matches!(&self.at, ResponsePhase::Body(framing) if framing.is_done())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Checked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.put_off > 0 {
            this.put_off -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if !this.good.is_empty() {
                let part = this.good.split_to(this.good.len().min(out.remaining()));
                out.put_slice(&part);
                return Poll::Ready(Ok(()));
            }
            if this.answer.is_done() {
                // More than the answer is nobody's.
                return Poll::Ready(Ok(()));
            }
            if !this.received.is_empty() {
                let good = this.answer.take(&this.received)?;
                this.good = this.received.split_to(good);
                if good > 0 {
                    continue;
                }
            }
            if !matches!(this.answer.at, ResponsePhase::ResponseHead) {
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
    /// Reads without a copy.
    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let came = &out.filled()[start..];
        if !came.is_empty() {
            let good = self.answer.take(came)?;
            self.received.extend_from_slice(&came[good..]);
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
    /// What the engine sets is set already.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

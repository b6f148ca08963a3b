//! Client connections as pingora streams, during a handshake and its tunnel.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use pingora_error::{ErrorType, OkOrErr, Result};
use pingora_proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::downstream::Transport;

/// Transport that pingora reads from and writes to. Its callbacks reach it through a shared session, hence the lock,
/// which is never contended.
#[derive(Debug)]
pub(super) struct ClientStream(Mutex<Option<Box<Transport>>>);

impl ClientStream {
    pub(super) fn new(transport: Box<Transport>) -> Self {
        Self(Mutex::new(Some(transport)))
    }

    pub(super) fn into_transport(self) -> Option<Box<Transport>> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_mut(&mut self) -> io::Result<Pin<&mut Transport>> {
        let transport = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        transport.as_deref_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn of(session: &Session) -> Result<&Self> {
        let stream = session.as_downstream().as_http1().map(|session| session.stream().as_any());
        stream.and_then(|stream| stream.downcast_ref()).or_err(ErrorType::InternalError, "not our connection")
    }
}

/// Calls `use_transport` with the client's connection of a session.
pub(super) fn with_transport<T>(
    session: &Session,
    use_transport: impl FnOnce(&mut Transport) -> T,
) -> Result<T> {
    let mut transport = ClientStream::of(session)?.0.lock().unwrap_or_else(PoisonError::into_inner);
    transport.as_deref_mut().map(use_transport).or_err(ErrorType::InternalError, "the connection is in use")
}

/// Takes the client's connection out of a session that is not read or written meanwhile, until [`put_back`].
pub(super) fn take(session: &Session) -> Result<Box<Transport>> {
    let mut transport = ClientStream::of(session)?.0.lock().unwrap_or_else(PoisonError::into_inner);
    transport.take().or_err(ErrorType::InternalError, "the connection is in use")
}

/// Returns the connection taken by [`take`].
pub(super) fn put_back(session: &Session, transport: Box<Transport>) -> Result<()> {
    *ClientStream::of(session)?.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(transport);
    Ok(())
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::get_mut(Pin::into_inner(self))?.poll_read(cx, out)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::get_mut(Pin::into_inner(self))?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::get_mut(Pin::into_inner(self))?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::get_mut(Pin::into_inner(self))?.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        if let Err(error) = self.flush().await {
            tracing::debug!(%error, "cannot finish the response to the client");
        }
    }
}

impl UniqueID for ClientStream {
    /// Not used: pingora looks up no connection by it.
    fn id(&self) -> UniqueIDType {
        -1
    }
}

impl Ssl for ClientStream {}

impl Peek for ClientStream {}

// Pingora copies these into every request; the peer is known from the transport instead.

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

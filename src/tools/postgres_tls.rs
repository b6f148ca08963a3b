//! TLS to PostgreSQL, by the client of upstream servers.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::client;

use crate::{config::UpstreamTls, tls::TlsClient};

/// ALPN name of PostgreSQL's protocol.
const PROTOCOL: &[u8] = b"postgresql";

/// Maker of TLS sessions.
#[derive(Clone)]
pub(super) struct MakeTls(Arc<TlsClient>);

/// Maker of the TLS session with one server.
pub(super) struct Connect {
    client: Arc<TlsClient>,
    host: String,
}

/// TLS session with a server.
pub(super) struct Session(client::TlsStream<Socket>);

impl MakeTls {
    /// Reads the CA file. Blocks.
    pub(super) fn new(settings: &UpstreamTls) -> Self {
        Self(Arc::new(TlsClient::speaking(PROTOCOL, settings)))
    }
}

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = Session;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Connect> {
        Ok(Connect { client: Arc::clone(&self.0), host: host.to_owned() })
    }
}

impl TlsConnect<Socket> for Connect {
    type Stream = Session;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Session>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { Ok(Session(self.client.stream(socket, &self.host).await?)) })
    }
}

impl TlsStream for Session {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl AsyncWrite for Session {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

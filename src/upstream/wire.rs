//! Carrier of one request to a server: a socket, or one stream of an HTTP/2 connection.

use std::{
    io,
    task::{Context, Poll},
};

use http::HeaderMap;
use tokio::io::ReadBuf;

use super::http2::Http2Stream;
use crate::net::Socket;

/// A socket to a server, or a stream.
#[derive(Debug)]
pub(super) enum Wire {
    /// An HTTP/1.1 or uwsgi connection.
    Socket(Socket),
    /// A stream of an HTTP/2 connection.
    Stream(Box<Http2Stream>),
}

impl Wire {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_read(cx, out),
            Self::Stream(stream) => stream.poll_read(cx, out),
        }
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_send(cx, bytes, false),
            Self::Stream(stream) => stream.poll_send(cx, bytes),
        }
    }

    /// Sends two pieces with one call. A stream takes the second when the first is gone.
    pub(super) fn poll_send_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_send_both(cx, first, second),
            Self::Stream(stream) => stream.poll_send(cx, if first.is_empty() { second } else { first }),
        }
    }

    /// See [`Socket::poll_send_and_wait`].
    pub(super) fn poll_send_and_wait(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_send_and_wait(cx, bytes),
            Self::Stream(stream) => stream.poll_send(cx, bytes),
        }
    }

    /// See [`Socket::send_at_once`].
    pub(super) fn send_at_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.send_at_once(bytes),
            Self::Stream(_) => Ok(0),
        }
    }

    /// Sends buffered data. The connection of a stream sends what the stream has taken.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_flush(cx),
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ends what is sent. A stream ends with the body of its request.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_shutdown(cx),
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// See [`Socket::keep_alive`].
    pub(super) fn keep_alive(&self) {
        if let Self::Socket(socket) = self {
            socket.keep_alive();
        }
    }

    /// See [`Socket::tells_what_is_read`].
    pub(super) fn tells_what_is_read(&self) -> bool {
        matches!(self, Self::Socket(socket) if socket.tells_what_is_read())
    }

    /// Takes the trailers of a response that is whole.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Socket(_) => None,
            Self::Stream(stream) => stream.take_trailers(),
        }
    }
}

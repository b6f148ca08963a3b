//! Carrier of one request and its response: a client's socket, or one stream of an HTTP/2 connection.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    task::{Context, Poll, Waker},
};

use http::HeaderMap;
use tokio::io::ReadBuf;

use super::http2::Http2Stream;
use crate::net::{Buffer, Socket};

/// Bytes of a file that are read and encrypted at a time, no more than TLS takes at once.
const FILE_PIECE: usize = 64 * 1024;

/// A client's socket or HTTP/2 stream.
#[derive(Debug)]
pub(crate) enum Wire {
    /// An HTTP/1.1 connection.
    Socket(Socket),
    /// A stream of an HTTP/2 connection.
    Stream(Box<Http2Stream>),
}

impl Wire {
    /// The socket, if this is no stream.
    pub(crate) fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::Stream(_) => None,
        }
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_read(cx, out),
            Self::Stream(stream) => stream.poll_read(cx, out),
        }
    }

    /// Reads of a body; none at the end of a stream, see [`has_ended_body`](Self::has_ended_body).
    pub(crate) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_read(cx, out);
        if read.is_pending() && self.has_ended_body() { Poll::Ready(Ok(())) } else { read }
    }

    /// Whether the client has ended the stream, all of which has been read. A socket tells nothing of a body's end.
    pub(crate) fn has_ended_body(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Stream(stream) => stream.has_ended_body(),
        }
    }

    /// Trailers of a body that has been read.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Socket(_) => None,
            Self::Stream(stream) => stream.trailers(),
        }
    }

    /// Sets the trailers of a response in chunks, where the client gets them.
    pub(crate) fn set_trailers(&mut self, trailers: HeaderMap) {
        if let Self::Stream(stream) = self {
            stream.set_trailers(trailers);
        }
    }

    /// Sends `bytes`; `more` says that others follow at once, so that they share a packet.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_send(cx, bytes, more),
            Self::Stream(stream) => stream.poll_send(cx, bytes),
        }
    }

    /// Sends two pieces with one call.
    pub(crate) fn poll_send_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = match self {
            Self::Socket(socket) => return socket.poll_send_both(cx, first, second),
            Self::Stream(stream) => stream,
        };
        let mut taken = 0;
        for piece in [first, second] {
            match stream.poll_send(cx, piece) {
                Poll::Ready(sent) => {
                    let sent = sent?;
                    taken += sent;
                    if sent < piece.len() {
                        // What follows must wait for the rest of it.
                        break;
                    }
                }
                Poll::Pending if taken > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Sends a part of a file that is in the page cache, without a copy where the socket is not encrypted.
    pub(crate) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        if let Self::Socket(Socket::Plain(raw)) = self {
            return raw.poll_sendfile(cx, file, offset, count);
        }
        let mut buffer = Buffer::take();
        let room = &mut buffer.room()[..count.min(FILE_PIECE)];
        match file.read_at(room, offset)? {
            0 => Poll::Ready(Ok(0)),
            read => self.poll_send(cx, &room[..read], false),
        }
    }

    /// Sends what was taken and is not sent yet. The connection of a stream sends what the stream has taken.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_flush(cx),
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => socket.poll_shutdown(cx),
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the client has closed its side, or reset the stream; reads nothing.
    pub(crate) fn is_abandoned(&mut self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_abandoned(),
            Self::Stream(stream) => stream.is_reset(&mut Context::from_waker(Waker::noop())),
        }
    }

    /// Sends the TLS close_notify, where TLS is spoken.
    pub(crate) fn close_notify(&mut self) {
        if let Self::Socket(socket) = self {
            socket.close_notify();
        }
    }

    /// Whether dropping the connection resets it. A stream whose response is incomplete is always reset.
    pub(crate) fn reset_on_close(&self, resets: bool) {
        if let Some(Err(error)) = self.socket().map(|socket| socket.reset_on_close(resets)) {
            tracing::debug!(%error, "cannot set SO_LINGER");
        }
    }

    /// Gives the client up. An HTTP/2 connection that is left with nothing else ends too.
    pub(crate) fn give_up(&mut self) {
        if let Self::Stream(stream) = self {
            stream.give_up();
        }
    }
}

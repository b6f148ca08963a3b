//! Bodies in HTTP/1.1 that leave as DATA of an HTTP/2 stream: requests to servers, responses to clients.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use super::BodyFraming;

/// A body on its way into a stream.
pub(crate) struct Http2Body {
    pub(crate) stream: SendStream<Bytes>,
    framing: BodyFraming,
    /// Error of the stream as one of a socket.
    broken: fn(h2::Error) -> io::Error,
}

impl Http2Body {
    /// A body that is framed like that in HTTP/1.1.
    pub(crate) fn new(
        stream: SendStream<Bytes>,
        framing: BodyFraming,
        broken: fn(h2::Error) -> io::Error,
    ) -> Self {
        Self { stream, framing, broken }
    }

    /// Whether all of it has been handed to `h2`.
    pub(crate) fn is_done(&self) -> bool {
        self.framing.is_done()
    }

    /// Whether it ends when nothing more is sent.
    pub(crate) fn ends_with_stream(&self) -> bool {
        self.framing == BodyFraming::UntilClose
    }

    /// Takes the next bytes as far as they are of one kind, data or framing, and the peer has room. `trailers` follow a body in
    /// chunks.
    ///
    /// # Errors
    ///
    /// The stream has ended, or the bytes are no body.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        trailers: impl FnOnce() -> Option<HeaderMap>,
    ) -> Poll<io::Result<usize>> {
        let broken = self.broken;
        let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let Some(data) = self.framing.data_left() else {
            // Framing of chunks, which HTTP/2 has no use for.
            self.framing.count(&bytes[..1]).map_err(malformed)?;
            if self.is_done() {
                match trailers() {
                    Some(trailers) => self.stream.send_trailers(trailers),
                    None => self.stream.send_data(Bytes::new(), true),
                }
                .map_err(broken)?;
            }
            return Poll::Ready(Ok(1));
        };
        let data = bytes.len().min(usize::try_from(data).unwrap_or(usize::MAX));
        let data = data.min(ready!(self.poll_room(cx, data))?);
        self.framing.count(&bytes[..data]).map_err(malformed)?;
        self.stream.send_data(Bytes::copy_from_slice(&bytes[..data]), self.is_done()).map_err(broken)?;
        Poll::Ready(Ok(data))
    }

    /// Room for as much as `wanted`, at least one byte.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(wanted);
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err((self.broken)(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}

/// Sends as much of `bytes` as can be sent at once by `send`, which takes some from the front each time.
pub(crate) fn poll_send_parts(
    bytes: &[u8],
    mut send: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    let mut taken = 0;
    while taken < bytes.len() {
        match send(&bytes[taken..]) {
            Poll::Ready(sent) => taken += sent?,
            Poll::Pending if taken > 0 => break,
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(taken))
}

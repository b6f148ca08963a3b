//! A stream as a socket: the request that is written to it in HTTP/1.1 leaves as HEADERS and DATA, and what is read from
//! it is the response in HTTP/1.1.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Method, Response};
use tokio::io::ReadBuf;

use super::{
    OpenStream,
    error::{self, StreamError},
    head::{self, NotHttp2},
};
use crate::message::{Http2Body, forwardable_trailers, poll_send_parts};

/// A stream as a socket.
pub(crate) struct Http2Stream {
    request: RequestState,
    response: ResponseState,
    /// Head of the response, or framing before its data, to be read.
    text: Vec<u8>,
    /// Data that has come and is not read.
    data: Bytes,
    /// Framing behind the data, to be read.
    behind: &'static [u8],
    /// Trailers of the request, to be sent behind its body.
    request_trailers: Option<HeaderMap>,
    /// Trailers of the response, which have come.
    response_trailers: Option<HeaderMap>,
    is_encrypted: bool,
    is_head: bool,
    _open: OpenStream,
}

/// Progress of the request.
enum RequestState {
    Head(SendRequest<Bytes>),
    Body(Http2Body),
    /// All of it has been handed to `h2`, or no more of it will be.
    Done,
}

/// Progress of the response.
enum ResponseState {
    /// The request has not been sent.
    None,
    Head(ResponseFuture),
    /// The body is on its way; the second says whether in chunks.
    Body(RecvStream, bool),
    Done,
    Failed(Option<StreamError>),
}

impl Http2Stream {
    pub(super) fn new(send: SendRequest<Bytes>, open: OpenStream, is_encrypted: bool) -> Self {
        Self {
            request: RequestState::Head(send),
            response: ResponseState::None,
            text: Vec::new(),
            data: Bytes::new(),
            behind: b"",
            request_trailers: None,
            response_trailers: None,
            is_encrypted,
            is_head: false,
            _open: open,
        }
    }

    /// Sends the head of a request. That the connection does not take it shows when the response is read.
    ///
    /// # Errors
    ///
    /// It cannot be said in HTTP/2.
    pub(in crate::upstream) fn send_head(&mut self, head: &[u8]) -> Result<(), NotHttp2> {
        let (request, framing) = head::request(head, self.is_encrypted)?;
        let RequestState::Head(mut send) = std::mem::replace(&mut self.request, RequestState::Done) else {
            return Ok(());
        };
        self.is_head = request.method() == Method::HEAD;
        match send.send_request(request, framing.is_none()) {
            Ok((response, stream)) => {
                self.response = ResponseState::Head(response);
                self.request = framing.map_or(RequestState::Done, |framing| {
                    RequestState::Body(Http2Body::new(stream, framing, error::of))
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection takes no more streams");
                self.response = ResponseState::Failed(Some(StreamError::Unprocessed));
            }
        }
        Ok(())
    }

    /// Sets the trailers that follow the body of the request.
    pub(in crate::upstream) fn set_trailers(&mut self, trailers: HeaderMap) {
        self.request_trailers = forwardable_trailers(trailers);
    }

    /// Takes the trailers of the response.
    pub(in crate::upstream) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.response_trailers.take()
    }

    /// Takes of the body of the request as much as the server has room for.
    pub(in crate::upstream) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        poll_send_parts(bytes, |part| self.poll_send_some(cx, part))
    }

    fn poll_send_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let RequestState::Body(body) = &mut self.request else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let sent = ready!(body.poll_send(cx, bytes, || self.request_trailers.take()))?;
        if body.is_done() {
            self.request = RequestState::Done;
        }
        Poll::Ready(Ok(sent))
    }

    /// Reads of the response; nothing past its end.
    pub(in crate::upstream) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        loop {
            self.give(out);
            if out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match self.poll_next(cx) {
                Poll::Ready(Ok(true)) => {}
                // An error comes again with the next read.
                Poll::Pending | Poll::Ready(_) if out.filled().len() > before => return Poll::Ready(Ok(())),
                next => return next.map_ok(|_| ()),
            }
        }
    }

    /// Hands out what has come. What was passed on makes room for more.
    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let text = self.text.len().min(out.remaining());
        out.put_slice(&self.text[..text]);
        self.text.drain(..text);
        let data = self.data.len().min(out.remaining());
        out.put_slice(&self.data.split_to(data));
        if let ResponseState::Body(body, _) = &mut self.response
            && data > 0
        {
            // Fails only when the stream is gone.
            let _ = body.flow_control().release_capacity(data);
        }
        if self.data.is_empty() {
            let behind = self.behind.len().min(out.remaining());
            out.put_slice(&self.behind[..behind]);
            self.behind = &self.behind[behind..];
        }
    }

    /// Gets the next part of the response, once the last has been handed out; false at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let next = match &mut self.response {
            ResponseState::None => return Poll::Pending,
            ResponseState::Head(_) => ready!(self.poll_head(cx)),
            ResponseState::Body(..) => ready!(self.poll_body(cx)),
            ResponseState::Done => return Poll::Ready(Ok(false)),
            ResponseState::Failed(told) => {
                Err(told.map_or_else(|| io::ErrorKind::ConnectionReset.into(), Into::into))
            }
        };
        if let Err(error) = &next {
            self.response = ResponseState::Failed(StreamError::told_by(error));
        }
        Poll::Ready(next.map(|()| true))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ResponseState::Head(response) = &mut self.response else { return Poll::Ready(Ok(())) };
        if let Some(interim) = ready!(response.poll_informational(cx)) {
            let interim = interim.map_err(error::of)?;
            head::write(&mut self.text, &interim, self.is_head, false);
            return Poll::Ready(Ok(()));
        }
        let response: Response<RecvStream> =
            ready!(std::pin::Pin::new(response).poll(cx)).map_err(error::of)?;
        let has_ended = response.body().is_end_stream();
        let in_chunks = head::write(&mut self.text, &response, self.is_head, has_ended);
        self.response = match has_ended {
            true => ResponseState::Done,
            false => ResponseState::Body(response.into_body(), in_chunks),
        };
        Poll::Ready(Ok(()))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ResponseState::Body(body, in_chunks) = &mut self.response else { return Poll::Ready(Ok(())) };
        match ready!(body.poll_data(cx)) {
            Some(Ok(data)) if data.is_empty() => return Poll::Ready(Ok(())),
            Some(Ok(data)) => {
                if *in_chunks {
                    head::write_chunk(&mut self.text, data.len());
                    self.behind = b"\r\n";
                }
                self.data = data;
                return Poll::Ready(Ok(()));
            }
            // The response is whole, and the server wants no more of the request (RFC 9113 §8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) && error.is_reset() => {}
            Some(Err(error)) => return Poll::Ready(Err(error::of(error))),
            None => {}
        }
        match ready!(body.poll_trailers(cx)) {
            Ok(trailers) => self.response_trailers = trailers.and_then(forwardable_trailers),
            Err(error) if error.reason() == Some(Reason::NO_ERROR) && error.is_reset() => {}
            Err(error) => return Poll::Ready(Err(error::of(error))),
        }
        if *in_chunks {
            self.behind = b"0\r\n\r\n";
        }
        self.response = ResponseState::Done;
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for Http2Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stream of HTTP/2")
    }
}

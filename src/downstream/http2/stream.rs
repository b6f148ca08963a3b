//! A stream as a socket: what is read from it is the body of its request, and the response that is written to it leaves
//! as HEADERS and DATA.

use std::{
    io,
    mem::MaybeUninit,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use tokio::{io::ReadBuf, time::timeout};

use crate::{
    downstream::{
        connection::LINGER,
        http2::{ConnectionState, broken},
    },
    message::{BodyFraming, Http2Body, Request, poll_send_parts},
};

/// Most fields of a response: a server's may have 256, and some are added.
const MAX_FIELDS: usize = 512;

/// A stream as a socket.
pub(crate) struct Http2Stream {
    /// `None` once the body is not read any more.
    body: Option<RecvStream>,
    /// Data that has come and is not read.
    data: Bytes,
    is_read: bool,
    /// Trailers of the request.
    trailers: Option<Box<HeaderMap>>,
    response: ResponseState,
    /// Trailers of the response, to be sent behind its body.
    response_trailers: Option<Box<HeaderMap>>,
    is_head: bool,
    /// A request for a WebSocket: no body follows its response.
    is_tunnel: bool,
    shared: Arc<ConnectionState>,
}

/// Progress of the response.
enum ResponseState {
    /// The head is being written.
    Head(SendResponse<Bytes>, BytesMut),
    /// The body is on its way.
    Body(Http2Body),
    /// Complete: all of it has been handed to `h2`.
    Done(SendStream<Bytes>),
    /// There will be none, or no more of it.
    Broken,
}

impl Http2Stream {
    pub(crate) fn new(
        respond: SendResponse<Bytes>,
        body: RecvStream,
        request: &Request,
        shared: Arc<ConnectionState>,
    ) -> Self {
        Self {
            is_read: body.is_end_stream(),
            body: Some(body),
            data: Bytes::new(),
            trailers: None,
            response_trailers: None,
            response: ResponseState::Head(respond, BytesMut::new()),
            is_head: request.head.method == Method::HEAD,
            is_tunnel: request.head.headers.has(header::UPGRADE),
            shared,
        }
    }

    /// Reads of the body; past its end, an error when the client has given the stream up.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let taken = self.data.len().min(out.remaining());
            if taken > 0 || out.remaining() == 0 {
                out.put_slice(&self.data.split_to(taken));
                // What was passed on makes room for more. Fails only when the stream is gone.
                if let Some(body) = &mut self.body {
                    let _ = body.flow_control().release_capacity(taken);
                }
                self.shared.taken.fetch_add(taken as u64, Ordering::Relaxed);
                return Poll::Ready(Ok(()));
            }
            if self.is_read {
                return if self.is_tunnel { Poll::Ready(Ok(())) } else { self.poll_reset(cx).map(Err) };
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            match ready!(body.poll_data(cx)) {
                Some(Ok(data)) => self.data = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => {
                    let trailers = ready!(body.poll_trailers(cx)).map_err(broken)?;
                    self.trailers = trailers.map(Box::new);
                    self.is_read = true;
                }
            }
        }
    }

    /// Whether the client has ended the stream, and all of its data has been read.
    pub(crate) fn has_ended_body(&self) -> bool {
        self.is_read && self.data.is_empty()
    }

    /// Trailers of the request, once its body has been read.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
    }

    /// Sets the trailers that follow a response in chunks.
    pub(crate) fn set_trailers(&mut self, trailers: HeaderMap) {
        self.response_trailers = Some(Box::new(trailers));
    }

    /// Ready when the client has given the stream up.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let reset = match &mut self.response {
            ResponseState::Head(respond, _) => ready!(respond.poll_reset(cx)),
            ResponseState::Body(Http2Body { stream, .. }) | ResponseState::Done(stream) => {
                ready!(stream.poll_reset(cx))
            }
            ResponseState::Broken => Ok(Reason::INTERNAL_ERROR),
        };
        Poll::Ready(match reset {
            Ok(reason) => io::Error::new(io::ErrorKind::ConnectionReset, reason.description()),
            Err(error) => broken(error),
        })
    }

    pub(crate) fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_reset(cx).is_ready()
    }

    /// Takes of a response in HTTP/1.1 as much as the client has room for.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send_parts(bytes, |part| self.poll_send_some(cx, part))
    }

    fn poll_send_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.response {
            ResponseState::Head(_, head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                let end = memchr::memmem::find(&head[before.saturating_sub(3)..], b"\r\n\r\n");
                let Some(end) = end.map(|at| before.saturating_sub(3) + at + 4) else {
                    return Poll::Ready(Ok(bytes.len()));
                };
                head.truncate(end);
                let taken = end - before;
                self.send_head()?;
                Poll::Ready(Ok(taken))
            }
            ResponseState::Body(body) => {
                let sent =
                    ready!(body.poll_send(cx, bytes, || self.response_trailers.take().map(|all| *all)))?;
                if body.is_done() {
                    self.finish();
                }
                Poll::Ready(Ok(sent))
            }
            // More than the response is nobody's.
            ResponseState::Done(_) => Poll::Ready(Ok(bytes.len())),
            ResponseState::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Sends the head that has been written.
    fn send_head(&mut self) -> io::Result<()> {
        let ResponseState::Head(mut respond, head) =
            std::mem::replace(&mut self.response, ResponseState::Broken)
        else {
            return Ok(());
        };
        let (response, framing) = response(&head).ok_or_else(unreadable)?;
        let status = response.status();
        if status.is_informational() {
            if status == StatusCode::SWITCHING_PROTOCOLS {
                if !self.is_tunnel {
                    return Err(unreadable());
                }
                // In HTTP/2 it is a response like any other (RFC 8441 §5).
                let (mut parts, ()) = response.into_parts();
                parts.status = StatusCode::OK;
                parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                let stream = respond.send_response(Response::from_parts(parts, ()), false).map_err(broken)?;
                self.response = ResponseState::Body(Http2Body::new(stream, BodyFraming::UntilClose, broken));
                return Ok(());
            }
            // A client that cannot be told does without.
            let _ = respond.send_informational(response);
            self.response = ResponseState::Head(respond, BytesMut::new());
            return Ok(());
        }
        let has_none = self.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let left = match framing {
            _ if has_none => None,
            Some(BodyFraming::Length(0)) => None,
            framing => Some(framing.ok_or_else(unreadable)?),
        };
        let stream = respond.send_response(response, left.is_none()).map_err(broken)?;
        self.response = match left {
            Some(left) => ResponseState::Body(Http2Body::new(stream, left, broken)),
            None => ResponseState::Done(stream),
        };
        Ok(())
    }

    /// The client takes nothing of its response, or too little.
    pub(crate) fn give_up(&self) {
        self.shared.gave_up.store(true, Ordering::Relaxed);
    }

    fn finish(&mut self) {
        if let ResponseState::Body(body) = std::mem::replace(&mut self.response, ResponseState::Broken) {
            self.response = ResponseState::Done(body.stream);
        }
    }
}

/// Reads the head of a response; what of its body is to come, if the head says so.
fn response(head: &[u8]) -> Option<(Response<()>, Option<BodyFraming>)> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let read = config.parse_response_with_uninit_headers(&mut parsed, head, &mut fields).ok()?;
    if read.is_partial() {
        return None;
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(parsed.code?).ok()?;
    let mut left = None;
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        match name {
            header::CONNECTION | header::UPGRADE => continue,
            header::TRANSFER_ENCODING => {
                left = Some(BodyFraming::chunked());
                continue;
            }
            header::CONTENT_LENGTH => {
                left = Some(BodyFraming::Length(std::str::from_utf8(field.value).ok()?.parse().ok()?));
            }
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => continue,
            _ => {}
        }
        response.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some((response, left))
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the response cannot be said in HTTP/2")
}

impl Drop for Http2Stream {
    /// A response that is not whole must not look like one.
    fn drop(&mut self) {
        match &mut self.response {
            ResponseState::Head(respond, _) => respond.send_reset(Reason::INTERNAL_ERROR),
            ResponseState::Body(body) if body.ends_with_stream() => {
                // Fails when the client has ended it.
                let _ = body.stream.send_data(Bytes::new(), true);
            }
            ResponseState::Body(body) => body.stream.send_reset(Reason::INTERNAL_ERROR),
            ResponseState::Done(_) if !self.is_read => self.linger(),
            ResponseState::Done(_) | ResponseState::Broken => {}
        }
    }
}

impl Http2Stream {
    /// Reads what a client still sends after its response: some give the response up when they may not send it all.
    fn linger(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let unread = self.data.len();
        runtime.spawn(timeout(LINGER, async move {
            let mut came = unread;
            loop {
                // Fails only when the stream is gone.
                let _ = body.flow_control().release_capacity(came);
                match body.data().await {
                    Some(Ok(data)) => came = data.len(),
                    Some(Err(_)) | None => return,
                }
            }
        }));
    }
}

impl std::fmt::Debug for Http2Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stream")
    }
}
